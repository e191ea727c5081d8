"""A table as markdown, as text for a terminal, and as LaTeX: one walk over the groups, three styles of mark-up."""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from tabulate import tabulate

from avbench.board.columns import Column
from avbench.board.ranking import shown_number
from avbench.board.table import BELOW_FLOOR, VERIFIED, VERIFIED_KEY, Cell, Group, Row, Table

WIDTH = 158  # columns of a terminal; wider sections are split
_ANSI = re.compile(r"\x1b\[\d+m")
KEY = (
    "best **value** and second best __value__ of each column; value ± half the width of its 95 % interval over clips; ↑ higher is better, "
    "↓ lower, ≈ nearest to the real clips' own value is best; controls are shown, not ranked; "
    f"{BELOW_FLOOR} does not beat the zero-skill control of the same column"
)


@dataclass(frozen=True, kw_only=True)
class Style:
    """Mark-up of one format. escape: for every text that comes from data."""

    tablefmt: str
    escape: Callable[[str], str]
    best: str
    second: str
    heading: str
    bullet: str


def escape_markdown(text: str) -> str:
    """`text` so that GitHub shows it as it is: HTML as entities, mark-up and table bars with a backslash (a _ inside a word is none)."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|\[\]~#])", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


MARKDOWN = Style(tablefmt="pipe", escape=escape_markdown, best="**{}**", second="<u>{}</u>", heading="## {}", bullet="- ")
PLAIN = Style(tablefmt="simple", escape=str, best="**{}**", second="__{}__", heading="{}", bullet="  ")
ANSI = Style(tablefmt="simple", escape=str, best="\x1b[1m{}\x1b[0m", second="\x1b[4m{}\x1b[0m", heading="\x1b[1m{}\x1b[0m", bullet="  ")


def to_text(table: Table, style: Style) -> str:
    """The whole table: per group its sections, then the key, protocols and notes."""
    parts = [_group_text(group, style) for group in table.groups] or ["no finished run to show; avbench run makes one"]
    if table.warnings:
        parts.append("\n".join(_wrapped(style, style.escape(f"Warning: {warning}")) for warning in table.warnings))
    return "\n\n".join(parts) + "\n"


def format_value(column: Column, cell: Cell) -> str:
    """The number alone, in the column's unit; "n/a" without one, "-" where nothing was published."""
    if cell.value is None:
        return "n/a" if cell.reason else "-"
    return format_number(column, cell.value)


def format_number(column: Column, value: float) -> str:
    """As many decimals as the column has; small numbers keep two significant digits, huge ones go scientific."""
    shown = shown_number(column, value)
    if abs(shown) >= 1e7:
        return f"{shown:.3e}"
    if column.decimals is None or (shown and not round(shown, column.decimals)):
        return f"{shown:g}"
    return f"{shown:.{column.decimals}f}"


def format_spread(column: Column, cell: Cell) -> str:
    """`±0.33`, half the width of the interval; empty where there is none."""
    if cell.value is None or cell.ci_low is None or cell.ci_high is None:
        return ""
    return f"±{format_number(column, (cell.ci_high - cell.ci_low) / 2)}"


def _group_text(group: Group, style: Style) -> str:
    parts = [style.heading.format(style.escape(group.title))]
    for name, columns in groupby(group.columns, key=lambda column: column.section):
        table = _section(group, tuple(columns), style)
        parts.append(f"{style.escape(name)}\n\n{table}" if name else table)
    return "\n\n".join([*parts, _footer(group, style)])


def _section(group: Group, columns: Sequence[Column], style: Style) -> str:
    headers = [*_row_headers(group), *(style.escape(column.header) for column in columns)]
    cells = [[*_row_start(group, row, style), *(_cell_text(column, row, style) for column in columns)] for row in group.rows]
    align = ["left"] * len(_row_headers(group)) + ["right"] * len(columns)
    text = tabulate(cells, headers=headers, tablefmt=style.tablefmt, colalign=align, disable_numparse=True)
    if max(len(_ANSI.sub("", line)) for line in text.splitlines()) <= WIDTH or len(columns) == 1:
        return text
    half = (len(columns) + 1) // 2
    return _section(group, columns[:half], style) + "\n\n" + _section(group, columns[half:], style)


def _row_headers(group: Group) -> list[str]:
    return ["method", "type"] if group.reported else ["tokenizer", "kind", "clips"]


def _row_start(group: Group, row: Row, style: Style) -> list[str]:
    start = [style.escape(row.label) + (f" {VERIFIED}" if row.verified else ""), style.escape(row.kind)]
    return start if group.reported else [*start, f"{row.num_ok}/{row.num_clips}{_marks(row.notes)}"]


def _cell_text(column: Column, row: Row, style: Style) -> str:
    cell = row.cells.get(column.metric, Cell(value=None))
    value = format_value(column, cell)
    value = {1: style.best, 2: style.second}.get(cell.rank, "{}").format(value)
    spread = format_spread(column, cell)
    floor = f" {BELOW_FLOOR}" if cell.below_floor else ""
    return value + (f" {spread}" if spread else "") + floor + _marks(cell.notes)


def _marks(notes: Sequence[int]) -> str:
    return "".join(f" [{number}]" for number in notes)


def _footer(group: Group, style: Style) -> str:
    if group.reported:
        return _wrapped(style, style.escape(group.source))
    key = KEY.replace("**value**", style.best.format("value")).replace("__value__", style.second.format("value"))
    key += f"; {VERIFIED} {VERIFIED_KEY}" if group.has_verified else ""
    protocols = [f"{title}: {protocol}" for title, protocol in group.legend]
    notes = [f"[{number}] {style.escape(note)}" for number, note in enumerate(group.notes, 1)]
    return "\n".join(_wrapped(style, line) for line in (key, *map(style.escape, (group.source, *_trained(group), *protocols)), *notes))


def _trained(group: Group) -> list[str]:
    """`Trained on: arcade-train, 20,800 clips seen (avtok-mini, larp-mini); ...`, rows that saw the same together."""
    rows: dict[str, list[str]] = {}
    for row in group.rows:
        if row.trained_on and not row.trained_on.startswith("nothing"):
            rows.setdefault(row.trained_on, []).append(row.label)
    named = [f"{what} ({', '.join(labels)})" for what, labels in rows.items()]
    return [f"Trained on: {'; '.join(named)}"] if named else []


def _wrapped(style: Style, text: str) -> str:
    """A list item of `text` (escaped already), folded to the terminal's width."""
    indent = " " * (len(style.bullet) + (0 if style.bullet.strip() else 2))
    return textwrap.fill(text, WIDTH, initial_indent=style.bullet, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
