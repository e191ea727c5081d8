"""Lists of clips, so that two labs evaluate the same ones: who has what, and a split cut down to what both have.

A list is a CSV with the columns id, label, sha256 (of the file, or of an emulator's raw output), seconds, start, note. A list that was
imported lies in <cache>/lists, and `SPLIT@NAME` is the split with its clips alone. A clip that is on the list and not here, or not the
same here, is a failed row: the list says what is evaluated.
"""

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avbench.data.batches import Split
from avbench.data.source import Made, Source
from avbench.errors import UsageError
from avbench.files import atomic, disk_errors, read_bytes
from avbench.paths import cache_root
from avbench.protocol import Protocol
from avbench.types import ClipRef

COLUMNS = ("id", "label", "sha256", "seconds", "start", "note")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A line: a clip, and the sha256 of what it was made from, "" where the list does not say."""

    id: str
    sha256: str = ""


def export(split: Split) -> str:
    """The split's clips as a CSV. `note`: why a clip failed here. start: "middle" of the file, or seconds."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    start = "middle" if split.protocol.start_s is None else f"{split.protocol.start_s:g}"
    for clip, entry in zip(split.clips, split.entries, strict=True):
        writer.writerow([clip.id, clip.label or "", entry.pin, f"{split.protocol.duration_s:g}", start, entry.failure or ""])
    return file.getvalue()


def read(path: Path) -> list[Listed]:
    """The clips of a list; lines with a note (they failed where the list was made) are left out. Raises UsageError for anything else."""
    try:
        rows = csv.DictReader(io.StringIO(read_bytes(path, MAX_BYTES).decode("utf-8-sig")), strict=True)
        if "id" not in (rows.fieldnames or ()):
            raise UsageError(f"{path} has no column id; avbench data export-list SPLIT writes a list")
        found: dict[str, Listed] = {}
        for row in rows:
            name, sha256 = str(row["id"] or ""), str(row.get("sha256") or "").lower()
            if not name or name in found or (sha256 and not re.fullmatch(r"[0-9a-f]{32,64}", sha256)):
                raise UsageError(f"{path} line {rows.line_num}: no id, one that is there twice, or a sha256 that is none")
            if not row.get("note"):
                found[name] = Listed(id=name, sha256=sha256)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not found:
        raise UsageError(f"{path} names no clip")
    return list(found.values())


def keep(split: str, name: str, listed: Sequence[Listed]) -> Path:
    """Store a list under `SPLIT@NAME`. Raises UsageError for a name of other letters."""
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: letters, digits, dots, dashes and underscores")
    path = _path(split, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(path.parent, "repeat the command"), atomic(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "sha256"))
        writer.writerows((clip.id, clip.sha256) for clip in listed)
    return path


def cut_down(source: Source, split: str, name: str) -> Source:
    """The source with the clips of a stored list alone. Raises UsageError where there is none of that name."""
    path = _path(split, name)
    if not path.is_file():
        raise UsageError(f"no list {name} for {split}; avbench data import-list {split} LIST.csv --name {name} makes one")
    return Part(source, f"{split}@{name}", read(path))


class Part:
    """A `Source`: those clips of another that a list names, in the other's order, and then the listed ones that it lacks."""

    def __init__(self, whole: Source, name: str, listed: Sequence[Listed]) -> None:
        wanted = {clip.id: clip.sha256 for clip in listed}
        self.whole, self.name = whole, name
        self._numbers = [number for number, clip in enumerate(whole.clips) if clip.id in wanted]
        here = [whole.clips[number] for number in self._numbers]
        absent = sorted(wanted.keys() - {clip.id for clip in here})
        self.clips = (*here, *(ClipRef(id=clip, label=None) for clip in absent))
        self._sha256 = [wanted[clip.id] for clip in self.clips]
        missing = f"; {len(absent):,} of them are not here" if absent else ""
        self.note = f"the {len(wanted):,} clips of list {name.rpartition('@')[2]}{missing}"
        self.protocol, self.num_official, self.train_split = whole.protocol, len(wanted), whole.train_split
        self.root, self.decoder = whole.root, whole.decoder

    def at(self, protocol: Protocol) -> "Part":
        """See `Source.at`."""
        listed = [Listed(id=clip.id, sha256=sha256) for clip, sha256 in zip(self.clips, self._sha256, strict=True)]
        whole = self.whole.at(protocol)
        return Part(whole, whole.name.replace(self.whole.name, self.name, 1), listed)

    def file(self, index: int) -> Path | None:
        """The whole's."""
        return self.whole.file(self._numbers[index]) if index < len(self._numbers) else None

    def expected(self, index: int) -> str:
        """What the list says; else what the whole does."""
        return self._sha256[index] or (self.whole.expected(self._numbers[index]) if index < len(self._numbers) else "")

    def stamp(self, index: int) -> str:
        """The whole's."""
        return self.whole.stamp(self._numbers[index]) if index < len(self._numbers) else "absent"

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        """The whole's clips. One that is not here fails; so does one of another content than the list's."""
        place = {number: index for index, number in enumerate(self._numbers)}
        there = [self._numbers[index] for index in indices if index < len(self._numbers)]
        for index in indices:
            if index >= len(self._numbers):
                yield Made(index=index, pin="", failure="is on the list and not here")
        for made in self.whole.make(there, jobs) if there else ():
            yield replace(made, index=place[made.index])


def _path(split: str, name: str) -> Path:
    if os.sep in split or split.startswith("folder:"):
        raise UsageError("lists are of named splits; of a folder, copy or link the files that are meant")
    return cache_root() / "lists" / f"{split}@{name}.csv"
