"""Cross-entropy of a task's target, by modality: over the ids that are legal at each place, so that tokenizers compare. B clips."""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.generate.model import Generator
from avbench.generate.tasks import Plan

NATS_TO_BITS = 1 / math.log(2)


def nats(model: Generator, plan: Plan, hidden_BLD: Tensor, ids_BL: Tensor) -> dict[str, Tensor]:
    """modality -> (B, tokens) float32: minus the log-probability of each target token, given all before it.

    hidden_BLD: of places 0 .. L - 2 (at least); ids_BL: the whole sequences.
    """
    found: dict[str, list[Tensor]] = {}
    for segment in plan.segments:
        before = slice(segment.places.start - 1, segment.places.stop - 1, segment.places.step)
        wanted = ids_BL[:, segment.places.start : segment.places.stop : segment.places.step] - segment.low
        logits = model.logits(hidden_BLD[:, before], segment.low, segment.high)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        found.setdefault(segment.modality, []).append(loss.view(wanted.shape))
    return {modality: torch.cat(parts, dim=1) for modality, parts in found.items()}


def target_nats(model: Generator, plan: Plan, ids_BL: Tensor) -> dict[str, Tensor]:
    """`nats` of whole sequences in one pass."""
    hidden = model(ids_BL[:, :-1], _slots(plan.slots, ids_BL.device)[:-1])
    return nats(model, plan, hidden, ids_BL)


@lru_cache(maxsize=16)
def _slots(slots: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept on the device: a training step would wait for a copy."""
    return torch.tensor(slots, device=device)


def bits_per_clip(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """modality -> (B,): what a clip's target costs, in bits."""
    return {modality: nats_BL.double().sum(1) * NATS_TO_BITS for modality, nats_BL in values.items()}
