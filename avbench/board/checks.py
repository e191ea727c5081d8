"""What `avbench validate` looks at in the folder of one row: each check yields what is wrong, in words. Nothing there is trusted."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from avbench.board.clips import RunClips
from avbench.board.recompute import DISTRIBUTIONS, own_metrics, recompute
from avbench.board.results import RunResult, read_result
from avbench.board.submission import NEEDED, OPTIONAL, SCHEMA, TOKEN_FILE, place_of, problem_of_id, problem_of_name, read_card
from avbench.data.arcade import Arcade, pinned
from avbench.errors import AvbenchError
from avbench.files import read_bytes, read_json
from avbench.run import payload
from avbench.run.finished import MAX_RESULT_BYTES, is_number, read_clips
from avbench.run.store import read_tokens
from avbench.stats import VERSION as INTERVALS
from avbench.types import MetricValue

MAX_FILE_BYTES = 2**26
MAX_FILES = 20_000  # of tokens/: a file a batch
MEANS = 1e-6  # relative: a mean, its interval and a rate, on any machine
DISTANCES = 1e-4  # relative: of a matrix's singular values, by other libraries
VERIFIED = ("by", "when", "code", "tolerance", "clips", "reencoded", "walls")


@dataclass(frozen=True)
class Folder:
    """A row's folder, its files read as they are needed. Each property raises AvbenchError for a file that is damaged."""

    path: Path

    @property
    def name(self) -> str:
        """`<tokenizer>/<revision>/<split>_<protocol>`"""
        return "/".join(self.path.parts[-3:])

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """manifest.json"""
        return read_json(self.path / "manifest.json", MAX_RESULT_BYTES)

    @cached_property
    def content(self) -> dict[str, Any]:
        """result.json"""
        return read_json(self.path / "result.json", MAX_RESULT_BYTES)

    @cached_property
    def result(self) -> RunResult:
        """result.json, checked and bounded"""
        return read_result(self.path)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """clips.jsonl.gz"""
        return read_clips(self.path)

    @cached_property
    def clips(self) -> RunClips:
        """The ok clips, with their features"""
        return RunClips.read(self.path)

    @cached_property
    def split(self) -> Arcade | None:
        """The split, where every machine has the same."""
        return pinned(self.result.split)

    @property
    def limit(self) -> int | None:
        """Of the run: its first clips only."""
        return self.content["spec"].get("limit")

    @cached_property
    def tokens(self) -> dict[str, bytes]:
        """Clip id -> its kept bytes; empty where there are none."""
        files = sorted((self.path / "tokens").glob("*.avt"))
        return {clip: data for file in files for clip, data in read_tokens(file).items()}


def problems(folder: Folder) -> Iterator[str]:
    """Everything that is wrong with a folder; files that cannot be read end it."""
    try:
        wrong = [*_files(folder), *_schema(folder)]
        yield from wrong
        if wrong:
            return
        for check in (_checksums, _names, _card, _clips, _split, _values, _tokens):
            yield from check(folder)
    except AvbenchError as error:
        yield str(error).replace(f"{folder.path}/", "")


def remarks(folder: Folder) -> Iterator[str]:
    """What cannot be checked, and is no fault."""
    kept = [name for name in ("features.npz", "tokens") if (folder.path / name).exists()]
    if "features.npz" not in kept:
        names = sorted(name for name, value in folder.result.values.items() if name in DISTRIBUTIONS and value.value is not None)
        if names:
            yield f"{', '.join(names)} cannot be recomputed: no features"
    if exception := read_card(folder.path / "card.yaml").exception:
        yield f"its pledge has an exception: {exception}"
    if "tokens" not in kept:
        yield "bits cannot be counted again: no tokens" + (" but their sha256" if (folder.path / "tokens.sha256").exists() else "")


