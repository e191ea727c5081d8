"""Prepared clips on disk: raw arrays in shards of a few hundred clips, and an index of one JSON line a clip.

    <root>/lock  index.jsonl  0000.video.npy (256, T, H, W, 3) uint8  0000.audio.npy (256, N) int16  0001.video.npy ...

The arrays are the reference: what a tokenizer gets and what it is compared with. Rows are only ever added; a line of the index is
written after its row is on disk, so whatever kills the writer, every row that the index names is whole. Shards are sparse files,
ordinary .npy (`numpy.load(..., mmap_mode="r")` opens them), read here row by row: no mapped pages pile up in a process.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avbench import locks
from avbench.data.convert import Int16, UInt8
from avbench.errors import AvbenchError
from avbench.files import open_regular, parse_json
from avbench.protocol import MAX_CLIP_BYTES, NATIVE, Protocol

CLIPS_PER_SHARD = 256  # 250 MB at the protocol of the built-in splits
MAX_OPEN = 64  # files that one reader keeps open
COMMIT_EVERY = 32  # clips that a killed writer loses at most


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the index. `failure` is None and `row` a place for a clip that is prepared; the other way round for one that failed.

    stamp: what the source said of the clip when it was made. sha256: of the video's bytes followed by the audio's.
    """

    id: str
    stamp: str
    pin: str
    row: int | None = None
    sha256: str = ""
    failure: str | None = None


def checksum(video: bytes | memoryview, audio: bytes | memoryview) -> str:
    """sha256 (hex) of the video's bytes followed by the audio's."""
    digest = hashlib.sha256(video)
    digest.update(audio)
    return digest.hexdigest()


def is_intact(entry: Entry, video: UInt8, audio: Int16) -> bool:
    """Whether arrays that were read are those that were written."""
    return checksum(video.data.cast("B"), audio.data.cast("B")) == entry.sha256


class Unwritable(AvbenchError):
    """Prepared clips cannot be written; those that are there can be read."""


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Alone at work in `root`; waits for another process that is. Raises Unwritable."""
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.alone(root / "lock", f"waiting for another process that is preparing {root} ..."))
        except OSError as error:
            raise cannot_write(root, error) from error
        yield


def cannot_write(root: Path, error: OSError) -> Unwritable:
    """The error for a full or unwritable disk."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cure = "Free some space, use --limit, or set" if full else "Make it writable, or set"
    return Unwritable(
        f"cannot write prepared clips to {root}: {error.strerror or error}. What is prepared stands. "
        f"{cure} AVBENCH_CACHE to a folder {'on a larger disk' if full else 'that can be written'}, and repeat the command"
    )


def read_index(root: Path) -> dict[str, Entry]:
    """id -> its latest entry. A last line that was cut off by a crash does not count; any other damage is an AvbenchError."""
    index = root / "index.jsonl"
    try:
        with open_regular(index) as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AvbenchError(f"{index} cannot be read: {error.strerror}; delete {root} and prepare the split again") from error
    entries: dict[str, Entry] = {}
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        entry = _entry(line)
        if entry is None:
            raise AvbenchError(f"{index} line {number} is damaged; delete {root} and prepare the split again")
        entries[entry.id] = entry
    return entries


def _line(entry: Entry) -> str:
    """A line of the index: the entry's fields, and the first 16 digits of the sha256 of the line without them."""
    fields = asdict(entry)
    return json.dumps({**fields, "check": _check(fields)}, ensure_ascii=True) + "\n"


def _entry(line: bytes) -> Entry | None:
    """What a line says; None for one that is damaged. Lines of avbench 0.1 and before have no check."""
    try:
        fields = parse_json(line)
        check = fields.pop("check", None)
        entry = Entry(**fields)
    except (ValueError, TypeError, AttributeError):
        return None
    texts = all(isinstance(text, str) for text in (entry.id, entry.stamp, entry.pin, entry.sha256))
    row = entry.row is None or (type(entry.row) is int and entry.row >= 0)
    return entry if texts and row and check in (None, _check(fields)) else None


def _check(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, ensure_ascii=True).encode()).hexdigest()[:16]


