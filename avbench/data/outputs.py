"""Finished clips of somebody's, beside the clips that they stand for: which file belongs to which, and a `Source` of those files.

Both sides go through the same reader: the same stretch of time, resize and resampling. A pair whose lengths or shapes differ fails with
the reason; nothing is stretched, and nothing is cut but to the stretch that is measured.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from avbench.data.files import EXTENSIONS, MAX_NAMED, SOUND_EXTENSIONS, decoded, find_videos
from avbench.data.folder import clip_of
from avbench.data.source import Made, Source
from avbench.errors import AvbenchError, UsageError
from avbench.files import read_lines
from avbench.paths import cache_root
from avbench.protocol import Protocol
from avbench.types import ClipRef

FRAME_EXTENSIONS = frozenset([".png"])
MAX_LIST_BYTES = 2**28
COLUMNS = ("reference", "output")  # of --pairs; "bytes" may follow


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Clip id -> what stands for it, and its size where its maker states one. left: outputs that stand for nothing."""

    paths: dict[str, Path]
    sizes: dict[str, int]
    left: tuple[str, ...] = ()


def find_outputs(folder: Path) -> dict[str, list[Path]]:
    """Name without its suffix, relative to `folder` -> the files of that name; a folder of PNGs counts as one file.

    Raises AvbenchError where there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise AvbenchError(f"{folder} is not a folder of clips")
    root = folder.resolve()
    found: dict[str, list[Path]] = {}
    for path in find_videos(root, EXTENSIONS | SOUND_EXTENSIONS)[0]:
        found.setdefault(_key(path.relative_to(root)), []).append(path)
    for path in {frame.parent for frame in find_videos(root, FRAME_EXTENSIONS)[0]} - {root}:
        found.setdefault(clip_of(path.relative_to(root)).id, []).append(path)
    if not found:
        kinds = ", ".join(sorted(EXTENSIONS | SOUND_EXTENSIONS))
        raise AvbenchError(f"nothing to score below {folder}; looked for {kinds}, and folders of .png")
    return found


def kinds_of(paths: Sequence[Path]) -> frozenset[str]:
    """The modalities that files of these names can have: sound files sound alone, folders of PNGs pictures alone."""
    if all(path.suffix.lower() in SOUND_EXTENSIONS for path in paths):
        return frozenset(["audio"])
    if all(path.is_dir() for path in paths):
        return frozenset(["video"])
    return frozenset(["video", "audio"])


def alone(folder: Path) -> tuple[tuple[ClipRef, ...], tuple[Path, ...]]:
    """Every output below `folder` as a clip of its own, by name. Raises AvbenchError where there is none."""
    root = folder.resolve()
    paths = sorted((path for found in find_outputs(folder).values() for path in found), key=os.fsencode)
    return tuple(clip_of(path.relative_to(root)) for path in paths), tuple(paths)


def pair_by_name(clips: Sequence[ClipRef], folder: Path) -> Pairing:
    """Outputs to clips of the same name below both folders, whatever their suffixes.

    Raises UsageError where none belongs to any clip, or where two outputs have one name.
    """
    found = find_outputs(folder)
    twice = [paths for paths in found.values() if len(paths) > 1]
    if twice:
        names = ", ".join(path.name for path in twice[0])
        raise UsageError(f"{len(twice)} names below {folder} are there more than once, e.g. {names}; remove one of them, or give --pairs")
    wanted = {os.path.splitext(clip.id)[0]: clip.id for clip in clips}
    paths = {wanted[name]: paths[0] for name, paths in found.items() if name in wanted}
    if not paths:
        some, other = next(iter(wanted)), next(iter(found))
        raise UsageError(
            f"no output below {folder} has the name of a reference: a reference is called {some!r}, an output {other!r}. "
            "Name them alike, give --pairs LIST.csv with the columns reference,output, or compare the two as sets: --unpaired"
        )
    left = tuple(sorted(set(found) - set(wanted)))
    return Pairing(paths=paths, sizes={}, left=left)


def pair_by_list(clips: Sequence[ClipRef], folder: Path, file: Path) -> Pairing:
    """The pairs of a CSV with the columns reference (a clip's id), output (a path below `folder`) and, if it likes, bytes.

    Raises UsageError for a missing column, a reference or output that is not there, or one that is there twice.
    """
    ids = {clip.id for clip in clips}
    root = folder.resolve()
    paths: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    for line, row in _rows(file):
        where = f"{file} line {line}"
        name, output = row["reference"], root / row["output"]
        if name not in ids:
            continue  # of --limit, or of a larger list
        if name in paths:
            raise UsageError(f"{where}: {name} has an output already")
        if not output.resolve().is_relative_to(root):
            raise UsageError(f"{where}: {row['output']} is not below {folder}")
        paths[name] = output
        if row.get("bytes"):
            if not (row["bytes"].isascii() and row["bytes"].isdigit() and len(row["bytes"]) < 13):
                raise UsageError(f"{where}: bytes is {row['bytes']!r}, not a whole number")
            sizes[name] = int(row["bytes"])
    if not paths:
        raise UsageError(f"{file} names no reference of these {len(clips)} clips; the first is {clips[0].id!r}")
    return Pairing(paths=paths, sizes=sizes)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """A `Source` of outputs: clip k stands for clip k of a reference, with its id and label; unless `paired`, for itself.

    fps: of folders of PNGs.
    """

    name: str
    clips: tuple[ClipRef, ...]
    paths: tuple[Path | None, ...] = field(repr=False)
    like: tuple[Path | None, ...] = field(repr=False)  # the reference's file: what lies where in time
    protocol: Protocol
    like_kinds: tuple[str, ...] = ("audio", "video")  # of the reference's protocol: its pictures say where its middle is
    fps: float | None = None
    paired: bool = True
    note: str = ""
    train_split: str | None = None

    @property
    def num_official(self) -> int:
        """All clips of the reference."""
        return len(self.clips)

    @property
    def root(self) -> Path:
        """Of these files at this protocol alone."""
        folders = sorted({os.fspath(path.parent) for path in self.paths if path is not None})
        facts = [self.protocol.facts(), self.fps, folders, *([] if self.paired else ["unpaired"])]
        return cache_root() / "prepared" / f"outputs-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"

    @property
    def decoder(self) -> str:
        """What decodes the files here."""
        from avbench.data.decode import identity  # loads FFmpeg

        return identity()

    def at(self, protocol: Protocol) -> Source:
        """Outputs are read as their references are."""
        raise UsageError("outputs are read at the protocol of their references")

    def file(self, index: int) -> Path | None:
        """Its path."""
        return self.paths[index]

    def expected(self, index: int) -> str:
        """Anything: it is their maker's."""
        return ""

    def stamp(self, index: int) -> str:
        """Sizes and times of change of the output and its reference, and what decodes them."""
        files = (self.paths[index], self.like[index])
        return ":".join([hashlib.sha256(self.decoder.encode()).hexdigest()[:12], *(_stamp(path) for path in files)])

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        """Decodes in worker processes."""
        there = [index for index in indices if self.paths[index] is not None]
        for index in set(indices) - set(there):
            yield Made(index=index, pin="", failure="has no output of its name")
        for made in decoded([self._request(index) for index in there], there, jobs):
            yield replace(made, failure=f"its output {made.failure}") if made.failure is not None and self.paired else made

    def _request(self, index: int) -> dict[str, Any]:
        path, like = (None if file is None else os.fspath(file) for file in (self.paths[index], self.like[index]))
        asked = {"like": like, "like_kinds": self.like_kinds, "fps": self.fps, "paired": self.paired}
        return {"path": path, "protocol": asdict(self.protocol), **asked}


def named(names: Sequence[str]) -> str:
    """The first few of them, for a message."""
    return ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")


def _key(relative: Path) -> str:
    return os.path.splitext(clip_of(relative).id)[0]


def _stamp(path: Path | None) -> str:
    if path is None:
        return "none"
    try:
        facts = path.stat()
    except OSError:
        return "gone"
    if not path.is_dir():
        return f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ctime_ns}"
    frames = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in os.scandir(path))
    return hashlib.sha256(json.dumps(frames).encode()).hexdigest()[:16]


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    lines = (line.decode("utf-8-sig" if number == 0 else "utf-8") for number, line in enumerate(read_lines(file, MAX_LIST_BYTES)))
    try:
        reader = csv.DictReader(lines, strict=True)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(f"{file} has no column {' and no column '.join(missing)}; wanted: reference,output and, if known, bytes")
        for row in reader:
            if None in row or None in row.values():
                raise UsageError(f"{file} line {reader.line_num}: not as many fields as the first line has names")
            yield reader.line_num, {name: str(value).strip() for name, value in row.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is no CSV file in UTF-8: {error}") from error