def _files(folder: Folder) -> Iterator[str]:
    listed = sorted(folder.path.rglob("*"))
    if len(listed) > MAX_FILES:
        yield f"{len(listed):,} files; at most {MAX_FILES:,}"
        return
    for name in NEEDED:
        if not (folder.path / name).exists():
            how = ": avbench submit writes it from a card that is filled in" if name == "card.yaml" else ""
            yield f"{name} is missing{how}"
    for path in listed:
        name = path.relative_to(folder.path).as_posix()
        known = name in (*NEEDED, *OPTIONAL, "tokens") or (name.startswith("tokens/") and TOKEN_FILE.fullmatch(name[7:]))
        if path.is_symlink():
            yield f"{name!a} is a link"
        elif not known:
            yield f"{name!a} belongs to no submission"


def _schema(folder: Folder) -> Iterator[str]:
    schema, intervals = folder.manifest.get("schema"), folder.content.get("intervals")
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        yield f"schema {schema!r} is newer than {SCHEMA}: pip install -U avbench" if newer else f"schema is {schema!r}, not {SCHEMA}"
    elif isinstance(intervals, int) and intervals > INTERVALS:
        yield f"its intervals are of version {intervals}, newer than {INTERVALS}: pip install -U avbench"
    elif intervals != INTERVALS:
        yield f"its intervals are of version {intervals!r}, not {INTERVALS}: repeat the avbench run command, then submit again"


def _checksums(folder: Folder) -> Iterator[str]:
    sums = folder.manifest.get("checksums")
    if not isinstance(sums, dict):
        yield "manifest.json has no checksums: avbench submit writes them"
        return
    files = {path.relative_to(folder.path).as_posix(): path for path in folder.path.rglob("*") if path.is_file()}
    for name in sorted((sums.keys() | files.keys()) - {"manifest.json"}):
        if name not in files:
            yield f"{name!a} has a checksum and is not there"
        elif name not in sums:
            yield f"{name!a} has no checksum"
        elif hashlib.sha256(read_bytes(files[name], MAX_FILE_BYTES)).hexdigest() != sums[name]:
            yield f"{name} is not the file that was submitted: its sha256 is another than in manifest.json"


def _names(folder: Folder) -> Iterator[str]:
    spec, tokenizer, split = folder.content["spec"], folder.content["tokenizer"], folder.content["split"]
    names: list[tuple[str, Any]] = [(f"tokenizer's {key}", value) for key, value in tokenizer.items()]
    names += [(f"split's {key}", value) for key, value in split.items()]
    names += [(f"spec's {key}", value) for key, value in spec.items()] + [("run_id", folder.content["run_id"])]
    names += [(f"protocol of {value.get('name')!s:.60}", value.get("protocol")) for value in folder.content["values"]]
    names += [(f"metric's {key}", value.get(key)) for value in folder.content["values"] for key in ("name", "unit")]
    yield from dict.fromkeys(problem for what, text in names if isinstance(text, str) and (problem := problem_of_name(text, what)))
    for key in ("name", "revision", "kind"):
        if not isinstance(tokenizer.get(key), str) or not tokenizer[key]:
            yield f"tokenizer's {key} is missing"
    if folder.manifest.get("isolated") is False and tokenizer.get("kind") != "control":
        yield "its decoder ran in the encoder's process (isolated: false): avbench submit refuses such a run"
    for key in ("tokenizer", "split"):
        told = folder.manifest.get(key) or {}
        if isinstance(told, dict) and any(told.get(name) != folder.content[key].get(name) for name in ("name", "revision", "checksum")):
            yield f"manifest.json and result.json are not of one {key}"
    place = place_of(folder.content, folder.manifest).as_posix()
    if place != folder.name:
        yield f"its folder should be {place}"
    verified = folder.manifest.get("verified")
    if verified is not None and not (isinstance(verified, dict) and all(key in verified for key in VERIFIED)):
        yield f'"verified" is none of avbench verify: it has {", ".join(VERIFIED)}'


def _card(folder: Folder) -> Iterator[str]:
    read_card(folder.path / "card.yaml")
    yield from ()


def _clips(folder: Folder) -> Iterator[str]:
    rows, result = folder.rows, folder.result
    wrong = [problem for row in rows if (problem := problem_of_id(row["id"]))]
    wrong += [p for row in rows if isinstance(row.get("label"), str) and (p := problem_of_name(row["label"], "the label"))]
    yield from list(dict.fromkeys(wrong))[:5]
    found = Counter(row["status"] for row in rows)
    for what, told, counted in (
        ("num_clips", result.num_clips, len(rows)),
        ("num_ok", result.num_ok, found["ok"]),
        ("num_failed", result.num_failed, found["failed"]),
        ("the split's num_clips", folder.content["split"].get("num_clips"), len(rows)),
    ):
        if told != counted:
            yield f"{what} is {told}, clips.jsonl.gz has {counted}"


