"""Reading results: of runs/<run_id>/, and of a results folder's <tokenizer>/<revision>/<split>_<protocol>/ (board/submission.py).

They may come from anybody: what does not fit makes the row unreadable, with a reason.
"""

import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avbench.board.columns import load_boards
from avbench.errors import AvbenchError
from avbench.files import parse_json, read_bytes
from avbench.registry import plugins
from avbench.types import DEFAULT_TASK, MetricValue

PUBLISHED = Path(__file__).parents[1] / "results"  # our own rows, which come with avbench
DERIVED = ("token_bits", "token_entropy")  # values that follow from others
MAX_BYTES = 8 * 2**20  # a real result.json is about 20 kB
MAX_VALUES = 500
MAX_TEXT = 2_000  # characters of a protocol or reason
MAX_NAME = 80
MAX_REASONS = 11  # of failed clips: ten, and one for the rest
MAX_ID = 160  # of a run: two names of at most 60 characters, a task and a hash


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run, as result.json tells it. Texts are free of control characters and bounded in length."""

    run_id: str
    folder: Path
    tokenizer: str
    revision: str
    kind: str  # "learned", "classical", "linear", "control", or whatever a plugin says
    trained_on: str
    checkpoint: str | None  # its file or folder's name
    evaluated: str  # what was evaluated: the name that was asked for, and the checkpoint's content; two rows may be called alike
    task: str
    split: str
    checksum: str
    split_note: str
    protocol: str
    num_clips: int
    num_ok: int
    num_failed: int
    failures: Mapping[str, int]  # why clips failed -> how many
    finished: str  # ISO time
    values: Mapping[str, MetricValue]  # metrics and costs by name, in the file's order
    directions: Mapping[str, bool | None]  # "higher_is_better" of values that state it (plugins')
    best_is_reference: frozenset[str]  # values that say so (plugins')
    units: Mapping[str, str]
    unpaired: bool = False  # its clips are two sets, references and outputs (avbench/run/unpaired.py)
    seed: int = 0
    verified: str = ""  # by whom and when, as its manifest says; "" for a row that nobody has verified
    remark: str = ""  # what a reader must know of the whole row


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A run folder whose result cannot be used, and why."""

    run_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Results:
    """What lies in a runs folder, in an order that does not depend on the file system."""

    results: tuple[RunResult, ...]
    unreadable: tuple[Unreadable, ...] = ()
    unfinished: tuple[str, ...] = ()


def collect(*folders: Path | str) -> Results:
    """Every finished run of folders of runs, every row of results folders. A folder that is not there has none."""
    results, unreadable, unfinished = [], [], []
    for folder, name in sorted(found for root in folders for found in _rows_below(Path(root))):
        try:
            if (folder / "result.json").exists():
                results.append(read_result(folder))
            else:
                unfinished.append(clean(name, MAX_ID))
        except (AvbenchError, OSError) as error:
            unreadable.append(Unreadable(run_id=clean(name, MAX_ID), reason=clean(str(error), MAX_TEXT)))
    return Results(results=tuple(results), unreadable=tuple(unreadable), unfinished=tuple(unfinished))


def _rows_below(root: Path) -> Iterator[tuple[Path, str]]:
    """Folders of rows and what they are called: runs at the top, submissions two folders further down."""
    for path in root.iterdir() if root.is_dir() else ():
        if any((path / name).exists() for name in ("result.json", "manifest.json", "clips.jsonl")):
            yield path, path.name
        elif path.is_dir():
            yield from ((file.parent, file.parent.relative_to(root).as_posix()) for file in path.glob("*/*/result.json"))


def read_result(folder: Path) -> RunResult:
    """The result in a run's folder. Raises AvbenchError that says what is wrong with it."""
    path = folder / "result.json"
    content = _Fields(read_json(path), str(path))
    spec, tokenizer, split = content.section("spec"), content.section("tokenizer"), content.section("split")
    values = _values(content, "values") | _values(content, "cost")
    checkpoint = spec.optional_text("checkpoint", MAX_TEXT)
    return RunResult(
        run_id=content.text("run_id", MAX_ID),
        folder=folder,
        tokenizer=tokenizer.text("name", MAX_NAME),
        revision=tokenizer.optional_text("revision", MAX_NAME) or "",
        kind=tokenizer.optional_text("kind", MAX_NAME) or "learned",
        trained_on=tokenizer.optional_text("trained_on", MAX_NAME) or "",
        checkpoint=checkpoint and Path(checkpoint).name,
        evaluated=_evaluated(spec, content.optional_text("checkpoint_sha256", MAX_NAME) or checkpoint or "", tokenizer),
        task=_task(spec),
        split=split.text("name", MAX_NAME),
        checksum=split.text("checksum", MAX_NAME),
        split_note=split.optional_text("note", MAX_TEXT) or "",
        protocol=content.text("protocol", MAX_TEXT),
        num_clips=content.count("num_clips"),
        num_ok=content.count("num_ok"),
        num_failed=content.count("num_failed"),
        failures=_failures(content),
        finished=content.text("finished", MAX_NAME),
        values=with_derived({name: value.metric() for name, value in values.items()}),
        directions={name: value.flag("higher_is_better") for name, value in values.items() if "higher_is_better" in value.content},
        best_is_reference=frozenset(name for name, value in values.items() if value.flag("best_is_reference")),
        units={name: value.optional_text("unit", MAX_NAME) or "" for name, value in values.items()},
        unpaired="scored" in spec.content and spec.section("scored").flag("unpaired") is True,
        seed=spec.count("seed") if "seed" in spec.content else 0,
        verified=_verified(folder),
    )


