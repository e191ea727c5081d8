"""The encoder of CAV-MAE Sync (Araujo et al., CVPR 2025, arXiv 2505.01237): patches of a picture, or of a filter-bank picture of 4 s of
sound, to one token each.

What runs here is the official feature extractor's pass for one stream (`forward_feat` of its repository): CLS token, patches and register
tokens through that stream's eleven blocks, registers off, through the joint block with that stream's own norms, and that stream's final
norm. No stream sees the other. The published file also holds a decoder, the norms of the audio-visual pass and
contrastive heads (which the official evaluation does not build): those keys are dropped, all others must fit.
Shapes: B pictures, L tokens, D width, K head width.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from avbench.artifact import fill
from avbench.nn.transformer import Mlp, attend
from avbench.weights.load import load_torch, tensors

Suffix = Literal["a", "v"]
NOT_USED = re.compile(
    r"decoder_|mask_token$|constrative_head_|norm\.|blocks_[av]\.\d+\.norm[12]_[av]\.|blocks_u\.\d+\.norm[12]\."  # [sic]
)


@dataclass(frozen=True, kw_only=True)
class CavMaeConfig:
    """Sizes; the defaults are the published file's."""

    width: int = 768
    heads: int = 12
    own_layers: int = 11
    joint_layers: int = 1
    patch: int = 16
    resolution: int = 224  # pixels
    bands: int = 128
    frames: int = 416  # filter-bank frames of 10 ms
    registers: int = 8  # a stream

    @property
    def picture_grid(self) -> tuple[int, int]:
        """Patches along (height, width) of a picture: 14 x 14."""
        return self.resolution // self.patch, self.resolution // self.patch

    @property
    def sound_grid(self) -> tuple[int, int]:
        """Patches along (frequency, time): 8 x 26."""
        return self.bands // self.patch, self.frames // self.patch


class CavMaeSync(nn.Module):
    """Pictures (B, 3, 224, 224), ImageNet-normalised, or filter banks (B, 1, 128, 416), normalised -> patch tokens (B, L, 768).

    Names of parameters are the published file's. Computes in the dtype of its weights.
    """

    def __init__(self, config: CavMaeConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or CavMaeConfig()
        self.patch_embed_a, self.patch_embed_v = _PatchEmbedding(1, c), _PatchEmbedding(3, c)
        self.modality_a, self.modality_v = _parameter(1, 1, c.width), _parameter(1, 1, c.width)
        self.pos_embed_a = _parameter(1, c.sound_grid[0] * c.sound_grid[1], c.width)
        self.pos_embed_v = _parameter(1, c.picture_grid[0] * c.picture_grid[1], c.width)
        self.cls_token_a, self.cls_token_v = _parameter(1, 1, c.width), _parameter(1, 1, c.width)
        self.register_tokens = _parameter(2 * c.registers, c.width)  # audio's, then video's
        self.blocks_a = nn.ModuleList(_Block(c, ("",)) for _ in range(c.own_layers))
        self.blocks_v = nn.ModuleList(_Block(c, ("",)) for _ in range(c.own_layers))
        self.blocks_u = nn.ModuleList(_Block(c, ("_a", "_v")) for _ in range(c.joint_layers))
        self.norm_a, self.norm_v = nn.LayerNorm(c.width), nn.LayerNorm(c.width)

    def forward(self, x_BCHW: Tensor, suffix: Suffix) -> Tensor:
        """suffix: "a" for filter banks, "v" for pictures."""
        x = self._embed(x_BCHW, suffix)
        for block in self.get_submodule(f"blocks_{suffix}").children():
            x = block(x)
        x = x[:, : x.shape[1] - self.config.registers]
        for block in self.blocks_u:
            x = block(x, f"_{suffix}")
        return self.get_submodule(f"norm_{suffix}")(x[:, 1:])  # type: ignore[no-any-return]

    def _embed(self, x_BCHW: Tensor, suffix: Suffix) -> Tensor:
        """[CLS, patches, registers]."""
        named = self.get_parameter
        patches = self.get_submodule(f"patch_embed_{suffix}")(x_BCHW) + named(f"pos_embed_{suffix}") + named(f"modality_{suffix}")
        audio, video = self.register_tokens.split(self.config.registers)
        registers = audio if suffix == "a" else video
        rows = len(patches)
        return torch.cat([named(f"cls_token_{suffix}").expand(rows, -1, -1), patches, registers.expand(rows, -1, -1)], dim=1)


class _PatchEmbedding(nn.Module):
    def __init__(self, channels: int, config: CavMaeConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, config.width, config.patch, config.patch)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.proj(x_BCHW).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        q_BHLK, k_BHLK, v_BHLK = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q_BHLK, k_BHLK, v_BHLK).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Pre-LN; suffixes: of the pairs of norms that it is called with ("norm1_a", "norm2_a")."""

    def __init__(self, config: CavMaeConfig, suffixes: tuple[str, ...]) -> None:
        super().__init__()
        for suffix in suffixes:  # eps 1e-5: torch's default, not timm's 1e-6
            self.add_module(f"norm1{suffix}", nn.LayerNorm(config.width))
            self.add_module(f"norm2{suffix}", nn.LayerNorm(config.width))
        self.attn = _Attention(config.width, config.heads)
        self.mlp = Mlp(config.width)

    def forward(self, x_BLD: Tensor, suffix: str = "") -> Tensor:
        x_BLD = x_BLD + self.attn(self.get_submodule(f"norm1{suffix}")(x_BLD))
        return x_BLD + self.mlp(self.get_submodule(f"norm2{suffix}")(x_BLD))  # type: ignore[no-any-return]


def load(path: Path, sha256: str | None = None, config: CavMaeConfig | None = None) -> CavMaeSync:
    """The encoder of a published file (a state dict, keys under "module."), frozen, float32. Raises AvbenchError where it does not fit."""
    content = tensors(load_torch(path, sha256), path)
    with torch.device("meta"):
        model = CavMaeSync(config)
    fill(model, {key: value for key, value in content.items() if not NOT_USED.match(key)}, path, "a CAV-MAE Sync encoder")
    return model.eval().requires_grad_(False)


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))
