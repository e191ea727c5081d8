"""A finished run, to look at: its values, its clips, as they are or as tables of pandas."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avbench.errors import AvbenchError
from avbench.files import parse_json, read_gzip_lines, read_json, read_lines

if TYPE_CHECKING:
    import pandas

MAX_RESULT_BYTES = 2**26
MAX_CLIPS_BYTES = 2**29  # 180,000 clips (VGGSound) have 0.1 GB


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: its folder and the content of its result.json."""

    folder: Path
    result: dict[str, Any]
    is_main: bool = True  # False in the processes that only help (torchrun)
    reused: bool = False  # everything that was asked for was there already

    @classmethod
    def read(cls, folder: Path, **facts: bool) -> "Run":
        """The run in `folder`. Raises AvbenchError where its result is missing or damaged."""
        return cls(folder=folder, result=read_json(folder / "result.json", MAX_RESULT_BYTES), **facts)

    @property
    def num_failed(self) -> int:
        """Clips that could not be evaluated."""
        return int(self.result["num_failed"])

    def __getitem__(self, metric: str) -> float:
        """A metric's value. Raises KeyError for one that was not asked for, AvbenchError with the reason for one that is n/a."""
        for value in self.result["values"]:
            if value["name"] == metric:
                if value["value"] is None:
                    raise AvbenchError(f"{metric} is n/a: {value['reason']}")
                return float(value["value"])
        raise KeyError(metric)

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a metric, by name: value, ci_low, ci_high (95 %), num_clips, num_failed, unit, protocol, reason (of n/a)."""
        columns = ("value", "ci_low", "ci_high", "num_clips", "num_failed", "unit", "protocol", "reason")
        values = self.result["values"]
        rows = [[value.get(column) for column in columns] for value in values]
        names = [value["name"] for value in values]
        return _pandas().DataFrame(rows, columns=list(columns), index=_pandas().Index(names, name="metric"))

    def clips(self) -> "pandas.DataFrame":
        """A row a clip, by id: label, status ("ok", "failed"), reason, and a column for each metric that has a number for a clip."""
        rows = read_clips(self.folder)
        table = [{"label": row.get("label"), "status": row["status"], "reason": row.get("reason"), **row["metrics"]} for row in rows]
        return _pandas().DataFrame(table, index=_pandas().Index([row["id"] for row in rows], name="clip"))

    def __repr__(self) -> str:
        spec, failed = self.result["spec"], f", {self.num_failed} failed" if self.num_failed else ""
        return f"Run({spec['tokenizer']} on {spec['split']}, {self.result['num_clips']} clips{failed}, {json.dumps(str(self.folder))})"


def read_clips(folder: Path) -> list[dict[str, Any]]:
    """The rows of clips.jsonl, or of the clips.jsonl.gz of a submission, each clip once, in order.

    A row has "id", "status" ("ok" or "failed") and "metrics", at least. Raises AvbenchError where the file is missing or damaged.
    """
    path = folder / "clips.jsonl"
    packed = path.with_name("clips.jsonl.gz")
    found = path if path.exists() or not packed.exists() else packed
    read = read_lines if found == path else read_gzip_lines
    return _rows_of(read(found, MAX_CLIPS_BYTES), str(found))


def _rows_of(lines: Iterable[bytes], path: str) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        row = _parse_row(line, f"{path} line {number}")
        if row["id"] in rows:
            raise AvbenchError(f"{path} line {number} names clip {row['id']!r} again; run with --fresh")
        rows[row["id"]] = row
    return list(rows.values())


def _parse_row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise AvbenchError(f"{where} is not valid JSON; run with --fresh") from error
    sound = isinstance(row, dict) and is_id(row.get("id")) and row.get("status") in ("ok", "failed")
    if not sound or not isinstance(row.get("metrics", {}), dict):
        raise AvbenchError(f"{where} is not a clip's row (id, status, metrics); run with --fresh")
    return {"metrics": {}} | row


def is_id(value: Any) -> bool:
    """Whether a value is a text that can be written: JSON can spell half a character (a lone surrogate), UTF-8 cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def is_number(value: Any) -> bool:
    """Whether a value out of `files.parse_json` is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise AvbenchError("tables as DataFrames need pandas: pip install 'avbench[dataframes]'") from error
    return pandas
