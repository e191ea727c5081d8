"""`avbench submit RUN --to results/`: a finished run as a folder that others can check (avbench/board/submission.py says what is in it)."""

import getpass
import gzip
import hashlib
import io
import json
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avbench.board.results import read_result
from avbench.board.submission import MAX_FEATURES_BYTES, MAX_TOKENS_BYTES, SCHEMA, TEMPLATE, TOKEN_FILE, Card, place_of, read_card
from avbench.errors import AvbenchError, UsageError
from avbench.files import atomic, disk_errors, parse_json, read_bytes, read_json, read_lines
from avbench.run.finished import MAX_CLIPS_BYTES, MAX_RESULT_BYTES

MAX_FILE_BYTES = 2**32  # of a run's features, or of a file of its tokens
_PATH = re.compile(r"(?<![\w./~-])(?:~|[A-Za-z]:[\\/]|/(?!/))[^\s,;:'\"()+=?&<>]+|(?:\.\.[\\/])+")
_OWN = ("verified", "schema", "checksums", "kept")  # of a manifest: what no run says of itself


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What was written. notes: what its reader should know, in words."""

    folder: Path
    card: Card
    replaced: bool
    notes: tuple[str, ...]


def submit(run: Path, to: Path, *, card: Path = Path("card.yaml")) -> Submitted:
    """Write the finished `run` below `to`, in place of an earlier submission of the same tokenizer, split and protocol.

    Raises UsageError where there is no card (a template is written) or it is not filled in, AvbenchError for a run that is not finished,
    or whose decoder had more than the bytes to go by.
    """
    if not (run / "result.json").is_file():
        raise AvbenchError(f"run {run} is not finished: the command that began it resumes it; a run's folder is runs/<run_id>")
    result = read_result(run)
    manifest = read_json(run / "manifest.json", MAX_RESULT_BYTES)
    if manifest.get("isolated") is not True and result.kind != "control":
        raise AvbenchError(
            f"run {run} did not decode in another process (isolated: false), so its numbers cannot be verified; "
            "run the tokenizer by its name or as path/to/file.py:Class, not as an object"
        )
    if not card.is_file():
        with disk_errors(card, "repeat the command"), atomic(card, "w") as file:
            file.write(TEMPLATE)
        raise UsageError(f"a submission needs a card: {card} is written; fill in who, contact, trained_on, licence and link, and repeat")
    try:
        said = read_card(card)
    except AvbenchError as error:
        raise UsageError(str(error)) from error
    folder, replaced = write_submission(run, to, read_bytes(card, 2**20))
    notes = (*_notes(folder), *_overlap(result.split, said.training_split))
    return Submitted(folder=folder, card=said, replaced=replaced, notes=notes)


def write_submission(run: Path, to: Path, card: bytes) -> tuple[Path, bool]:
    """The folder of a run's files below `to`, and whether it took an earlier one's place. Nothing is checked here."""
    with disk_errors(to, "repeat the command"):
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to, prefix=".submit-") as temporary:
            part = Path(temporary) / "row"
            part.mkdir()
            result = without_paths(parse_json(read_bytes(run / "result.json", MAX_RESULT_BYTES)))
            manifest = _without_names(read_json(run / "manifest.json", MAX_RESULT_BYTES))
            _write(part / "result.json", read_bytes(run / "result.json", MAX_RESULT_BYTES), result)
            (part / "clips.jsonl.gz").write_bytes(packed(b"".join(map(_line, read_lines(run / "clips.jsonl", MAX_CLIPS_BYTES)))))
            (part / "card.yaml").write_bytes(card)
            kept = {"features": _features(run, part), "tokens": _tokens(run, part)}
            seal(part, manifest | {"schema": SCHEMA, "kept": kept})
            folder = to / place_of(result, manifest)
            folder.parent.mkdir(parents=True, exist_ok=True)
            replaced = folder.exists()
            if replaced:
                folder.rename(Path(temporary) / "earlier")
            part.rename(folder)
    return folder, replaced


def seal(folder: Path, manifest: dict[str, Any] | None = None) -> None:
    """Write the manifest (None: the one that is there) with the checksums of the other files as they are."""
    content = read_json(folder / "manifest.json", MAX_RESULT_BYTES) if manifest is None else manifest
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    sums = {name: hashlib.sha256(read_bytes(path, MAX_FILE_BYTES)).hexdigest() for name, path in files.items() if name != "manifest.json"}
    with atomic(folder / "manifest.json", "w") as file:
        file.write(json.dumps(content | {"checksums": sums}, indent=1) + "\n")


def packed(data: bytes) -> bytes:
    """`data` as gzip, the same bytes for the same data: no time and no name in it."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as file:
        file.write(data)
    return out.getvalue()


