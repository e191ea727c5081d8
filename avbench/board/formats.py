"""The formats of `avbench table`, and the files of leaderboards/. csv and json are tidy: one record a cell, nothing rounded."""

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jinja2

from avbench.board.columns import Column
from avbench.board.latex import to_latex
from avbench.board.table import BELOW_FLOOR, VERIFIED, VERIFIED_KEY, Cell, Group, Row, Table
from avbench.board.text import ANSI, MARKDOWN, PLAIN, format_spread, format_value, to_text
from avbench.errors import UsageError
from avbench.files import atomic, disk_errors

FORMATS = ("md", "csv", "json", "html", "latex", "text", "ansi")
TEMPLATE = Path(__file__).with_name("table.html.j2")


def render(table: Table, format: str) -> str:
    """`table` in one of `FORMATS`; "text" and "ansi" are for a terminal, without and with bold and underline."""
    if format not in FORMATS:
        raise UsageError(f'unknown format "{format}"; known: {", ".join(FORMATS)}')
    return {
        "md": lambda: to_text(table, MARKDOWN),
        "text": lambda: to_text(table, PLAIN),
        "ansi": lambda: to_text(table, ANSI),
        "csv": lambda: to_csv(table),
        "json": lambda: to_json(table),
        "html": lambda: to_html(table),
        "latex": lambda: to_latex(table),
    }[format]()


def write(table: Table, folder: Path) -> list[Path]:
    """folder/<split>.md and .csv for each measured split, with the published rows below; the paths written."""
    with disk_errors(folder, "repeat the command"):
        return _write(table, folder)


def _write(table: Table, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for split in sorted({group.split for group in table.groups if not group.reported}):
        part = replace(table, groups=tuple(group for group in table.groups if group.reported or group.split == split), warnings=())
        for format in ("md", "csv"):
            path = folder / f"{file_name(split)}.{format}"
            with atomic(path, "w") as file:
                file.write(render(part, format))
            paths.append(path)
    return paths


def file_name(split: str) -> str:
    """A split's name as a file name: `folder:/my/clips` -> `folder-my-clips`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", split).strip("-.") or "unnamed"


def to_csv(table: Table) -> str:
    """One line a cell, with its interval, clip count, protocol and reason."""
    text = io.StringIO()
    records = list(_records(table))
    writer = csv.DictWriter(text, fieldnames=list(_record_keys()), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _no_formula(value) for key, value in record.items()} for record in records)
    return text.getvalue()


def to_json(table: Table) -> str:
    """The table's own structure; numbers as computed, null where there is none."""
    return json.dumps(asdict(table), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_html(table: Table) -> str:
    """One self-contained page: no script, no network, light and dark."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    marks = {"below_floor": BELOW_FLOOR, "verified": VERIFIED, "verified_key": VERIFIED_KEY}
    return template.render(table=table, value=format_value, spread=format_spread, interval=_interval, empty=Cell(value=None), **marks)


def _interval(column: Column, cell: Cell) -> str:
    if cell.ci_low is None or cell.ci_high is None:
        return ""
    return f"95 % interval {cell.ci_low * column.scale:.6g} to {cell.ci_high * column.scale:.6g}, {cell.num_clips} clips"


def _records(table: Table) -> Iterator[dict[str, Any]]:
    for group in table.groups:
        for row in group.rows:
            for column in group.columns:
                yield _record(group, row, column, row.cells.get(column.metric, Cell(value=None)))


def _record(group: Group, row: Row, column: Column, cell: Cell) -> dict[str, Any]:
    return {
        "task": group.task,
        "split": group.split,
        "split_checksum": group.checksum,
        "split_protocol": group.protocol,
        "status": "reported" if group.reported else "measured",
        "tokenizer": row.label,
        "kind": row.kind,
        "revision": row.revision,
        "trained_on": row.trained_on,
        "run_id": row.run_id,
        "finished": row.finished,
        "verified": row.verified or None,
        "num_clips": row.num_clips,
        "num_ok": row.num_ok,
        "metric": column.metric,
        "higher_is_better": column.higher_is_better,
        "value": cell.value,
        "ci_low": cell.ci_low,
        "ci_high": cell.ci_high,
        "metric_clips": cell.num_clips,
        "rank": cell.rank or None,
        "below_floor": cell.below_floor,
        "metric_protocol": cell.protocol,
        "reason": cell.reason,
    }


def _record_keys() -> Iterator[str]:
    group = Group(title="", task="", split="", checksum="", protocol="", num_clips=None, columns=(), rows=())
    yield from _record(group, Row(label="", kind="", cells={}), Column(metric="", title="", section=""), Cell(value=None))


def _no_formula(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets a quote in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value