def _split(folder: Folder) -> Iterator[str]:
    """Against what every machine makes of the split."""
    split = folder.split
    if split is None:
        return
    clips = split.clips[: folder.limit]
    if folder.result.protocol != str(split.protocol):
        yield f"another protocol than that of {split.name}: {folder.result.protocol[:200]}"
    elif [row["id"] for row in folder.rows] != [clip.id for clip in clips]:
        yield f"its clips are not the {len(clips)} of {split.name}" + (f" --limit {folder.limit}" if folder.limit else "")
    elif folder.result.checksum != split.checksum(folder.limit):
        yield f"another split checksum than that of {split.name}: its clips were not the pinned ones"


def _values(folder: Folder) -> Iterator[str]:
    """Means, intervals and distances anew."""
    seed, ids = folder.content["spec"].get("seed", 0), list(folder.clips.ids)
    told = {value["name"] for value in folder.content["values"]}
    for name, value in folder.result.values.items():
        if name not in told:
            continue  # a cost, or what follows from other values
        if value.value is None:
            if name in own_metrics() and folder.clips.has_values(name):
                yield f"{name} is n/a, and its clips have values"
            continue
        again = recompute(name, folder.clips, ids, seed=seed)
        tolerance = DISTANCES if name in DISTRIBUTIONS else MEANS
        if again.value is None:
            if name in own_metrics() - DISTRIBUTIONS:
                yield f"{name} is {value.value:.6g}, and no clip has a value"
        elif name in own_metrics() and not _same(value, again, tolerance):
            yield f"{name} is {_told(value)}; of its clips it is {_told(again)}"


def _same(a: MetricValue, b: MetricValue, tolerance: float) -> bool:
    pairs = ((a.value, b.value), (a.ci_low, b.ci_low), (a.ci_high, b.ci_high))
    return a.num_clips == b.num_clips and all(
        (x is None and y is None) or (x is not None and y is not None and math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance / 100))
        for x, y in pairs
    )


def _told(value: MetricValue) -> str:
    ends = "no interval" if value.ci_low is None or value.ci_high is None else f"{value.ci_low:.6g} to {value.ci_high:.6g}"
    return f"{value.value:.6g} [{ends}] over {value.num_clips} clips"


def _tokens(folder: Folder) -> Iterator[str]:
    """The kept bytes are those of the ok clips, of one format, and say the rates that the rows say."""
    if not (folder.path / "tokens").exists():
        return
    agreed = read_bytes(folder.path / "tokens" / "format", 2**16)
    ok = {row["id"]: row["metrics"] for row in folder.rows if row["status"] == "ok"}
    missing = ok.keys() - folder.tokens.keys()
    if missing or not folder.tokens.keys() <= {row["id"] for row in folder.rows}:
        yield f"tokens/ does not hold the bytes of its clips: {len(missing)} of {len(ok)} are missing"
        return
    wrong: Counter[str] = Counter()
    for clip, told in ok.items():
        data = folder.tokens[clip]
        tokens_per_s, bits_per_s, duration_s = payload.rates_of(data)
        if payload.format_of(data) != agreed:
            wrong["the bytes are of another format than tokens/format"] += 1
        if folder.split is not None and not math.isclose(duration_s, folder.split.protocol.duration_s, rel_tol=MEANS):
            wrong[f"the bytes say {duration_s:g} s, clips of {folder.split.name} have {folder.split.protocol.duration_s:g}"] += 1
        for name, counted in (("tokens_per_s", tokens_per_s), ("bits_per_s", bits_per_s)):
            if is_number(told.get(name)) and not math.isclose(told[name], counted, rel_tol=MEANS):
                wrong[f"{name} of the row is another than its bytes say"] += 1
    yield from (f"{count} clips: {reason}" for reason, count in wrong.items())