class Writer:
    """Adds clips to `root`. To be used under `lock(root)`; `close` (or leaving the `with` block) commits what was added."""

    def __init__(self, root: Path, protocol: Protocol) -> None:
        self.root = root
        self.protocol = protocol
        self._waiting: list[Entry] = []
        self._files: dict[Path, int] = {}
        entries = read_index(root).values()
        self._next_row = 1 + max((entry.row for entry in entries if entry.row is not None), default=-1)
        _drop_torn_line(root / "index.jsonl")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.commit()
        except OSError:
            if kind is None:
                raise
        finally:
            self._close()

    def add(self, clip_id: str, stamp: str, pin: str, video: bytes, audio: bytes, *, shape: tuple[int, ...] = ()) -> None:
        """A prepared clip. shape: of its video, where the protocol leaves that to the clip.

        Raises OSError where the disk is full: clips that were committed stand.
        """
        for kind, data in (("video", video), ("audio", audio)):
            if _by_clip(self.protocol, kind):
                self._write_whole(self._next_row, data, shape)
                continue
            assert len(data) == _row_bytes(self.protocol, kind), f"{clip_id}: {len(data)} bytes of {kind}"
            if data:
                self._write(kind, self._next_row, data)
        self._append(Entry(id=clip_id, stamp=stamp, pin=pin, row=self._next_row, sha256=checksum(video, audio)))
        self._next_row += 1

    def fail(self, clip_id: str, stamp: str, pin: str, reason: str) -> None:
        """A clip that could not be made."""
        self._append(Entry(id=clip_id, stamp=stamp, pin=pin, failure=reason))

    def commit(self) -> None:
        """Rows to disk, then their lines to the index."""
        if not self._waiting:
            return
        for descriptor in self._files.values():
            os.fsync(descriptor)
        self._close()
        lines = "".join(_line(entry) for entry in self._waiting)
        self._waiting = []
        with (self.root / "index.jsonl").open("a", encoding="ascii") as index:
            index.write(lines)
            index.flush()
            os.fsync(index.fileno())

    def _close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files = {}

    def _append(self, entry: Entry) -> None:
        self._waiting.append(entry)
        if len(self._waiting) >= COMMIT_EVERY:
            self.commit()

    def _write(self, kind: str, row: int, data: bytes) -> None:
        path = shard_path(self.root, row, kind)
        if path not in self._files:
            self._files[path] = _open_shard(path, self.protocol, kind)
        offset = _header_bytes(self._files[path]) + row % CLIPS_PER_SHARD * len(data)
        view = memoryview(data)
        while view:
            written = os.pwrite(self._files[path], view, offset)
            view, offset = view[written:], offset + written

    def _write_whole(self, row: int, data: bytes, shape: tuple[int, ...]) -> None:
        path = clip_path(self.root, row)
        with path.open("wb") as file:
            np.save(file, np.frombuffer(data, np.uint8).reshape(shape))
            file.flush()
            os.fsync(file.fileno())


def shard_path(root: Path, row: int, kind: str) -> Path:
    """The file that holds `kind` ("video", "audio") of a row."""
    return root / f"{row // CLIPS_PER_SHARD:04d}.{kind}.npy"


def clip_path(root: Path, row: int) -> Path:
    """The file that holds a row's video where every clip has a size of its own."""
    return root / f"clip-{row:08d}.video.npy"


def _by_clip(protocol: Protocol, kind: str) -> bool:
    return kind == "video" and protocol.num_frames > 0 and protocol.resolution == NATIVE


def _open_shard(path: Path, protocol: Protocol, kind: str) -> int:
    """A descriptor to write to; the file is made whole (header and length) under another name first."""
    if not path.exists():
        shape, dtype = _row_shape(protocol, kind)
        temporary = path.with_name(f".{path.name}.tmp")
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=(CLIPS_PER_SHARD, *shape))
        temporary.replace(path)
    return os.open(path, os.O_RDWR)


def _row_shape(protocol: Protocol, kind: str) -> tuple[tuple[int, ...], np.dtype]:
    """Of a modality that the protocol lacks: (0,)."""
    if kind == "video":
        size = (protocol.num_frames, protocol.resolution, protocol.resolution, 3)
        return size if protocol.num_frames else (0,), np.dtype("uint8")
    return (protocol.num_samples,) if protocol.channels == 1 else (protocol.channels, protocol.num_samples), np.dtype("<i2")


def _row_bytes(protocol: Protocol, kind: str) -> int:
    shape, dtype = _row_shape(protocol, kind)
    return int(np.prod(shape)) * dtype.itemsize


def _header_bytes(descriptor: int) -> int:
    """Length of a .npy file's header (format 1.0: 10 bytes and what bytes 8-9 say)."""
    return 10 + int.from_bytes(os.pread(descriptor, 2, 8), "little")


def _drop_torn_line(index: Path) -> None:
    if index.exists():
        data = index.read_bytes()
        if not data.endswith(b"\n") and data:
            with index.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)


def read_rows(root: Path, rows: Iterable[int], protocol: Protocol) -> Iterator[tuple[UInt8, Int16] | None]:
    """Video uint8 (T, H, W, 3) and audio int16 (N,) or (C, N) of each row, empty of what the protocol lacks; None for a row whose shard
    is missing or too short."""
    descriptors: dict[Path, int] = {}
    try:
        for row in rows:
            video, audio = (_read(descriptors, root, row, protocol, kind) for kind in ("video", "audio"))
            yield None if video is None or audio is None else (video, audio)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _read(descriptors: dict[Path, int], root: Path, row: int, protocol: Protocol, kind: str) -> np.ndarray | None:
    if _by_clip(protocol, kind):
        return _read_whole(clip_path(root, row), protocol)
    path, (shape, dtype) = shard_path(root, row, kind), _row_shape(protocol, kind)
    if 0 in shape:
        return np.empty(0, dtype)
    try:
        if path not in descriptors:
            while len(descriptors) >= MAX_OPEN:
                os.close(descriptors.pop(next(iter(descriptors))))
            with open_regular(path) as file:
                descriptors[path] = os.dup(file.fileno())
        size = _row_bytes(protocol, kind)
        data = os.pread(descriptors[path], size, _header_bytes(descriptors[path]) + row % CLIPS_PER_SHARD * size)
    except OSError:
        return None
    return np.frombuffer(bytearray(data), dtype=dtype).reshape(shape) if len(data) == size else None


def _read_whole(path: Path, protocol: Protocol) -> np.ndarray | None:
    """(T, H, W, 3); None for a file that is no such array."""
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_CLIP_BYTES:
                return None
            video = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return video if video.dtype == np.uint8 and video.ndim == 4 and len(video) == protocol.num_frames and video.shape[3] == 3 else None
