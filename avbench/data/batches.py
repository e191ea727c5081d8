"""Prepared clips as tensors, a batch at a time, read ahead by a background thread."""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from avbench.data import shards
from avbench.data.convert import Int16, UInt8
from avbench.errors import UsageError
from avbench.types import ClipBatch, ClipFailure, ClipRef, Protocol

READ_AHEAD = 2  # batches


@dataclass(frozen=True, kw_only=True)
class Split:
    """Clips that are prepared on this machine (or known to have failed), in order: what is evaluated.

    checksum: sha256 (hex) over the protocol, the decoder of its files, and each clip's id, label and content pin; a partial or
    limited split has its own.
    num_official: clips that the official list names. note: what a reader of the numbers must know, or "".
    train_split: name of the split that a control or tokenizer is fitted on; None where there is none.
    root: folder of the prepared shards. entries: where each clip is, in the order of `clips`.
    """

    name: str
    clips: tuple[ClipRef, ...]
    protocol: Protocol
    checksum: str
    num_official: int
    note: str
    train_split: str | None
    root: Path
    entries: tuple[shards.Entry, ...] = field(repr=False)

    def arrays(self, indices: Sequence[int]) -> Iterator[tuple[UInt8, Int16] | str]:
        """Video uint8 (T, H, W, 3) and audio int16 (N,) of each clip at `indices`, or why it failed.

        Bytes that are not those that were written are a failure, never a clip.
        """
        rows = [row for index in indices if (row := self.entries[index].row) is not None]
        prepared = shards.read_rows(self.root, rows, self.protocol)
        for index in indices:
            entry = self.entries[index]
            if entry.row is None:
                yield entry.failure or "not prepared"
                continue
            arrays = next(prepared)
            if arrays is not None and shards.is_intact(entry, *arrays):
                yield arrays
            else:
                wrong = "is missing or cut off" if arrays is None else "differs from its checksum"
                yield f"its prepared shard {wrong}; avbench data verify {self.name}"


@dataclass(frozen=True, kw_only=True)
class Joined(Split):
    """Two splits of one protocol as one: the clips of `first`, then those of `second`. Name, checksum and root are `first`'s."""

    first: Split
    second: Split

    def arrays(self, indices: Sequence[int]) -> Iterator[tuple[UInt8, Int16] | str]:
        """See `Split.arrays`."""
        size = len(self.first.clips)
        for index in indices:
            yield from self.first.arrays([index]) if index < size else self.second.arrays([index - size])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Batch number `index` of a split: its clips (None if all failed) and those that failed, with reasons."""

    index: int
    clips: ClipBatch | None
    failures: tuple[ClipFailure, ...]


def batches(split: Split, batch_size: int, wanted: Sequence[int] | None = None) -> Iterator[Batch]:
    """Batch k covers `split.clips[k * batch_size : (k + 1) * batch_size]`, whichever are `wanted` (default: all, in order).

    Video float32 (B, T, 3, H, W) in [0, 1], audio float32 (B, C, N) in [-1, 1]; None of what the protocol lacks.
    """
    numbers = range(-(-len(split.clips) // batch_size)) if wanted is None else wanted
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=READ_AHEAD)
    stopped = threading.Event()
    reader = threading.Thread(target=_read_ahead, args=(split, batch_size, numbers, ready, stopped), daemon=True)
    reader.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while not ready.empty():
            ready.get_nowait()
        reader.join()


def _read_ahead(split: Split, size: int, numbers: Sequence[int], ready: queue.Queue, stopped: threading.Event) -> None:
    def put(item: Batch | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    try:
        for number in numbers:
            if stopped.is_set():
                return
            put(read_batch(split, number, range(number * size, min((number + 1) * size, len(split.clips)))))
        put(None)
    except BaseException as error:
        put(error)


def read_batch(split: Split, number: int, indices: Sequence[int]) -> Batch:
    """The clips at `indices` as batch `number`, read now."""
    good, failures = [], []
    for index, arrays in zip(indices, split.arrays(indices), strict=True):
        if isinstance(arrays, str):
            clip = split.clips[index]
            failures.append(ClipFailure(id=clip.id, label=clip.label, reason=arrays))
        else:
            good.append((index, *arrays))
    return Batch(index=number, clips=_clip_batch(split, good) if good else None, failures=tuple(failures))


def _clip_batch(split: Split, good: list[tuple[int, UInt8, Int16]]) -> ClipBatch:
    protocol = split.protocol
    video = audio = None
    if protocol.num_frames:
        sizes = {pictures.shape for _, pictures, _ in good}
        if len(sizes) > 1:
            raise UsageError(f"clips of {split.name} differ in size ({len(sizes)} sizes in a batch): use --batch-size 1")
        video = torch.from_numpy(np.stack([pictures for _, pictures, _ in good])).permute(0, 1, 4, 2, 3)
        video = video.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    if protocol.sample_rate:
        samples = torch.from_numpy(np.stack([samples for _, _, samples in good]))
        audio = (samples if samples.ndim == 3 else samples[:, None]).to(torch.float32).div_(32767)
    return ClipBatch(
        ids=tuple(split.clips[index].id for index, _, _ in good),
        labels=tuple(split.clips[index].label for index, _, _ in good),
        video=video,
        audio=audio,
        fps=protocol.fps,
        sample_rate=protocol.sample_rate,
    )
