"""One token from its logits and one uniform number. B clips, V legal ids."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avbench.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How tokens are drawn. temperature 0: the likeliest. top_k 0, top_p 1: all. guidance: of u + s (c - u); 1: the condition alone.

    chain: of task av, the sound is drawn from the drawn picture as v2a draws it, p(video | class) p(audio | video), so that guidance
    of the sound strengthens what the picture says. Else from class and picture, where guidance strengthens only what the class adds.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0
    chain: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100:
            raise UsageError(f"temperature {self.temperature:g}: from 0 (the likeliest token) to 100")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UsageError(f"top-k {self.top_k}, top-p {self.top_p:g}: top-k is 0 (all) or more, top-p in (0, 1]")
        if not 0 <= self.guidance < 100:
            raise UsageError(f"guidance {self.guidance:g}: from 0 (no condition) to 100; 1 is the condition alone")


def uniforms(seed: int, ids: Sequence[str], count: int) -> Tensor:
    """float64 (B, count) in [0, 1): number i of a clip follows from (seed, its id, i) alone, whatever its batch."""
    rows = [np.random.Generator(np.random.Philox(key=_key(seed, clip_id))).random(count) for clip_id in ids]
    return torch.from_numpy(np.stack(rows))


def _key(seed: int, clip_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{clip_id}".encode(), digest_size=16).digest(), "little")


def draw(logits_BV: Tensor, uniform_B: Tensor, how: Drawing) -> Tensor:
    """int64 (B,): the id at which the cumulative distribution passes the clip's uniform number."""
    if how.temperature == 0:
        return logits_BV.argmax(-1)
    scaled = logits_BV if how.temperature == 1 else logits_BV / how.temperature
    if not how.top_k and how.top_p == 1:
        return _inverse(scaled.softmax(-1), uniform_B)
    ordered, order = scaled.sort(stable=True, dim=-1, descending=True)
    chosen = _inverse(kept(ordered.softmax(-1), how), uniform_B)
    return order.gather(-1, chosen[:, None])[:, 0]


def kept(probabilities_BV: Tensor, how: Drawing) -> Tensor:
    """Descending probabilities with those that top-k, then top-p, leave out set to 0. Not normalised; the likeliest always stays.

    top-p keeps the fewest of top-k's tokens that together reach p of their sum (Holtzman et al. 2020).
    """
    if how.top_k:
        places = torch.arange(probabilities_BV.shape[-1], device=probabilities_BV.device)
        probabilities_BV = torch.where(places < how.top_k, probabilities_BV, 0)
    total = probabilities_BV.double().cumsum(-1)
    before = total - probabilities_BV
    return torch.where(before < how.top_p * total[:, -1:], probabilities_BV, 0) if how.top_p < 1 else probabilities_BV


def _inverse(probabilities_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The first entry whose cumulative sum is beyond u times the total; float64, so that long tails keep their share."""
    total = probabilities_BV.cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(total, uniform_B[:, None] * total[:, -1:], right=True)[:, 0]
