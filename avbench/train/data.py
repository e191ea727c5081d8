"""Prepared clips in any order: memory-mapped pictures, mels that are computed once and kept, batches read ahead by threads.

The order is a function of (seed, step) alone, so a resumed run and any number of processes see the clips that one
uninterrupted process would. `load_clips` says which clips a run trains on, and which it holds
out. B clips, T frames, F mel frames.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from avbench.data import shards, splits
from avbench.data.splits import Split
from avbench.errors import AvbenchError
from avbench.files import regular
from avbench.nn.mel import HOP, NUM_MELS, log_mel
from avbench.registry import plugins

INT16_SCALE = 1 / 32767
MEL_FORMAT = "1"  # part of the cache's name: a change of mel.py or of the layout needs another
READ_THREADS = {
    "cpu": 1,
    "cuda": 6,
}  # on two cores a second reader takes time from the step; a GPU eats clips faster than one can copy them
READ_AHEAD = 3  # batches a thread


@dataclass(frozen=True, kw_only=True)
class TrainBatch:
    """video: uint8 (B, T, 3, H, W), channels last in memory. mel: float16 (B, 80, F), natural logarithm. audio: int16 (B, N).

    What was not asked for is None. video_codes: int64 (B, tokens) where the video was encoded before.
    """

    video: Tensor | None
    mel: Tensor
    audio: Tensor | None = None
    video_codes: Tensor | None = None

    def __len__(self) -> int:
        return self.mel.shape[0]

    def to(self, device: torch.device) -> "TrainBatch":
        """On another device; copies from pinned memory do not wait."""
        return self._map(lambda x: x.to(device, non_blocking=True))

    def pinned(self) -> "TrainBatch":
        """In page-locked memory, for copies that do not wait."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, fn: Callable[[Tensor], Tensor]) -> "TrainBatch":
        video, audio, codes = (None if x is None else fn(x) for x in (self.video, self.audio, self.video_codes))
        return TrainBatch(video=video, mel=fn(self.mel), audio=audio, video_codes=codes)


class ClipReader:
    """Random access to the good clips of a split. Raises AvbenchError where there are none, or where a shard is not what its index says."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.rows = tuple(entry.row for entry in split.entries if entry.row is not None)
        if not self.rows:
            raise AvbenchError(f"no clip of {split.name} could be prepared; avbench data verify {split.name} says why")
        self.num_failed = len(split.entries) - len(self.rows)
        self._open = lru_cache(maxsize=None)(self._map)
        self._mels = MelCache(split.root, max(self.rows) + 1, split.protocol.num_samples)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: list[int], *, with_video: bool = True, with_audio: bool = False) -> TrainBatch:
        """The clips numbered `indices` (among the good ones), in that order; their samples too where a teacher listens."""
        video = self.frames(indices).permute(0, 1, 4, 2, 3) if with_video else None
        mels = np.stack([self._mels.get(self.rows[index], lambda row: self._row(row, "audio")) for index in indices])
        audio = torch.from_numpy(np.stack([self.samples(index) for index in indices])) if with_audio else None
        return TrainBatch(video=video, mel=torch.from_numpy(mels), audio=audio)

    def frames(self, indices: list[int]) -> Tensor:
        """uint8 (B, T, H, W, 3) of the clips numbered `indices`."""
        protocol = self.split.protocol
        video = torch.empty(len(indices), protocol.num_frames, protocol.resolution, protocol.resolution, 3, dtype=torch.uint8)
        for position, index in enumerate(indices):
            video[position].numpy()[...] = self._row(self.rows[index], "video")
        return video

    def samples(self, index: int) -> np.ndarray:
        """int16 (N,) of clip number `index`, mapped: a slice reads no more than itself."""
        return self._row(self.rows[index], "audio")

    def _row(self, row: int, kind: str) -> np.ndarray:
        rows: np.ndarray = self._open(row // shards.CLIPS_PER_SHARD, kind)
        return rows[row % shards.CLIPS_PER_SHARD]  # type: ignore[no-any-return]

    def _map(self, shard: int, kind: str) -> np.ndarray:
        path = shards.shard_path(self.split.root, shard * shards.CLIPS_PER_SHARD, kind)
        protocol = self.split.protocol
        shape = (protocol.num_frames, protocol.resolution, protocol.resolution, 3) if kind == "video" else (protocol.num_samples,)
        try:
            array = np.load(regular(path), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, AvbenchError) as error:
            raise AvbenchError(f"{path} cannot be read ({error}); avbench data verify {self.split.name}") from error
        if array.shape[1:] != shape or array.dtype != (np.uint8 if kind == "video" else np.int16):
            raise AvbenchError(
                f"{path} is {array.dtype} {array.shape}, not clips of {self.split.name}; delete it and prepare the split again"
            )
        return array


class MelCache:
    """Log-mels of a split's rows, float16 (80, F), beside its shards; each is computed when it is first asked for (6 ms of a core).

    Two sparse files, written in place: a row's flag is set after its values, so what another process or a kill leaves is either
    whole or computed again. Without a writable folder everything is computed every time.
    """

    def __init__(self, root: Path, rows: int, num_samples: int) -> None:
        self.frames = -(-num_samples // HOP)
        self._values: np.ndarray | None = None
        self._flags: np.ndarray | None = None
        try:
            self._values = _sparse(root / f"mel{MEL_FORMAT}.f16", np.float16, NUM_MELS * self.frames, rows)
            self._flags = _sparse(root / f"mel{MEL_FORMAT}.flags", np.uint8, 1, rows)
        except OSError:
            self._values = None

    def get(self, row: int, audio: Callable[[int], np.ndarray]) -> np.ndarray:
        """float16 (80, F) of `row`; `audio(row)` is its int16 samples."""
        if self._values is not None and self._flags is not None and self._flags[row, 0]:
            return self._values[row].reshape(NUM_MELS, self.frames)  # type: ignore[no-any-return]
        samples = torch.from_numpy(audio(row).astype(np.float32)) * INT16_SCALE
        mel = log_mel(samples).to(torch.float16).numpy()
        if self._values is not None and self._flags is not None:
            self._values[row] = mel.reshape(-1)
            self._flags[row] = 1
        return mel  # type: ignore[no-any-return]


def _sparse(path: Path, dtype: type, width: int, rows: int) -> np.ndarray:
    """A mapped file of at least `rows` rows; it grows as a split does."""
    size = rows * width * np.dtype(dtype).itemsize
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")
    with path.open("ab") as file:
        if file.tell() < size:
            file.truncate(size)
    return np.memmap(path, dtype=dtype, mode="r+", shape=(rows, width))


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which clips each step sees: epochs of random permutations, laid end to end and cut into steps."""

    num_clips: int
    batch_size: int
    seed: int

    def step(self, step: int) -> list[int]:
        """Clip numbers of optimiser step `step`."""
        first = step * self.batch_size
        positions = (divmod(position, self.num_clips) for position in range(first, first + self.batch_size))
        return [_permutation(self.num_clips, self.seed, epoch)[number] for epoch, number in positions]


