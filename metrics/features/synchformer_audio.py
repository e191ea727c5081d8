"""Synchformer's audio encoder: the Audio Spectrogram Transformer (Gong et al. 2021, arXiv 2104.01778) on segments of 0.64 s.

S segments, L = 2 + 12 x 6 tokens, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.metrics.features.synchformer_parts import Summary, SynchformerConfig, attend

BANDS, FRAMES = 128, 66  # of a log-mel picture
PATCH, STRIDE = 16, 10
ROWS, STEPS = (BANDS - PATCH) // STRIDE + 1, (FRAMES - PATCH) // STRIDE + 1  # 12, 6
NORM_EPS = 1e-12


class Ast(nn.Module):
    """Normalised log-mel pictures (S, 128, 66) -> a token for each 0.1 s (S, 6, D). Names of parameters are the published file's."""

    def __init__(self, config: SynchformerConfig) -> None:
        super().__init__()
        layers = nn.ModuleList(_Layer(config.width, config.heads) for _ in range(config.layers))
        self.ast = nn.ModuleDict(
            {
                "embeddings": _Embeddings(config.width),
                "encoder": nn.ModuleDict({"layer": layers}),
                "layernorm": nn.LayerNorm(config.width, NORM_EPS),
            }
        )
        self.freq_attn_agg = Summary(config.width, config.heads)

    def forward(self, mel_SMF: Tensor) -> Tensor:
        x_SLD = self.ast["embeddings"](mel_SMF)
        for layer in self.ast.get_submodule("encoder.layer").children():
            x_SLD = layer(x_SLD)
        patches = self.ast["layernorm"](x_SLD[:, 2:]).unflatten(1, (ROWS, STEPS))
        steps = patches.transpose(1, 2).flatten(0, 1)
        return self.freq_attn_agg(steps).unflatten(0, (-1, STEPS))  # type: ignore[no-any-return]


class _Embeddings(nn.Module):
    """CLS and distillation token, then overlapping patches row by row from the lowest band, all with their places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cls_token, self.distillation_token = (nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(1, width, PATCH, STRIDE)})
        self.position_embeddings = nn.Parameter(torch.zeros(1, 2 + ROWS * STEPS, width))

    def forward(self, mel_SMF: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](mel_SMF[:, None]).flatten(2).transpose(1, 2)
        first = [token.expand(len(patches), -1, -1) for token in (self.cls_token, self.distillation_token)]
        return torch.cat([*first, patches], dim=1) + self.position_embeddings


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(width, NORM_EPS), nn.LayerNorm(width, NORM_EPS)
        projections = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"attention": projections, "output": nn.ModuleDict({"dense": nn.Linear(width, width)})})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output = nn.ModuleDict({"dense": nn.Linear(4 * width, width)})

    def forward(self, x_SLD: Tensor) -> Tensor:
        normed = self.layernorm_before(x_SLD)
        q, k, v = (self.attention.get_submodule(f"attention.{name}")(normed) for name in ("query", "key", "value"))
        x_SLD = x_SLD + self.attention.get_submodule("output.dense")(attend(q, k, v, self.heads))
        return x_SLD + self.output["dense"](F.gelu(self.intermediate["dense"](self.layernorm_after(x_SLD))))  # type: ignore[no-any-return]
