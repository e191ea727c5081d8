"""A Llama-style decoder over token ids. B clips, L positions, D width, H heads, K head width, V codes, S slots.

Everything computes in the dtype of the embedded tokens (`compute_dtype`); weights are cast on the fly, as in AVTok's blocks.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nn.transformer import Linear, RMSNorm, causal_attention


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of the decoder. What the vocabulary and the sequence add is up to the tokenizer (`tasks.Layout`).

    positions "learned": a vector for each position of the sequence, as published (a holistic token means something by its number).
    "rope": rotary, in halves as in Llama. dropout: on embedded tokens and on both residual branches.
    """

    name: str
    width: int
    layers: int
    heads: int
    hidden: int  # of the SwiGLU
    positions: Literal["learned", "rope"] = "learned"
    dropout: float = 0.1
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        assert self.width % (2 * self.heads) == 0


def mini() -> GeneratorConfig:
    """4.8 M in the blocks, 6.9 M with a vocabulary of 4096: trains on CPU cores."""
    return GeneratorConfig(name="ar-mini", width=256, layers=6, heads=4, hidden=704)


def small() -> GeneratorConfig:
    """39 M in the blocks: trains on one GPU."""
    return GeneratorConfig(name="ar-small", width=512, layers=12, heads=8, hidden=1408)


def base() -> GeneratorConfig:
    """The published generator (LARP's llama-abs, as AVTok's): 632.0 M with 8192 codes and 1153 positions."""
    return GeneratorConfig(name="ar-base", width=1280, layers=30, heads=20, hidden=3584)


INIT_STD = 0.02