def without_paths(content: Any) -> Any:
    """JSON whose texts keep the last part of each absolute path: where a machine keeps its files is nobody's business."""
    if isinstance(content, str):
        return _PATH.sub(lambda match: re.split(r"[\\/]", match[0].rstrip("\\/"))[-1].strip("~."), content)
    if isinstance(content, list):
        return [without_paths(item) for item in content]
    return {key: without_paths(value) for key, value in content.items()} if isinstance(content, dict) else content


def _without_names(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without paths, and without this machine's and this user's names in what is not the name of a tokenizer or split."""
    content = {key: without_paths(value) for key, value in manifest.items() if key not in _OWN}
    private = [name for name in _private_names() if len(name) > 2]
    for key in ("command", "hardware", "unavailable"):
        text = json.dumps(content.get(key))
        for name in private:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "...", text)
        content |= {key: json.loads(text)} if key in content else {}
    return content


def _private_names() -> Iterator[str]:
    yield socket.gethostname()
    try:
        yield getpass.getuser()
    except (KeyError, OSError):  # a user without an entry
        return


def _write(path: Path, before: bytes, content: Any) -> None:
    """`before`, byte for byte, if it says `content`; else the content anew."""
    path.write_bytes(before if parse_json(before) == content else (json.dumps(content, indent=1) + "\n").encode())


def _line(line: bytes) -> bytes:
    row = parse_json(line)
    clean = without_paths(row) if isinstance(row, dict) and (row.get("reason") or row.get("errors")) else row
    return line if clean == row else (json.dumps(clean | {"id": row["id"], "label": row.get("label")}) + "\n").encode()


def _features(run: Path, part: Path) -> str:
    """Copy them if they are small enough; what the manifest says of them."""
    path = run / "features.npz"
    if not path.exists():
        return "not kept"
    size = path.stat().st_size
    if size > MAX_FEATURES_BYTES:
        return f"left out: {size:,} bytes, over {MAX_FEATURES_BYTES:,}"
    (part / path.name).write_bytes(read_bytes(path, MAX_FEATURES_BYTES))
    return path.name


def _tokens(run: Path, part: Path) -> str:
    """Copy them, or their digests; what the manifest says of them."""
    paths = sorted(path for path in (run / "tokens").glob("*") if TOKEN_FILE.fullmatch(path.name))
    if not paths:
        return "not kept"
    if sum(path.stat().st_size for path in paths) > MAX_TOKENS_BYTES:
        lines = [f"{hashlib.sha256(read_bytes(path, MAX_FILE_BYTES)).hexdigest()}  {path.name}\n" for path in paths]
        (part / "tokens.sha256").write_text("".join(lines))
        return "tokens.sha256"
    (part / "tokens").mkdir()
    for path in paths:
        shutil.copyfile(path, part / "tokens" / path.name)
    return "tokens/"


def _overlap(split: str, training: str) -> Iterator[str]:
    """What is found of the training clips that the card names, where both splits are prepared here."""
    if not training:
        return
    from avbench.data import splits
    from avbench.data.overlap import overlap, summary

    try:
        both = [splits.prepared(name) for name in (split, training)]
        absent = [name for name, found in zip((split, training), both, strict=True) if found is None]
        if absent:
            yield f"overlap with {training}: n/a, not prepared here: {' and '.join(absent)} (avbench data prepare NAME)"
            return
        a, b = (found for found in both if found is not None)
        pairs = list(overlap(a, b))
    except AvbenchError as error:
        yield f"overlap with {training}: n/a, {error}"
        return
    yield "; ".join([f"overlap: {summary(pairs, a, b)}", *map(str, pairs[:3])])


def _notes(folder: Path) -> Iterator[str]:
    row = read_result(folder)
    manifest = read_json(folder / "manifest.json", MAX_RESULT_BYTES)
    if "_first-" in folder.name:
        yield f"the first {row.num_clips} clips only: a board shows it in a group of its own"
    if row.num_failed:
        yield f"{row.num_failed} of {row.num_clips} clips failed: the row is shown, not ranked"
    for what, found in manifest["kept"].items():
        if not (folder / found).exists():
            yield f"{what} {found}: {'distribution metrics' if what == 'features' else 'bits'} cannot be recomputed by others"
        elif found == "tokens.sha256":
            yield f"the kept bytes are over {MAX_TOKENS_BYTES:,}: only their digests are in it; keep the run's tokens/ for whoever verifies"
