"""A trained generator asked: how likely given tokens are, and tokens sampled one after another.

The prompt is read once, then one forward a token for the whole batch. For sampling, weights are bfloat16 on a CUDA device and in another
order on a CPU. One Zen 5 core, mini size, all matrix products of a token in float32: 1.8 ms as stored, 1.3 ms packed, 1.0 ms transposed
for 1 clip; 3.1, 1.5 and 2.5 ms for 8. B clips, P prompt, N target positions, V legal ids.
"""

import copy
import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.generate.model import Cache, Generator, Head
from avbench.generate.tasks import Plan
from avbench.nn.packed import Packed, can_pack_as
from avbench.types import Sampling

NATS_TO_BITS = 1 / math.log(2)


def nats(model: Generator, plan: Plan, hidden_BLD: Tensor, ids_BL: Tensor) -> dict[str, Tensor]:
    """modality -> (B, tokens) float32: minus the log-probability of each target token, given all before it.

    hidden_BLD: of positions 0 .. L - 2 (at least); ids_BL: the whole sequences.
    """
    found: dict[str, list[Tensor]] = {}
    for segment in plan.segments:
        before = slice(segment.positions.start - 1, segment.positions.stop - 1, segment.positions.step)
        wanted = ids_BL[:, segment.positions.start : segment.positions.stop : segment.positions.step] - segment.low
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


def prepare(model: Generator, rows: int, dtype: torch.dtype | None = None) -> Generator:
    """A copy in eval mode that samples `rows` clips at a time (both branches of guidance counted) as fast as this device can.

    dtype: float32 or bfloat16; by default float32 on a CPU, whose cached steps are then the whole pass to rounding, else bfloat16.
    """
    ready = copy.deepcopy(model).eval().requires_grad_(False)
    device = ready.head.weight.device
    ready.compute_dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    ready = ready.to(ready.compute_dtype)
    if device.type == "cpu" and can_pack_as(ready.compute_dtype):
        for block in ready.blocks:
            for part, name in ((block.attn, "qkv"), (block.attn, "out"), (block, "gate_up"), (block, "down")):
                setattr(part, name, _product(getattr(part, name).weight, rows))
        ready.head = PackedHead(ready.head, rows)
    return ready


class Transposed(nn.Module):
    """x @ weight.T for a single row: a product that reads the weight once, in order."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight.detach().t().contiguous()

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class PackedHead(Head):
    """The head with each legal range prepared when it is first asked for."""

    def __init__(self, head: Head, rows: int) -> None:
        super().__init__(head.in_features, head.out_features)
        self.weight = head.weight
        self.rows = rows
        self.ranges: dict[tuple[int, int], nn.Module] = {}

    def scores(self, hidden: Tensor, low: int, high: int) -> Tensor:
        """As `Head.scores`."""
        if (low, high) not in self.ranges:
            self.ranges[low, high] = _product(self.weight[low:high], self.rows)
        return self.ranges[low, high](hidden)  # type: ignore[no-any-return]


def _product(weight: Tensor, rows: int) -> nn.Module:
    return Transposed(weight) if rows == 1 and weight.dtype == torch.float32 else Packed(weight, rows=rows)


def uniforms(seed: int, ids: Sequence[str], count: int) -> Tensor:
    """float64 (B, count) in [0, 1): number i of a clip follows from (seed, its id, i) alone, whatever its batch."""
    rows = [np.random.Generator(np.random.Philox(key=_key(seed, clip_id))).random(count) for clip_id in ids]
    return torch.from_numpy(np.stack(rows))


def _key(seed: int, clip_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{clip_id}".encode(), digest_size=16).digest(), "little")


def sample_token(logits_BV: Tensor, uniform_B: Tensor, how: Sampling) -> Tensor:
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
        positions = torch.arange(probabilities_BV.shape[-1], device=probabilities_BV.device)
        probabilities_BV = torch.where(positions < how.top_k, probabilities_BV, 0)
    total = probabilities_BV.double().cumsum(-1)
    before = total - probabilities_BV
    return torch.where(before < how.top_p * total[:, -1:], probabilities_BV, 0) if how.top_p < 1 else probabilities_BV


def _inverse(probabilities_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The first entry whose cumulative sum is beyond u times the total; float64, so that long tails keep their share."""
    total = probabilities_BV.cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(total, uniform_B[:, None] * total[:, -1:], right=True)[:, 0]


@torch.inference_mode()
def sample(
    model: Generator, plan: Plan, prompt_BP: Tensor, uniform_BN: Tensor, how: Sampling, *, dropped_BP: Tensor | None = None
) -> Tensor:
    """int64 (B, N): ids of every position after the prompt, each in its legal range. The model must be in eval mode.

    uniform_BN: `uniforms`, on the model's device. dropped_BP: the prompts without their condition, needed where guidance is not 1;
    both branches then pass as one batch.
    """
    guided = how.guidance != 1
    if guided and dropped_BP is None:
        raise ValueError("guidance needs the prompts without their condition")
    prompt = torch.cat([prompt_BP, dropped_BP]) if guided and dropped_BP is not None else prompt_BP
    slots = torch.tensor(plan.slots, device=prompt.device)
    cache = model.new_cache(len(prompt), plan.length - 1, fixed=prompt.is_cuda)
    step = Stepper(model, cache, len(prompt))
    hidden = model(prompt, slots[: plan.prompt], cache)[:, -1]
    sampled: list[Tensor] = []
    for number, (low, high) in enumerate(plan.legal()):
        if number:
            ids = sampled[-1].repeat(2) if guided else sampled[-1]
            position = plan.prompt + number - 1
            hidden = step(ids[:, None], slots[position : position + 1])[:, -1]
        logits = model.logits(hidden, low, high)
        if guided:
            cond, uncond = logits.chunk(2)
            logits = uncond + how.guidance * (cond - uncond)
        sampled.append(low + sample_token(logits, uniform_BN[:, number], how))
    return torch.stack(sampled, dim=1)


class Stepper:
    """One token further: plainly on a CPU; on a CUDA device a graph that is captured at the first step and replayed after it."""

    def __init__(self, model: Generator, cache: Cache, rows: int) -> None:
        self.model, self.cache = model, cache
        self.graph: torch.cuda.CUDAGraph | None = None
        device = cache.keys.device
        self.ids = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.hidden: Tensor | None = None

    def __call__(self, ids_B1: Tensor, slot_1: Tensor) -> Tensor:
        """Hidden states (B, 1, D)."""
        if not ids_B1.is_cuda:
            return self.model(ids_B1, slot_1, self.cache)  # type: ignore[no-any-return]
        self.ids.copy_(ids_B1)
        self.slot.copy_(slot_1)
        self.cache.advance(1)
        if self.graph is None:
            self._capture()
        assert self.graph is not None
        assert self.hidden is not None
        self.graph.replay()
        return self.hidden

    def _capture(self) -> None:
        """Warm up on a side stream, as CUDA graphs ask for; writing a position of the cache twice is harmless."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self.model.run(self.ids, self.slot, self.cache)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.hidden = self.model.run(self.ids, self.slot, self.cache)