def read_json(path: Path) -> Any:
    """Parsed JSON (`files.parse_json`) of a file of bounded size; AvbenchError for anything that is not that."""
    try:
        return parse_json(read_bytes(path, MAX_BYTES))
    except ValueError as error:
        raise AvbenchError(f"{path} is not valid JSON: {clean(str(error), 120)}; run the same avbench command with --fresh") from error


def clean(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters; control and format characters (terminal escapes, bidi overrides) become blanks."""
    flat = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in text[: 4 * limit])
    flat = " ".join(flat.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


@dataclass(frozen=True)
class _Fields:
    """A JSON object and where it stands, for messages."""

    content: Any
    where: str

    def __post_init__(self) -> None:
        if not isinstance(self.content, dict):
            raise AvbenchError(f"{self.where} is not a JSON object")

    def section(self, key: str) -> "_Fields":
        return _Fields(self._get(key), f'"{key}" of {self.where}')

    def text(self, key: str, limit: int) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not clean(value, limit):
            raise AvbenchError(f'"{key}" of {self.where} is not a text')
        return clean(value, limit)

    def optional_text(self, key: str, limit: int) -> str | None:
        return None if self.content.get(key) in (None, "") else self.text(key, limit)

    def count(self, key: str) -> int:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            raise AvbenchError(f'"{key}" of {self.where} is not a count')
        return value

    def number(self, key: str) -> float | None:
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise AvbenchError(f'"{key}" of {self.where} is not a number')
        return float(value) if math.isfinite(value) else None

    def flag(self, key: str) -> bool | None:
        value = self.content.get(key)
        return value if isinstance(value, bool) else None

    def metric(self) -> MetricValue:
        value, reason = self.number("value"), self.optional_text("reason", MAX_TEXT)
        return MetricValue(
            name=self.text("name", MAX_NAME),
            value=value,
            ci_low=self.number("ci_low"),
            ci_high=self.number("ci_high"),
            num_clips=self.count("num_clips") if "num_clips" in self.content else 0,
            num_failed=self.count("num_failed") if "num_failed" in self.content else 0,
            protocol=self.optional_text("protocol", MAX_TEXT) or "",
            reason=reason if value is not None or reason else "no finite value in result.json",
        )

    def _get(self, key: str) -> Any:
        if key not in self.content:
            raise AvbenchError(f'{self.where} lacks "{key}"')
        return self.content[key]


def _task(spec: _Fields) -> str:
    task = spec.text("task", MAX_NAME)
    known = {name for board in load_boards() for name in board.tasks} | set(plugins("task"))
    if task not in known:
        raise AvbenchError(f'{spec.where} has the unknown task "{task}"; known: {", ".join(sorted(known))}')
    return task


def _verified(folder: Path) -> str:
    """`by X, 2026-11-30`, as `avbench verify` left it in the manifest."""
    path = folder / "manifest.json"
    try:
        told = read_json(path).get("verified") if path.exists() else None
        fields = _Fields(told, str(path))
        return f"by {fields.text('by', MAX_NAME)}, {fields.text('when', MAX_NAME)[:10]}"
    except (AvbenchError, AttributeError, OSError):  # no manifest that can be read, or none that says so
        return ""


def with_derived(values: dict[str, MetricValue]) -> dict[str, MetricValue]:
    """With two facts that follow from others: what a token may say (log2 of its vocabulary), and what it says (its entropy)."""
    rate, bits, perplexity = (values.get(name) for name in ("tokens_per_s", "bits_per_s", "codebook_perplexity"))
    found = dict(values)
    if rate is not None and bits is not None and rate.value and bits.value is not None:
        found["token_bits"] = replace(
            bits, name="token_bits", value=bits.value / rate.value, ci_low=None, ci_high=None, protocol="bits_per_s / tokens_per_s"
        )
    if perplexity is not None:
        value = math.log2(perplexity.value) if perplexity.value else None
        protocol = "log2 of perplexity: the entropy of a token, whichever stream it is of; of several codebooks, which one counts as well"
        found["token_entropy"] = replace(perplexity, name="token_entropy", value=value, ci_low=None, ci_high=None, protocol=protocol)
    return found


def _evaluated(spec: _Fields, checkpoint: str, tokenizer: _Fields) -> str:
    """The name that was asked for, the constructor's arguments, the checkpoint; of a generator the revision, which names its weights."""
    revision = tokenizer.optional_text("revision", MAX_NAME) if spec.text("task", MAX_NAME) != DEFAULT_TASK else None
    args = json.dumps(spec.content.get("tokenizer_args") or {}, sort_keys=True)[:MAX_TEXT]
    return " ".join((spec.text("tokenizer", MAX_TEXT), args, checkpoint, revision or ""))


def _failures(content: _Fields) -> dict[str, int]:
    if content.content.get("failures") is None:  # runs of earlier versions
        return {}
    told = content.section("failures")
    counts = {reason: told.count(reason) for reason in list(told.content)[:MAX_REASONS]}
    return {clean(reason, MAX_TEXT): count for reason, count in counts.items()}


def _values(content: _Fields, key: str) -> dict[str, _Fields]:
    items = content.content.get(key, []) if key == "cost" else content._get(key)
    if not isinstance(items, list) or len(items) > MAX_VALUES:
        raise AvbenchError(f'"{key}" of {content.where} is not a list of at most {MAX_VALUES} values')
    fields = [_Fields(item, f'"{key}" of {content.where}') for item in items]
    return {field.text("name", MAX_NAME): field for field in fields}
