"""Synchformer's video encoder: a MotionFormer (Patrick et al. 2021, arXiv 2106.05392) whose attention is divided into time and space.

S segments, T = 8 steps of two frames, P patches of a picture, L = 1 + T P tokens, D width, H heads, K width of a head.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.metrics.features.synchformer_parts import Summary, SynchformerConfig

FRAMES = 16  # of a segment
STEPS = 8
RESOLUTION = 224  # pixels
NORM_EPS = 1e-6


class MotionFormer(nn.Module):
    """Segments (S, 16, 3, 224, 224) in [-1, 1] -> a token for each step (S, 8, D). Names of parameters are the published file's."""

    def __init__(self, config: SynchformerConfig) -> None:
        super().__init__()
        width, patches = config.width, (RESOLUTION // config.patch) ** 2
        cube = (FRAMES // STEPS, config.patch, config.patch)
        self.patch_embed_3d = nn.ModuleDict({"proj": nn.Conv3d(3, width, cube, cube)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, STEPS, width))
        self.blocks = nn.ModuleList(_Block(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width, NORM_EPS)
        self.spatial_attn_agg = Summary(width, config.heads)

    def forward(self, segments: Tensor) -> Tensor:
        x_SLD = self._embed(segments)
        for block in self.blocks:
            x_SLD = block(x_SLD)
        steps_STPD = self.norm(x_SLD[:, 1:]).unflatten(1, (STEPS, -1))
        return self.spatial_attn_agg(steps_STPD.flatten(0, 1)).unflatten(0, (-1, STEPS))  # type: ignore[no-any-return]

    def _embed(self, segments: Tensor) -> Tensor:
        """CLS token, then patches step by step and row by row, all with their places."""
        patches = self.patch_embed_3d["proj"](segments.transpose(1, 2)).flatten(2).transpose(1, 2)
        places = (self.temp_embed[:, :, None] + self.pos_embed[:, None, 1:]).flatten(1, 2)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(patches), -1, -1)
        return torch.cat([first, patches + places], dim=1)


class _Block(nn.Module):
    """Pre-LN: attention over time, over space, MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, NORM_EPS) for _ in range(3))
        self.attn, self.timeattn = _DividedAttention(width, heads, "space"), _DividedAttention(width, heads, "time")
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x_SLD: Tensor) -> Tensor:
        x_SLD = x_SLD + self.timeattn(self.norm3(x_SLD))
        x_SLD = x_SLD + self.attn(self.norm1(x_SLD))
        return x_SLD + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x_SLD))))  # type: ignore[no-any-return]


class _DividedAttention(nn.Module):
    """The CLS token attends to all tokens; a patch to the CLS token and its own place at all steps ("time") or its own step ("space")."""

    def __init__(self, width: int, heads: int, along: Literal["time", "space"]) -> None:
        super().__init__()
        self.heads, self.along = heads, along
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_SLD: Tensor) -> Tensor:
        q, k, v = self.qkv(x_SLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (S, H, L, K) each
        first = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        # S and H as one dimension: SDPA's fast kernels take four.
        queries, keys, values = (x.flatten(0, 1) for x in (self._grouped(q), self._with_first(k), self._with_first(v)))
        rest = F.scaled_dot_product_attention(queries, keys, values).unflatten(0, (-1, self.heads))
        rest = (rest.transpose(2, 3) if self.along == "time" else rest).flatten(2, 3)
        return self.proj(torch.cat([first, rest], dim=2).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _grouped(self, x_SHLK: Tensor) -> Tensor:
        """Patches as (S, H, P, T, K) along time, (S, H, T, P, K) along space."""
        steps = x_SHLK[:, :, 1:].unflatten(2, (STEPS, -1))
        return steps.transpose(2, 3) if self.along == "time" else steps

    def _with_first(self, x_SHLK: Tensor) -> Tensor:
        """The same, each group led by the CLS token."""
        groups = self._grouped(x_SHLK)
        first = x_SHLK[:, :, None, :1].expand(-1, -1, groups.shape[2], -1, -1)
        return torch.cat([first, groups], dim=3)
