"""Writes the README's tables, code and outputs anew from the repository: `python benchmarks/readme.py` (`--check`: exit 1 if it is stale).

<!-- table SPLIT TASK METRIC,... -->   those columns of the measured rows of runs/reference on that split; everything: leaderboards/SPLIT.md
<!-- code FILE -->                     a file, as it is
<!-- output SCRIPT -->                 what benchmarks/SCRIPT.py prints
"""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from avbench.board.formats import render
from avbench.board.table import Group, leaderboard

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- (table|code|output) (\S[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(wanted: str) -> str:
    """Markdown of some columns of a split's measured groups of one task, side by side as far as they fit."""
    split, task, metrics = wanted.split()
    board = leaderboard(ROOT / "runs" / "reference", split, reported=False)
    groups = tuple(_brief(group, metrics.split(",")) for group in board.groups if group.task == task)
    return render(replace(board, groups=groups, warnings=()), "md")


def _brief(group: Group, metrics: list[str]) -> Group:
    """Without each metric's protocol, and without the notes (which cells refer to by number): they stand in leaderboards/."""
    columns = {column.metric: replace(column, section="") for column in group.columns}
    rows = tuple(replace(row, notes=(), cells={name: replace(cell, notes=()) for name, cell in row.cells.items()}) for row in group.rows)
    return replace(group, columns=tuple(columns[name] for name in metrics), rows=rows, legend=(), notes=())


def code(name: str) -> str:
    """A fenced code block with the file."""
    return f"```python\n{(ROOT / name).read_text()}```\n"


def output(script: str) -> str:
    """A fenced block with what a benchmark prints."""
    done = subprocess.run([sys.executable, f"benchmarks/{script}.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return f"```\n{done.stdout.strip()}\n```\n"


def main() -> None:
    """Rewrite README.md between its markers."""
    makers = {"table": table, "code": code, "output": output}
    path = ROOT / "README.md"
    old = path.read_text()
    checking = "--check" in sys.argv
    kinds = {"table", "code"} if checking else set(makers)  # a check does not run benchmarks

    def fill(match: re.Match[str]) -> str:
        start, kind, name, end = match.groups()
        return f"{start}{makers[kind](name).strip()}\n{end}" if kind in kinds else match.group(0)

    new = BLOCK.sub(fill, old)
    if checking:
        sys.exit(new != old and "README.md is stale: python benchmarks/readme.py")
    path.write_text(new)


if __name__ == "__main__":
    main()
