"""What Synchformer's encoders and head share. B sequences, H heads, L tokens, D width, K width of a head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class SynchformerConfig:
    """Sizes; the defaults are the published file's (24-01-04T16-39-21)."""

    width: int = 768
    layers: int = 12  # of each encoder
    heads: int = 12
    head_layers: int = 3  # of the transformer over both streams
    head_heads: int = 8
    patch: int = 16  # pixels a side of a picture's patch


def attend(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
    """Softmax attention of projected tokens: (B, L, D)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q_BLD, k_BLD, v_BLD))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Summary(nn.TransformerEncoderLayer):
    """One pre-LN layer over a sequence and a token of its own; what becomes of that token is the output: (B, L, D) -> (B, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, 4 * width, 0.0, nn.GELU(), layer_norm_eps=1e-6, batch_first=True, norm_first=True)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x_BLD: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([self.cls_token.expand(len(x_BLD), -1, -1), x_BLD], dim=1))[:, 0]
