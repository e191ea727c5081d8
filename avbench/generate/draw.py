"""One token from its logits and one uniform number. B clips, V legal ids."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from avbench.types import Sampling


def uniforms(seed: int, ids: Sequence[str], count: int) -> Tensor:
    """float64 (B, count) in [0, 1): number i of a clip follows from (seed, its id, i) alone, whatever its batch."""
    rows = [np.random.Generator(np.random.Philox(key=_key(seed, clip_id))).random(count) for clip_id in ids]
    return torch.from_numpy(np.stack(rows))


def _key(seed: int, clip_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{clip_id}".encode(), digest_size=16).digest(), "little")


def draw(logits_BV: Tensor, uniform_B: Tensor, how: Sampling) -> Tensor:
    """int64 (B,): the id at which the cumulative distribution passes the clip's uniform number."""
    if how.temperature == 0:
        return logits_BV.argmax(-1)
    scaled = logits_BV if how.temperature == 1 else logits_BV / how.temperature
    if not how.top_k and how.top_p == 1:
        return _inverse(scaled.softmax(-1), uniform_B)
    ordered, order = scaled.sort(stable=True, dim=-1, descending=True)
    chosen = _inverse(kept(ordered.softmax(-1), how), uniform_B)
    return order.gather(-1, chosen[:, None])[:, 0]


def kept(probabilities_BV: Tensor, how: Sampling) -> Tensor:
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
