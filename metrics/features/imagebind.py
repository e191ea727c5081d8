"""The video and audio towers of ImageBind (Girdhar et al., CVPR 2023, arXiv 2305.05665): pieces of a clip -> unit vectors of one space.

Read from the authors' file imagebind_huge.pth; its other modalities (text, depth, thermal, IMU) and the audio tower's fixed factor of 20,
which no cosine sees, are left out. PyPI's imagebind-unofficial is not used: importing it imports pytorchvideo, which current torchvision
breaks. B clips, S pieces of a clip, L tokens, D width.

What it looks at and listens to is made as in the authors' data.py, for whole batches on any device: spans of 2 s are spread evenly over a
clip, the first at its start, the last at its end: five of video, three of sound.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from avbench import weights
from avbench.artifact import fill
from avbench.nn.filter_bank import filter_bank
from avbench.weights.load import tensors

SAMPLE_RATE = 16_000  # Hz
SPAN_S = 2
VIDEO_SPANS, AUDIO_SPANS = 5, 3
RESOLUTION = 224
BANDS, FRAMES = 128, 204  # of a filter bank
LOG_MEAN, LOG_STD = -4.268, 9.138
RGB_MEAN, RGB_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MIN_SAMPLES = 400  # 25 ms at 16 kHz, one frame of a filter bank


def video_pieces(video: Tensor, fps: float) -> Tensor:
    """(B, S, 3, 2, 224, 224), normalised, of clips (B, T, 3, H, W) in [0, 1]: S = 5 spans x 3 crops, or 5 where the picture is square.

    Short side to 224, bilinear without antialiasing. The three crops of a square picture are one and the same.
    """
    frames = torch.tensor(span_frames(video.shape[1], fps), device=video.device)
    picked = video[:, frames.flatten()]  # (B, 2 x spans, 3, H, W)
    pictures = F.interpolate(picked.flatten(0, 1), scaled(*video.shape[-2:]), mode="bilinear", align_corners=False)
    pictures = (pictures - _channels(RGB_MEAN, video)) / _channels(RGB_STD, video)
    pairs = pictures.unflatten(0, (len(video), VIDEO_SPANS, 2)).transpose(2, 3)  # (B, spans, 3, 2, h, w)
    return torch.stack(crops(pairs), dim=2).flatten(1, 2)


def span_frames(num_frames: int, fps: float) -> list[tuple[int, int]]:
    """First and last frame of each span [start, start + 2 s): of 16 frames in 4.096 s (0, 7), (3, 9), (5, 11), (7, 13), (9, 15)."""
    length = SPAN_S * fps  # in frames
    room = max(num_frames - length, 0) / (VIDEO_SPANS - 1)
    starts = [room * number for number in range(VIDEO_SPANS)]
    # Rounded before ceil: 2.0000000001 is frame 2.
    bounds = [(math.ceil(round(s, 6)), min(math.ceil(round(s + length, 6)), num_frames)) for s in starts]
    return [(first, max(first, end - 1)) for first, end in bounds]


def scaled(height: int, width: int) -> tuple[int, int]:
    """Size with a short side of 224, the long side rounded down."""
    if width < height:
        return math.floor(height / width * RESOLUTION), RESOLUTION
    return RESOLUTION, math.floor(width / height * RESOLUTION)


def crops(pictures: Tensor) -> list[Tensor]:
    """Squares of 224 at both ends and in the middle of the long side of (..., h, w); a single one where there is no long side."""
    height, width = pictures.shape[-2:]
    dim, room = (-2, height - RESOLUTION) if height > width else (-1, width - RESOLUTION)
    starts = (0, math.ceil(room / 2), room) if room else (0,)
    return [pictures.narrow(dim, start, RESOLUTION) for start in starts]


def audio_pieces(audio: Tensor, sample_rate: int) -> Tensor:
    """Normalised filter banks (B, 3, 1, 128, 204) of sound (B, C, N) in [-1, 1]; frames that a span lacks are 0 before normalisation.

    Raises ValueError where there are less than 25 ms.
    """
    mono = torchaudio.functional.resample(audio.mean(1), sample_rate, SAMPLE_RATE)
    if mono.shape[-1] < MIN_SAMPLES:
        raise ValueError(f"ImageBind needs 25 ms of audio, this has {audio.shape[-1]} samples at {sample_rate} Hz")
    length = min(SPAN_S * SAMPLE_RATE, mono.shape[-1])
    spans = torch.stack([mono[:, start : start + length] for start in span_starts(mono.shape[-1])], dim=1)
    banks = filter_bank(spans.flatten(0, 1), BANDS)  # (B x 3, frames, 128)
    padded = F.pad(banks, (0, 0, 0, FRAMES - banks.shape[1]))
    return ((padded - LOG_MEAN) / LOG_STD).transpose(1, 2).unflatten(0, (len(audio), AUDIO_SPANS))[:, :, None]


def span_starts(num_samples: int) -> list[int]:
    """First samples of the spans at 16 kHz: 0, 16,768 and 33,536 of 65,536."""
    room = max(num_samples - SPAN_S * SAMPLE_RATE, 0)
    return [room * number // (AUDIO_SPANS - 1) for number in range(AUDIO_SPANS)]


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device).view(-1, 1, 1)


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
    return _embed(model, video_pieces(video.float(), fps), "vision")


def embed_audio(model: ImageBind, audio: Tensor, sample_rate: int) -> Tensor:
    """(B, 1024) of sound (B, C, N) in [-1, 1]: channels averaged, 16 kHz, three spans of 2 s."""
    return _embed(model, audio_pieces(audio.float(), sample_rate), "audio")


def _embed(model: ImageBind, pieces: Tensor, modality: Modality) -> Tensor:
    # TF32 would make the numbers depend on the machine.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        return model(pieces, modality)  # type: ignore[no-any-return]
