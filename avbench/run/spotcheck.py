"""The clips that `avbench verify` looks at twice: decoded alone, in another order, and encoded again.

They are whole batches, since a batch is what was encoded: another size of it may flip a code whose two nearest entries are as far away.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import torch

from avbench.data import splits
from avbench.errors import AvbenchError
from avbench.run import passage, payload
from avbench.run.context import Context
from avbench.run.differences import Difference, of_clip
from avbench.run.evaluate import seed_of
from avbench.run.measure import measure_batch
from avbench.run.store import ClipRow, RunStore
from avbench.run.worker import Worker
from avbench.task import Task
from avbench.tokenizer import TokenizerInfo
from avbench.types import DEFAULT_TASK, ClipBatch, RunSpec, Tokens


class Remote(Task):
    """A tokenizer in other processes: this one knows what a manifest says of it, and whom to ask for tokens."""

    name = DEFAULT_TASK

    def __init__(self, info: TokenizerInfo, encoder: Worker | None = None, seed: int = 0) -> None:
        self.info, self.encoder, self.seed = info, encoder, seed

    def load(self, spec: RunSpec, device: torch.device) -> None:
        """There is nothing to load here."""

    def produce(self, reference: ClipBatch) -> Tokens:
        """What the other process makes of the clips. Raises AvbenchError where rows are to be made of kept bytes alone."""
        if self.encoder is None:
            raise AvbenchError("its bytes are not among the kept ones")
        return payload.from_bytes(self.encoder.encode(reference, seed=self.seed))

    def decode(self, tokens: Tokens) -> NoReturn:
        """Never here."""
        raise AssertionError("another process decodes")


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A batch, or what of it has kept bytes."""

    index: int
    clips: ClipBatch
    payloads: Mapping[str, bytes]  # clip -> its kept bytes


@dataclass(frozen=True, kw_only=True)
class Reencoded:
    """Kept bytes beside those that `encode` makes here. same_codes: share of all codes. deterministic: None where it need not be known."""

    clips: int
    equal: int
    byte_equal: bool
    same_codes: float
    deterministic: bool | None = None

    @classmethod
    def of(cls, kept: Mapping[str, bytes], encoded: Mapping[str, bytes], twice: Mapping[str, bytes] | None) -> "Reencoded":
        """twice: encoded once more, by another process."""
        equal = sum(encoded.get(clip) == data for clip, data in kept.items())
        return cls(
            clips=len(kept), equal=equal, byte_equal=equal == len(kept), same_codes=_same_codes(kept, encoded),
            deterministic=None if twice is None else twice == encoded,
        )  # fmt: skip

    def __str__(self) -> str:
        if self.byte_equal:
            return f"{self.clips} clips encoded again: the same bytes"
        why = "encode gives the same each time here" if self.deterministic else "encode is not deterministic: other bytes each time"
        differ = f"{self.clips - self.equal} of {self.clips} clips have other bytes when they are encoded here"
        return f"{differ}, with {100 * self.same_codes:.4g} % of the codes the same; {why}"


def sample(context: Context, store: RunStore, count: int, choice: random.Random) -> list[Sampled]:
    """Batches by chance, until they have `count` clips with kept bytes."""
    chosen: list[Sampled] = []
    batches = range(-(-len(context.split.clips) // context.spec.batch_size))
    for batch in splits.batches(context.split, context.spec.batch_size, choice.sample(batches, len(batches))):
        if sum(len(other.clips) for other in chosen) >= count:
            break
        kept = store.load_tokens(batch.index)
        whole = [number for number, clip in enumerate(batch.clips.ids) if clip in kept] if batch.clips is not None else []
        if batch.clips is not None and whole:
            clips = batch.clips.select(whole).to(context.device)
            chosen.append(Sampled(index=batch.index, clips=clips, payloads={clip: kept[clip] for clip in clips.ids}))
    return chosen


def kept_of(sampled: Sequence[Sampled]) -> dict[str, bytes]:
    """Clip -> kept bytes, of all batches."""
    return {clip: data for batch in sampled for clip, data in batch.payloads.items()}


def alone(context: Context, worker: Worker, sampled: Sequence[Sampled], rows: Mapping[str, ClipRow]) -> Iterator[Difference]:
    """One clip at a time, backwards and under another seed: a decoder that goes by a clip's place makes another one."""
    metrics = {name: context.metrics[name] for name, info in context.metrics.infos.items() if info.per_clip and not info.memory_bytes}
    infos = {name: context.metrics.infos[name] for name in metrics}
    for batch in reversed(sampled):
        for number in reversed(range(len(batch.clips))):
            clip = batch.clips.select([number])
            made, failures = passage.decode(context.task, worker, clip, [batch.payloads[clip.ids[0]]], seed=1)
            (row,) = measure_batch(metrics, made, failures, index=0, ids=clip.ids, device=context.device).rows
            before = rows[row.id]
            stored = {"status": before.status, "label": before.label, "metrics": {name: before.metrics.get(name) for name in metrics}}
            for difference in of_clip(stored, row, infos):
                yield replace(difference, what=f"{difference.what}, decoded alone")


def encoded(context: Context, worker: Worker, sampled: Sequence[Sampled]) -> dict[str, bytes]:
    """Clip -> what `encode` makes of it here; clips that it fails on are absent."""
    payloads: dict[str, bytes] = {}
    for batch in sampled:
        task = Remote(context.task.info, worker, seed_of(context.spec, batch.index))
        payloads |= passage.encode(task, batch.clips, 2 * context.timeout_s).payloads  # the worker keeps the time itself
    return payloads


def _same_codes(kept: Mapping[str, bytes], again: Mapping[str, bytes]) -> float:
    """Share of the codes of `kept` that `again` has in the same place; 1 where there are none."""
    same = total = 0
    for clip, data in kept.items():
        theirs = payload.from_bytes([again[clip]]).codes if clip in again else {}
        for name, codes in payload.from_bytes([data]).codes.items():
            total += codes.numel()
            other = theirs.get(name)
            if other is not None and other.shape[1] == codes.shape[1]:
                length = min(codes.shape[2], other.shape[2])
                same += int((codes[..., :length] == other[..., :length]).sum())
    return same / total if total else 1.0
