"""A table as LaTeX (booktabs; second best underlined with \\underline). One tabular a section, for a paper's \\input."""

from itertools import groupby

from avbench.board.columns import Column
from avbench.board.table import BELOW_FLOOR, VERIFIED, VERIFIED_KEY, Cell, Group, Row, Table
from avbench.board.text import format_spread, format_value

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a row that begins with [ or * would be read as an argument of the \\ before it
    "*": "{*}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "…": r"\ldots{}",
    BELOW_FLOOR: r"$\triangledown$",
    VERIFIED: r"$\checkmark$",
}


def escape_latex(text: str) -> str:
    """`text` with every character that TeX reads as a command replaced."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def to_latex(table: Table) -> str:
    """Every group as a table environment; needs the packages booktabs and amssymb."""
    lines = ["% needs \\usepackage{booktabs} and \\usepackage{amssymb}"]
    lines += [f"% {warning}" for warning in table.warnings]
    return "\n\n".join(["\n".join(lines), *(_group(group) for group in table.groups)]) + "\n"


def _group(group: Group) -> str:
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(group.title)}}}"]
    for name, columns in groupby(group.columns, key=lambda column: column.section):
        lines += [*_tabular(group, name, tuple(columns)), r"\par\medskip"]
    notes = [f"[{number}] {note}" for number, note in enumerate(group.notes, 1)]
    protocols = [f"{title}: {protocol}" for title, protocol in group.legend]
    protocols = [f"{VERIFIED} {VERIFIED_KEY}", *protocols] if group.has_verified else protocols
    lines += [rf"{{\footnotesize {escape_latex(text)}\par}}" for text in (group.source, *protocols, *notes)]
    return "\n".join([*lines, r"\end{table}"])


def _tabular(group: Group, name: str, columns: tuple[Column, ...]) -> list[str]:
    first = name or ("method" if group.reported else "tokenizer")
    headers = [first, *(column.header for column in columns)] if group.reported else [first, "clips", *(c.header for c in columns)]
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}", r"\toprule"]
    lines += [" & ".join(escape_latex(header) for header in headers) + r" \\", r"\midrule"]
    lines += [" & ".join(_row(group, row, columns)) + r" \\" for row in group.rows]
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _row(group: Group, row: Row, columns: tuple[Column, ...]) -> list[str]:
    start = [escape_latex(f"{row.label} {VERIFIED}" if row.verified else row.label)]
    if not group.reported:
        start.append(f"{row.num_ok}/{row.num_clips}{_marks(row.notes)}")
    return start + [_cell(column, row.cells.get(column.metric, Cell(value=None))) for column in columns]


def _cell(column: Column, cell: Cell) -> str:
    value = {1: r"\textbf{%s}", 2: r"\underline{%s}"}.get(cell.rank, "%s") % escape_latex(format_value(column, cell))
    floor = escape_latex(BELOW_FLOOR) if cell.below_floor else ""
    return " ".join(part for part in (value, escape_latex(format_spread(column, cell)), floor) if part) + _marks(cell.notes)


def _marks(notes: tuple[int, ...]) -> str:
    # Braces: a bare [ after \\ would be read as its optional argument.
    return f"$^{{{','.join(map(str, notes))}}}$" if notes else ""
