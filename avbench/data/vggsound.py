"""vggsound-train, vggsound-test and tavgbench-test: the user's own copy of a published list of clips, below AVBENCH_DATA.

The lists name YouTube clips; many have vanished since. A clip whose file is not there is no clip of the split: it is counted in the
note, and the split's checksum is that of what is there.
"""

import csv
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from avbench.data.files import MAX_NAMED, Files, find_videos
from avbench.errors import AvbenchError
from avbench.paths import cache_root, data_root
from avbench.types import ClipRef


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a list: a clip that starts `start` seconds into YouTube video `video`."""

    video: str
    start: int
    label: str | None
    part: str

    @property
    def id(self) -> str:
        """`<video>_<start, six digits>`, as the files are usually called."""
        return f"{self.video}_{self.start:06d}"


def vggsound_train() -> Files:
    """Entry point of vggsound-train."""
    return _split("vggsound-train", "vggsound.csv", "train", "vggsound-train")


def vggsound_test() -> Files:
    """Entry point of vggsound-test."""
    return _split("vggsound-test", "vggsound.csv", "test", "vggsound-train")


def tavgbench_test() -> Files:
    """Entry point of tavgbench-test. The list is not in a public repository: bring it as rows `YouTube id,start second,caption`."""
    return _split("tavgbench-test", "tavgbench.csv", "test", None)


def _split(name: str, list_name: str, part: str, train_split: str | None) -> Files:
    folder = data_root() / name.rpartition("-")[0]
    columns = 4 if list_name == "vggsound.csv" else 3
    rows, repeated = read_list(folder / list_name, columns)
    official = [row for row in rows if row.part == part]
    found, links = find_files(folder, official)
    here = [row for row in official if row.id in found]
    return Files(
        name=name,
        clips=tuple(ClipRef(id=row.id, label=row.label) for row in here),
        paths=tuple(found[row.id] for row in here),
        num_official=len(official),
        note=_note(official, found, repeated, links),
        train_split=train_split,
        root=cache_root() / "prepared" / f"{name}-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}",
    )


def read_list(path: Path, columns: int) -> tuple[list[Row], int]:
    """The rows of a list in its order, and how many were there twice (kept once). No header line.

    columns: 4 for `id,start,"label, may have commas",train|test` (VGGSound's own format), 3 for `id,start,caption` (all "test").
    Raises AvbenchError where there is no list, and for rows that are not of that form, named by line.
    """
    layout = 'rows `YouTube id,start second,"label",train or test`' if columns == 4 else "rows `YouTube id,start second,caption`"
    if not path.is_file():
        raise AvbenchError(
            f"no {path}. Put the official list ({layout}) there and the videos anywhere in or below {path.parent}, "
            "called <id>_<start>.mp4 (AVBENCH_DATA names the folder above)"
        )
    rows: dict[str, Row] = {}
    bad: list[str] = []
    repeated = 0
    for line, fields in _fields(path):
        row = _row(fields, columns)
        if isinstance(row, str):
            bad.append(f"line {line}: {row}")
        elif rows.setdefault(row.id, row) != row:
            bad.append(f"line {line}: {row.id} is there before with another label or split")
        else:
            repeated += rows[row.id] is not row
    if bad:
        more = f" and {len(bad) - MAX_NAMED} more" if len(bad) > MAX_NAMED else ""
        raise AvbenchError(f"{path}: {'; '.join(bad[:MAX_NAMED])}{more}. Wanted: {layout}, no header")
    return list(rows.values()), repeated


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every line that is not blank."""
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                first, line = line + 1, reader.line_num
                if fields:
                    yield first, fields
    except (csv.Error, UnicodeDecodeError) as error:
        raise AvbenchError(f"{path} is no CSV file in UTF-8: the row that begins in line {line + 1}: {error}") from error


def _row(fields: list[str], columns: int) -> Row | str:
    """The row, or what is wrong with it."""
    if len(fields) != columns:
        return f"{len(fields)} columns, not {columns}"
    video, start, label = (field.strip() for field in fields[:3])
    part = fields[3].strip() if columns == 4 else "test"
    if not video or "/" in video or "\\" in video:
        return f"{video!r} is no YouTube id"
    if not (start.isascii() and start.isdigit()) or len(start) > 7:
        return f"start {start!r} is not a whole number of seconds"
    if part not in ("train", "test"):
        return f"split {part!r} is neither train nor test"
    return Row(video=video, start=int(start), label=label or None, part=part)


def find_files(folder: Path, rows: list[Row]) -> tuple[dict[str, Path], str]:
    """Clip id -> its file below `folder`, and a note about links; of two files for one clip, the first by path."""
    ids = {row.id for row in rows}
    found: dict[str, Path] = {}
    paths, note = find_videos(folder)
    for path in paths:
        for candidate in _ids(path.stem):
            if candidate in ids:
                found.setdefault(candidate, path)
    return found, note


def _ids(stem: str) -> Iterator[str]:
    """What a file may be called: `<id>_30`, `<id>_000030` (seconds) or `<id>_30000_40000` (milliseconds). Ids may contain "_"."""
    head, _, last = stem.rpartition("_")
    if not (head and _is_number(last)):
        return
    yield f"{head}_{int(last):06d}"
    video, _, first = head.rpartition("_")
    if video and _is_number(first) and int(first) < int(last) and int(first) % 1000 == 0:
        yield f"{video}_{int(first) // 1000:06d}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12


def _note(official: list[Row], found: dict[str, Path], repeated: int, links: str) -> str:
    missing = [row.id for row in official if row.id not in found]
    notes = []
    if missing:
        named = ", ".join(missing[:MAX_NAMED])
        notes.append(f"{len(found):,} of {len(official):,} official clips found; {len(missing):,} missing, e.g. {named}")
    if repeated:
        notes.append(f"{repeated:,} repeated rows of the list kept once")
    return "; ".join([*notes, links] if links else notes)
