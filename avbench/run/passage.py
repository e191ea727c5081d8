"""Clip -> tokens -> bytes, and bytes -> clip: the part of a run that a tokenizer could cheat in. A failure costs its own clip only."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from avbench.contain import plugin_code, time_limit
from avbench.errors import AvbenchError
from avbench.run import payload
from avbench.run.conform import check_duration, conform, most_codes
from avbench.run.worker import TIMEOUT_S, CannotLoad, Decoder, room_for
from avbench.task import Task
from avbench.types import ClipBatch, ClipFailure, Tokens

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Clip id -> the bytes that its decoder gets, the clips that have none, and how long it took."""

    payloads: dict[str, bytes] = field(default_factory=dict)
    failures: tuple[ClipFailure, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)  # "encode", "payload"


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Reference, reconstruction and tokens of clips that went well."""

    reference: ClipBatch
    recon: ClipBatch
    tokens: Tokens
    seconds: dict[str, float]  # "decode", "transfer"
    peak_memory_mb: float = 0.0  # of the decoder's process

    def select(self, clip: int) -> "Reconstruction":
        """One clip of it."""
        tokens = replace(
            self.tokens,
            codes={name: codes[[clip]] for name, codes in self.tokens.codes.items()},
            lengths=self.tokens.lengths and {name: lengths[[clip]] for name, lengths in self.tokens.lengths.items()},
        )
        return replace(self, reference=self.reference.select([clip]), recon=self.recon.select([clip]), tokens=tokens)

    def copy(self) -> "Reconstruction":
        """The same in memory of its own."""
        return replace(self, reference=self.reference.copy(), recon=self.recon.copy(), tokens=self.tokens.copy())

    def same_as(self, other: "Reconstruction") -> bool:
        """Whether every number is the same."""
        pairs = [(self.reference, other.reference), (self.recon, other.recon)]
        parts = [(a.video, b.video) for a, b in pairs] + [(a.audio, b.audio) for a, b in pairs]
        same = all(a is b if a is None or b is None else torch.equal(a, b) for a, b in parts)
        return same and self.tokens.same_as(other.tokens)


def encode(task: Task, reference: ClipBatch, timeout_s: float = TIMEOUT_S) -> Encoded:
    """The whole batch at once; if anything goes wrong, each clip alone. timeout_s: for each attempt."""
    done, failures = _whole_or_each(reference, lambda clips, _: _encode(task, clips, timeout_s))
    return Encoded(
        payloads={clip_id: data for part in done for clip_id, data in part.payloads.items()},
        failures=tuple(failures),
        seconds=total([part.seconds for part in done]),
    )


def decode(
    task: Task, decoder: Decoder, reference: ClipBatch, payloads: Sequence[bytes], seed: int
) -> tuple[list[Reconstruction], list[ClipFailure]]:
    """The clips that `payloads` (one for each clip of `reference`) become; the whole batch at once, or each clip alone."""
    return _whole_or_each(reference, lambda clips, numbers: _decode(task, decoder, clips, [payloads[number] for number in numbers], seed))


def total(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Seconds of each stage."""
    return {stage: sum(part.get(stage, 0.0) for part in parts) for stage in dict.fromkeys(stage for part in parts for stage in part)}


def _whole_or_each(reference: ClipBatch, attempt: Callable[[ClipBatch, list[int]], T]) -> tuple[list[T], list[ClipFailure]]:
    everything = list(range(len(reference)))
    try:
        return [attempt(reference, everything)], []
    except CannotLoad:
        raise
    except Exception as error:
        if len(reference) == 1:
            return [], [_failure(reference, error)]
    done: list[T] = []
    failures: list[ClipFailure] = []
    for number in everything:
        clip = reference.select([number])
        try:
            done.append(attempt(clip, [number]))
        except CannotLoad:
            raise
        except Exception as error:
            failures.append(_failure(clip, error))
    return done, failures


def _failure(clip: ClipBatch, error: Exception) -> ClipFailure:
    text = str(error) if isinstance(error, AvbenchError) else f"{type(error).__name__}: {error}"
    return ClipFailure(id=clip.ids[0], label=clip.labels[0], reason=text[:500])


def _encode(task: Task, reference: ClipBatch, timeout_s: float) -> Encoded:
    given = reference.copy()  # a tokenizer that writes into its input must not change what it is measured against
    started = time.perf_counter()
    with plugin_code("encode failed"), time_limit(timeout_s), task.switches(), torch.inference_mode():
        tokens = task.produce(given)
    if given.video is not None and given.video.is_cuda:
        torch.cuda.synchronize(given.video.device)
    encoded = time.perf_counter()
    payload.check(tokens, len(reference), most_codes=most_codes(reference))
    check_duration(tokens, reference)
    payloads = {clip_id: payload.to_bytes(tokens, number) for number, clip_id in enumerate(reference.ids)}
    return Encoded(payloads=payloads, seconds={"encode": encoded - started, "payload": time.perf_counter() - encoded})


def _decode(task: Task, decoder: Decoder, reference: ClipBatch, payloads: list[bytes], seed: int) -> Reconstruction:
    started = time.perf_counter()
    made = decoder.decode(payloads, seed=seed, most=room_for(reference))
    recon = conform(reference, made.clips, task.info.modalities)
    seconds = {"decode": made.seconds, "transfer": time.perf_counter() - started - made.seconds}
    tokens = payload.from_bytes(payloads)
    check_duration(tokens, reference)
    device = next(part.device for part in (reference.video, reference.audio) if part is not None)
    return Reconstruction(
        reference=reference, recon=task.finish(reference, recon), tokens=tokens.to(device), seconds=seconds,
        peak_memory_mb=made.peak_memory_mb,
    )  # fmt: skip
