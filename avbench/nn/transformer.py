"""Transformer parts that AVTok, LARP, their losses and the generators share. B clips, L positions, H heads, K head width, D width.

A `Block` holds attention and MLP only. Its LayerNorms are handed in, because AVTok's two streams use the same block with norms of
their own; a single-stream model (LARP) keeps `norm1` and `norm2` beside `attn` and `mlp` and calls `residual_block`.
Everything computes in the dtype of its input, weights cast on the fly: 8 M weights cost 4 ms to cast, activations cost ten times that
(autocast copies them; a bf16 residual stream does not).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-6
PARTS = 3  # of a causal sequence: each part multiplies with the keys up to its end only


class Linear(nn.Linear):
    """nn.Linear that follows its input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm (eps 1e-6, as LARP) that follows its input's dtype."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm that follows its input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def attend(q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, *, causal: bool = False) -> Tensor:
    """Softmax attention. On a CPU in bf16, plain batched products: forward and backward 35 ms against 77 of SDPA at L = 512, 6 against 21
    at L = 184 (batch 8, 4 heads of 64, one Zen 5 core)."""
    if q_BHLK.device.type != "cpu" or q_BHLK.dtype != torch.bfloat16 or causal:
        return F.scaled_dot_product_attention(q_BHLK, k_BHLK, v_BHLK, is_causal=causal)
    scores = (q_BHLK * q_BHLK.shape[-1] ** -0.5) @ k_BHLK.transpose(-1, -2)
    return scores.softmax(-1) @ v_BHLK


def causal_attention(q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor) -> Tensor:
    """Softmax attention in which a position sees itself and what is before it.

    On a CPU in bf16, plain batched products: forward and backward 16 ms against 33 of SDPA at L = 376 (batch 4, 4 heads of 64, one Zen 5
    core shared with other work; in one part 19 to 24, in 6 parts 18).
    """
    if q_BHLK.device.type != "cpu" or q_BHLK.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q_BHLK, k_BHLK, v_BHLK, is_causal=True)
    q, k, v = (x_BHLK.flatten(0, 1) for x_BHLK in (q_BHLK, k_BHLK, v_BHLK))
    length = q.shape[1]
    step = -(-length // PARTS)
    hidden = torch.full((length, length), float("-inf"), dtype=q.dtype).triu(1)
    mixed = []
    for first in range(0, length, step):
        part, seen = slice(first, first + step), slice(0, first + step)
        scores = torch.baddbmm(hidden[part, seen], q[:, part], k[:, seen].transpose(1, 2), alpha=q.shape[-1] ** -0.5)
        mixed.append(scores.softmax(-1).bmm(v[:, seen]))
    return torch.cat(mixed, dim=1).view(q_BHLK.shape)


class Attention(nn.Module):
    """Multi-head self-attention, no bias in qkv."""

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = Linear(width, 3 * width, bias=False)
        self.proj = Linear(width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        q, k, v = self.qkv(x_BLD).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v, causal=self.causal).transpose(1, 2).reshape(B, L, D))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = Linear(width, ratio * width)
        self.fc2 = Linear(ratio * width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_BLD)))  # type: ignore[no-any-return]


class BlockNorms(nn.Module):
    """The two LayerNorms of one pre-LN block, for one stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.norm2 = LayerNorm(width)


class Block(nn.Module):
    """Attention and MLP of one pre-LN block; the norms come with the call."""

    def __init__(self, width: int, heads: int, ratio: int = 4, *, causal: bool = False) -> None:
        super().__init__()
        self.attn = Attention(width, heads, causal=causal)
        self.mlp = Mlp(width, ratio)

    def forward(self, x_BLD: Tensor, norms: BlockNorms) -> Tensor:
        return residual_block(x_BLD, norms.norm1, self.attn, norms.norm2, self.mlp)


class NormedBlock(Block):
    """A block with norms of its own: `norm1, attn, norm2, mlp` as in timm and LARP."""

    def __init__(self, width: int, heads: int, ratio: int = 4, *, causal: bool = False) -> None:
        super().__init__(width, heads, ratio, causal=causal)
        self.norm1 = LayerNorm(width)
        self.norm2 = LayerNorm(width)

    def forward(self, x_BLD: Tensor, norms: BlockNorms | None = None) -> Tensor:
        assert norms is None
        return residual_block(x_BLD, self.norm1, self.attn, self.norm2, self.mlp)


def residual_block(x_BLD: Tensor, norm1: nn.Module, attn: nn.Module, norm2: nn.Module, mlp: nn.Module) -> Tensor:
    """Pre-LN: x + attn(norm1(x)), then x + mlp(norm2(x))."""
    x_BLD = x_BLD + attn(norm1(x_BLD))
    return x_BLD + mlp(norm2(x_BLD))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A stack of shared blocks."""

    def __init__(self, width: int, heads: int, layers: int, ratio: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, ratio) for _ in range(layers))

    def stack(self) -> list[Block]:
        """The blocks, typed."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(self, x_BLD: Tensor, norms: Sequence[nn.Module] | nn.ModuleList) -> Tensor:
        for block, norm in zip(self.blocks, norms, strict=True):
            x_BLD = block(x_BLD, norm)
        return x_BLD


def xavier_linears(module: nn.Module) -> None:
    """LARP's initialisation of every linear layer: Xavier-uniform weights, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
