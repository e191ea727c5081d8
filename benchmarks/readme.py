"""Writes tables, code and outputs of README.md and docs/ anew from the repository: `python benchmarks/readme.py`.

`--check` writes nothing, runs no benchmark, and exits 1 where a page is stale.

<!-- board SPLIT TASK METRIC,... ROW,... -->   one narrow table of some published rows and columns
<!-- table SPLIT TASK METRIC,... -->           those columns of all measured rows (all columns: leaderboards/SPLIT.md)
<!-- compare A B METRIC,... -->                what `avbench compare` says of two published rows, TOKENIZER_[TASK_]SPLIT
<!-- code FILE [CLASS] -->                     a file as it is, or one class of it without docstrings
<!-- output SCRIPT -->                         what benchmarks/SCRIPT.py prints
"""

import ast
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from tabulate import tabulate

from avbench.board.columns import Column
from avbench.board.compare import compare, row_texts
from avbench.board.formats import render
from avbench.board.table import BELOW_FLOOR, Cell, Group, Table, leaderboard
from avbench.board.text import format_spread, format_value

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "add-a-tokenizer.md")
BLOCK = re.compile(r"(<!-- (board|table|compare|code|output) (\S[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
PROSE = 100  # columns


@cache
def results(split: str) -> Table:
    """Everything measured on a split."""
    return leaderboard(RESULTS, split, reported=False)


def group_of(split: str, task: str) -> Group:
    """The split's measured rows of one task: of several groups (other clips, or clips that another decoder made) the newest."""
    groups = [group for group in results(split).groups if group.task == task]
    return max(groups, key=lambda group: max(row.finished for row in group.rows))


def board(wanted: str) -> str:
    """One table, whatever its width; rows in the order of the marker."""
    split, task, metrics, names = wanted.split()
    group = group_of(split, task)
    columns = {column.metric: column for column in group.columns}
    rows = {row.label: row for row in group.rows}
    shown = [columns[name] for name in metrics.split(",")]
    picked = [rows[name] for name in names.split(",")]
    cells = [[row.label, row.kind, *(cell_text(column, row.cells[column.metric]) for column in shown)] for row in picked]
    headers = ["tokenizer", "kind", *(column.header for column in shown)]
    align = ("left", "left", *("right" for _ in shown))
    return tabulate(cells, headers=headers, tablefmt="pipe", colalign=align, disable_numparse=True)


def cell_text(column: Column, cell: Cell) -> str:
    """`**27.38** ±0.29 ▾`: bold where it is the best of its board; no spread where it is 0 as shown."""
    value = format_value(column, cell)
    spread = format_spread(column, cell)
    shown = [f"**{value}**" if cell.rank == 1 else value, "" if not re.search("[1-9]", spread) else spread, BELOW_FLOOR * cell.below_floor]
    return " ".join(part for part in shown if part)


def table(wanted: str) -> str:
    """All measured rows, in as many tables side by side as their width takes."""
    split, task, metrics = wanted.split()
    board = replace(results(split), groups=(brief(group_of(split, task), metrics.split(",")),), warnings=())
    return folded(render(board, "md").replace("## ", "### ", 1))


def brief(group: Group, metrics: list[str]) -> Group:
    """Without each metric's protocol, and without the notes (which cells refer to by number): they stand in leaderboards/."""
    columns = {column.metric: replace(column, section="") for column in group.columns}
    rows = tuple(replace(row, notes=(), cells={name: replace(cell, notes=()) for name, cell in row.cells.items()}) for row in group.rows)
    return replace(group, columns=tuple(columns[name] for name in metrics), rows=rows, legend=(), notes=())


def folded(markdown: str) -> str:
    """List items folded to the width of prose."""
    items = re.sub(r"\n {2}(?=\S)", " ", markdown).splitlines()
    fold = textwrap.TextWrapper(width=PROSE, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
    return "\n".join(fold.fill(line) if line.startswith("- ") else line for line in items)


def comparison(wanted: str) -> str:
    """The command, and its lines of some metrics as a table."""
    a, b, metrics = wanted.split()
    found = compare(published(a), published(b))
    rows = [row_texts(row) for row in found.rows if row.column.metric in metrics.split(",")]
    headers = ["metric", "A", "B", "B - A", "95 % interval", "clips", "p (Holm)", "verdict"]
    align = ("left", "right", "right", "right", "left", "right", "right", "left")
    text = tabulate(rows, headers=headers, tablefmt="pipe", colalign=align, disable_numparse=True)
    command = f"avbench compare {pattern(a)} {pattern(b)}"
    return f"`{command}`\n(A: {found.a.tokenizer}, B: {found.b.tokenizer})\n\n{text}"


def published(name: str) -> Path:
    """The one folder of `pattern`."""
    (folder,) = ROOT.glob(pattern(name))
    return folder


def pattern(name: str) -> str:
    """Of the folder of a published row, from its tokenizer (as a path has it), task and split: `results/avtok-mini/*/arcade-mini_*`."""
    tokenizer, _, place = name.partition("_")
    return f"results/{tokenizer}/*/{place}_*"


def code(wanted: str) -> str:
    """A fenced code block."""
    name, *classes = wanted.split()
    source = (ROOT / name).read_text(encoding="utf-8")
    return f"```python\n{essential(source, *classes) if classes else source}```\n"


def essential(source: str, name: str) -> str:
    """The class called `name` without its docstrings."""
    (found,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    docs = [node.body[0] for node in ast.walk(found) if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)]
    hidden = {line for node in docs for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = list(enumerate(source.splitlines(), 1))[found.lineno - 1 : found.end_lineno]
    text = "".join(f"{line}\n" for number, line in lines if number not in hidden)
    return text.replace(":\n\n", ":\n", 1)  # the blank line after the class's own docstring


def output(script: str) -> str:
    """A fenced block with what a benchmark prints."""
    done = subprocess.run([sys.executable, f"benchmarks/{script}.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return f"```\n{done.stdout.strip()}\n```\n"


MAKERS: dict[str, Callable[[str], str]] = {"board": board, "table": table, "compare": comparison, "code": code, "output": output}


def renewed(page: str, kinds: set[str]) -> str:
    """A page's text with its blocks of `kinds` made anew."""

    def fill(match: re.Match[str]) -> str:
        start, kind, wanted, end = match.groups()
        return f"{start}{MAKERS[kind](wanted).strip()}\n{end}" if kind in kinds else match.group(0)

    return BLOCK.sub(fill, page)


def main() -> None:
    """Rewrite the pages between their markers, or check them."""
    checking = "--check" in sys.argv
    kinds = set(MAKERS) - ({"output"} if checking else set())
    stale = []
    for path in PAGES:
        old = path.read_text(encoding="utf-8")
        new = renewed(old, kinds)
        if checking and new != old:
            stale.append(str(path.relative_to(ROOT)))
        elif not checking:
            path.write_text(new, encoding="utf-8")
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; python benchmarks/readme.py")


if __name__ == "__main__":
    main()