class Cache:
    """Keys and values of the positions seen so far, allocated once: (layers, B, H, positions, K) each.

    `fixed`: attention always runs over all positions, those beyond `position` masked, so that every step has the same shapes and
    addresses (CUDA graphs). Otherwise over the positions in use, which is less work on a CPU.
    """

    def __init__(self, config: GeneratorConfig, rows: int, positions: int, *, like: Tensor, fixed: bool = False) -> None:
        shape = (config.layers, rows, config.heads, positions, config.width // config.heads)
        self.keys, self.values = like.new_zeros(shape), like.new_zeros(shape)
        self.used = 0
        self.fixed = fixed
        self.position = torch.zeros(1, dtype=torch.int64, device=like.device)
        self.positions = torch.arange(positions, device=like.device)[None]
        self.mask: Tensor | None = None
        self._rotary = rotary_table(positions, config, like.device).to(like.dtype) if config.positions == "rope" else None

    def advance(self, count: int) -> None:
        """Make room for `count` more positions: the next `write` of each layer goes there."""
        self.used += count
        self.position.fill_(self.used - 1)

    def layer(self, number: int) -> "LayerCache":
        """What block `number` sees of it."""
        return LayerCache(self, self.keys[number], self.values[number])

    def rotary(self, count: int) -> Tensor | None:
        """Cosines and sines of the newest `count` positions."""
        if self._rotary is None or (self.fixed and count == 1):
            return None if self._rotary is None else self._rotary.index_select(1, self.position)
        return self._rotary[:, self.used - count : self.used]

    def look(self, count: int) -> Tensor | None:
        """The mask of a step's attention, bool (1, positions): None where every position returned by `write` may be seen."""
        return self.positions <= self.position if self.fixed and count == 1 else None


class LayerCache:
    """One block's part of a `Cache`."""

    def __init__(self, whole: Cache, keys: Tensor, values: Tensor) -> None:
        self.whole, self.keys, self.values = whole, keys, values

    def write(self, k_BHLK: Tensor, v_BHLK: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the newest positions' keys and values; all that attention is to look at."""
        used, count = self.whole.used, k_BHLK.shape[2]
        if self.whole.fixed and count == 1:
            self.keys.index_copy_(2, self.whole.position, k_BHLK)
            self.values.index_copy_(2, self.whole.position, v_BHLK)
            return self.keys, self.values
        self.keys[:, :, used - count : used] = k_BHLK
        self.values[:, :, used - count : used] = v_BHLK
        return self.keys[:, :, :used], self.values[:, :, :used]


class Attention(nn.Module):
    """Causal self-attention without biases."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = Linear(config.width, 3 * config.width, bias=False)
        self.out = Linear(config.width, config.width, bias=False)

    def forward(self, x_BLD: Tensor, rotary: Tensor | None = None, cache: LayerCache | None = None) -> Tensor:
        B, L, D = x_BLD.shape
        qkv = self.qkv(x_BLD).view(B, L, 3, self.heads, D // self.heads)
        q, k = (qkv[:, :, :2] if rotary is None else rotate(qkv[:, :, :2], rotary)).unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), qkv[:, :, 2].transpose(1, 2)
        if cache is None:
            mixed = causal_attention(q, k, v)
        else:
            k, v = cache.write(k, v)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=cache.whole.mask, is_causal=L > 1)
        return self.out(mixed.transpose(1, 2).reshape(B, L, D))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm attention and SwiGLU, dropout on both branches."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.width, eps=config.norm_eps)
        self.attn = Attention(config)
        self.norm2 = RMSNorm(config.width, eps=config.norm_eps)
        self.gate_up = Linear(config.width, 2 * config.hidden, bias=False)
        self.down = Linear(config.hidden, config.width, bias=False)
        self.dropout = config.dropout

    def forward(self, x_BLD: Tensor, rotary: Tensor | None = None, cache: LayerCache | None = None) -> Tensor:
        x_BLD = x_BLD + self._drop(self.attn(self.norm1(x_BLD), rotary, cache))
        gate, up = self.gate_up(self.norm2(x_BLD)).chunk(2, dim=-1)
        return x_BLD + self._drop(self.down(F.silu(gate) * up))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training else x


class Head(Linear):
    """Hidden states -> scores of the codes."""

    def __init__(self, width: int, num_codes: int) -> None:
        super().__init__(width, num_codes, bias=False)

    def scores(self, hidden: Tensor, low: int, high: int) -> Tensor:
        """(..., high - low) in the dtype of `hidden`: of the codes in [low, high) alone."""
        return F.linear(hidden, self.weight[low:high].to(hidden.dtype))


class Generator(nn.Module):
    """ids -> hidden states -> logits. The head knows the codes only: markers and classes can never be sampled.

    num_ids: codes, then markers and classes (rows of the embedding). num_slots: positions that have a learned position.
    """

    def __init__(
        self, config: GeneratorConfig, *, num_ids: int, num_codes: int, num_slots: int, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        assert num_codes <= num_ids
        self.config, self.compute_dtype = config, compute_dtype
        self.embed = nn.Embedding(num_ids, config.width)
        self.slots = nn.Parameter(torch.empty(num_slots, config.width)) if config.positions == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, eps=config.norm_eps)
        self.head = Head(config.width, num_codes)
        self._init()

    def forward(self, ids_BL: Tensor, slots_L: Tensor, cache: Cache | None = None) -> Tensor:
        """Hidden states (B, L, D) of the positions that follow those in `cache`; slots_L: the slot of each of them.

        Raises ValueError where `cache` holds positions and more than one is added: only a prompt is read at once.
        """
        if cache is not None:
            if cache.used and ids_BL.shape[1] > 1:
                raise ValueError("a cache that is in use takes one position at a time")
            cache.advance(ids_BL.shape[1])
        return self.run(ids_BL, slots_L, cache)

    def run(self, ids_BL: Tensor, slots_L: Tensor, cache: Cache | None) -> Tensor:
        """`forward` into a cache that has advanced: what a CUDA graph captures."""
        if cache is not None:
            rotary, cache.mask = cache.rotary(ids_BL.shape[1]), cache.look(ids_BL.shape[1])
        else:
            rotary = self._rotary(ids_BL.shape[1], ids_BL.device)
        x = self.embed(ids_BL)
        x = x if self.slots is None else x + self.slots[slots_L]
        x = x.to(self.compute_dtype)
        x = F.dropout(x, self.config.dropout) if self.training else x
        for number, block in enumerate(self.blocks):
            x = block(x, rotary, None if cache is None else cache.layer(number))
        return self.norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, low: int, high: int) -> Tensor:
        """Scores (..., high - low), float32, of the codes in [low, high): those that are legal at the next position."""
        return self.head.scores(hidden, low, high).float()

    def new_cache(self, rows: int, positions: int, *, fixed: bool = False) -> Cache:
        """Room for `positions` positions of `rows` clips, on the model's device."""
        like = torch.empty(0, dtype=self.compute_dtype, device=self.head.weight.device)
        return Cache(self.config, rows, positions, like=like, fixed=fixed)

    def _rotary(self, positions: int, device: torch.device) -> Tensor | None:
        return rotary_table(positions, self.config, device).to(self.compute_dtype) if self.config.positions == "rope" else None

    def _init(self) -> None:
        """Normal weights, and an output of zero: the first loss is that of the uniform distribution."""
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=INIT_STD)
        if self.slots is not None:
            nn.init.normal_(self.slots, std=INIT_STD)
        nn.init.zeros_(self.head.weight)


def rotary_table(positions: int, config: GeneratorConfig, device: torch.device) -> Tensor:
    """(2, positions, 1, 1, K / 2) float32: cosines and sines of each position (Su et al. 2021, in halves as Llama has it)."""
    half = config.width // config.heads // 2
    rates = config.rope_theta ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
    angles = torch.arange(positions, device=device, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.cos(), angles.sin()])[:, :, None, None]


def rotate(x_BL2HK: Tensor, table: Tensor) -> Tensor:
    """Queries and keys, turned by their positions' angles."""
    a, b = x_BL2HK.chunk(2, dim=-1)
    cos, sin = table
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def count_parameters(model: nn.Module) -> int:
    """Learned numbers."""
    return sum(parameter.numel() for parameter in model.parameters())
