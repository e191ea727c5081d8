"""The video and audio towers of ImageBind (Girdhar et al., CVPR 2023, arXiv 2305.05665): pieces of a clip -> unit vectors of one space.

Read from the authors' file imagebind_huge.pth; its other modalities (text, depth, thermal, IMU) and the audio tower's fixed factor of 20,
which no cosine sees, are left out. PyPI's imagebind-unofficial is not used: importing it imports pytorchvideo, which current torchvision
breaks. Inputs are made in `imagebind_inputs`. B clips, S pieces of a clip, L tokens, D width.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench import weights
from avbench.artifact import fill
from avbench.metrics.features import imagebind_inputs as inputs
from avbench.weights.load import tensors

WEIGHTS = "imagebind"
NORM_EPS = 1e-6
PIECES_PER_CHUNK = {"cpu": 5, "cuda": 80}  # that pass a tower together; bounds the memory
NOT_USED = re.compile(r"modality_\w+\.(text|depth|thermal|imu)\.|modality_postprocessors\.audio\.")
RENAMED = {
    "modality_preprocessors": {
        "cls_token": "cls_token",
        "pos_embedding_helper.pos_embed": "pos_embed",
        "rgbt_stem.proj.1.": "stem.",  # video
        "rgbt_stem.proj.": "stem.",  # audio
        "rgbt_stem.norm_layer.": "stem_norm.",
    },
    "modality_trunks": {"pre_transformer_layer.0.": "pre_norm.", "blocks.": "blocks."},
    "modality_heads": {"0.": "norm.", "2.": "head."},
}

Modality = Literal["vision", "audio"]


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """Sizes of a tower; `tokens` counts patches, without the CLS token."""

    width: int
    layers: int
    heads: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class ImageBindConfig:
    """The defaults are the published file's, imagebind_huge. Patches are what the inputs are cut into: not to be chosen."""

    vision: TowerConfig = TowerConfig(width=1280, layers=32, heads=16, tokens=16 * 16)  # 224 / 14 squared, two frames a patch
    audio: TowerConfig = TowerConfig(width=768, layers=12, heads=12, tokens=12 * 19)  # 16x16 of 128 bands x 204 frames, every 10
    dim: int = 1024


class ImageBind(nn.Module):
    """Both towers. Names of parameters: those of the file, shortened by `RENAMED`."""

    def __init__(self, config: ImageBindConfig | None = None) -> None:
        super().__init__()
        c = config or ImageBindConfig()
        self.vision = _Tower(c.vision, nn.Conv3d(3, c.vision.width, (2, 14, 14), (2, 14, 14), bias=False), c.dim, bias_kv=False)
        self.vision.pre_norm = nn.LayerNorm(c.vision.width, NORM_EPS)
        self.audio = _Tower(c.audio, nn.Conv2d(1, c.audio.width, 16, 10, bias=False), c.dim, bias_kv=True)
        self.audio.stem_norm = nn.LayerNorm(c.audio.width)  # torch's eps, unlike all other norms

    def forward(self, pieces_BS: Tensor, modality: Modality) -> Tensor:
        """Mean over each clip's pieces of unit vectors (B, 1024), for video (B, S, 3, 2, 224, 224) or sound (B, S, 1, 128, 204)."""
        tower = self.vision if modality == "vision" else self.audio
        chunks = pieces_BS.flatten(0, 1).split(PIECES_PER_CHUNK.get(pieces_BS.device.type, 5))
        vectors = torch.cat([F.normalize(tower(chunk), dim=-1) for chunk in chunks])
        return vectors.unflatten(0, pieces_BS.shape[:2]).mean(1)


class _Tower(nn.Module):
    """Patches and a CLS token through pre-LN blocks; the CLS token, normalised and projected, is the output."""

    def __init__(self, config: TowerConfig, stem: nn.Module, dim: int, *, bias_kv: bool) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.tokens, config.width))
        self.stem = stem
        self.stem_norm: nn.Module = nn.Identity()
        self.pre_norm: nn.Module = nn.Identity()
        self.blocks = nn.ModuleList(_Block(config.width, config.heads, bias_kv=bias_kv) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, NORM_EPS)
        self.head = nn.Linear(config.width, dim, bias=False)

    def forward(self, pieces: Tensor) -> Tensor:
        x_BLD = self.stem_norm(self.stem(pieces).flatten(2).transpose(1, 2))
        x_BLD = torch.cat([self.cls_token.expand(len(x_BLD), -1, -1), x_BLD], dim=1)
        x_BLD = self.pre_norm(x_BLD + self.pos_embed)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return self.head(self.norm(x_BLD[:, 0]))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, *, bias_kv: bool) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, NORM_EPS)
        self.attn = nn.MultiheadAttention(width, heads, add_bias_kv=bias_kv, batch_first=True)
        self.norm_2 = nn.LayerNorm(width, NORM_EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x_BLD: Tensor) -> Tensor:
        h_BLD = self.norm_1(x_BLD)
        x_BLD = x_BLD + self.attn(h_BLD, h_BLD, h_BLD, need_weights=False)[0]
        return x_BLD + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm_2(x_BLD))))  # type: ignore[no-any-return]


def load(path: Path, config: ImageBindConfig | None = None) -> ImageBind:
    """Both towers of a published file (a state dict), frozen, float32, on the CPU. Raises AvbenchError where it does not fit."""
    content = tensors(weights.load_torch(path), path)
    with torch.device("meta"):
        model = ImageBind(config)
    fill(model, {_renamed(key): value for key, value in content.items() if not NOT_USED.match(key)}, path, "ImageBind")
    return model.eval().requires_grad_(False)


def _renamed(key: str) -> str:
    """`modality_heads.audio.2.weight` -> `audio.head.weight`; a name of another form stays, and is refused as unknown."""
    group, _, rest = key.partition(".")
    modality, _, rest = rest.partition(".")
    for start, ours in RENAMED.get(group, {}).items():
        if rest.startswith(start):
            return f"{modality}.{ours}{rest.removeprefix(start)}"
    return key


def embed_video(model: ImageBind, video: Tensor, fps: float) -> Tensor:
    """(B, 1024) of clips (B, T, 3, H, W) in [0, 1]: five spans of 2 s, first and last frame of each, left, centre and right crop."""
    return _embed(model, inputs.video_pieces(video.float(), fps), "vision")


def embed_audio(model: ImageBind, audio: Tensor, sample_rate: int) -> Tensor:
    """(B, 1024) of sound (B, C, N) in [-1, 1]: channels averaged, 16 kHz, three spans of 2 s."""
    return _embed(model, inputs.audio_pieces(audio.float(), sample_rate), "audio")


def _embed(model: ImageBind, pieces: Tensor, modality: Modality) -> Tensor:
    # TF32 would make the numbers depend on the machine.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        return model(pieces, modality)  # type: ignore[no-any-return]