@lru_cache(maxsize=4)
def _permutation(num_clips: int, seed: int, epoch: int) -> list[int]:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(num_clips).tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which clips of a step are this process's (number `part` of `parts`), in `accumulate` batches."""

    part: int = 0
    parts: int = 1
    accumulate: int = 1


class Pinnable(Protocol):
    """A batch that can be had in page-locked memory, for copies that do not wait."""

    def pinned(self) -> Self: ...


B = TypeVar("B", bound=Pinnable)


def micro_batches(
    read: Callable[[int, list[int]], B], order: Order, steps: Iterable[int], share: Share, device: torch.device, *, held: bool = False
) -> Iterator[B]:
    """For each step `share.accumulate` batches `read(step, clip numbers)`, read ahead by threads, pinned for a CUDA device.

    held: `read` takes them from the device's own memory, which queues work and waits for nothing.
    """
    accumulate, parts, part = share.accumulate, share.parts, share.part
    wanted = ((step, micro * parts + part) for step in steps for micro in range(accumulate))
    size = order.batch_size // (parts * accumulate)

    def read_position(step: int, position: int) -> B:
        batch = read(step, order.step(step)[position * size : (position + 1) * size])
        return batch.pinned() if device.type == "cuda" and not held else batch

    if held:
        yield from (read_position(*item) for item in wanted)
    else:
        yield from read_ahead(read_position, wanted, READ_THREADS.get(device.type, 1))


def read_ahead(read: Callable[[int, int], B], wanted: Iterator[tuple[int, int]], threads: int) -> Iterator[B]:
    """`read(*item)` of each item, in order, `threads` at work ahead of the one that is taken."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="clips")
    coming: deque[Future[B]] = deque()
    try:
        coming.extend(pool.submit(read, *item) for item in islice(wanted, threads * READ_AHEAD))
        while coming:
            batch = coming.popleft().result()
            coming.extend(pool.submit(read, *item) for item in islice(wanted, 1))
            yield batch
    finally:
        for future in coming:
            future.cancel()
        pool.shutdown(wait=True)


@dataclass(frozen=True, kw_only=True)
class Clips:
    """A split, and which of its good clips are used."""

    split: Split
    reader: ClipReader
    indices: range

    def chunks(self, size: int = 8) -> Iterator[list[int]]:
        """All of them, in parts."""
        for first in range(0, len(self.indices), size):
            yield list(self.indices[first : first + size])


def load_clips(split: str, limit: int | None, eval_clips: int) -> tuple[Clips, Clips]:
    """Training and held-out clips. Held out are the first of NAME-val where there is such a split, else the last of the split itself."""
    loaded = splits.load(split, limit=limit)
    reader = ClipReader(loaded)
    validation = split.removesuffix("-train") + "-val"
    if split.endswith("-train") and validation in plugins("split"):
        other = splits.load(validation, limit=eval_clips)
        other_reader = ClipReader(other)
        return Clips(split=loaded, reader=reader, indices=range(len(reader))), Clips(
            split=other, reader=other_reader, indices=range(len(other_reader))
        )
    kept = len(reader) - min(eval_clips, len(reader) // 5)
    if kept in (0, len(reader)):
        raise AvbenchError(f"{split} has {len(reader)} clips: too few to train on most and hold out some; at least 5 are needed")
    return Clips(split=loaded, reader=reader, indices=range(kept)), Clips(split=loaded, reader=reader, indices=range(kept, len(reader)))
