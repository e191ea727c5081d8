"""Writes the README's tables, code and outputs anew from the repository: `python benchmarks/readme.py` (`--check`: exit 1 if it is stale).

<!-- table SPLIT -->     the measured rows of runs/reference on that split
<!-- code FILE -->       a file, as it is
<!-- output SCRIPT -->   what benchmarks/SCRIPT.py prints
"""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from avbench.table import leaderboard, render

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- (table|code|output) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(split: str) -> str:
    """Markdown of a split's measured groups."""
    board = leaderboard(ROOT / "runs" / "reference", split, reported=False)
    groups = tuple(replace(group, legend=()) for group in board.groups)  # each metric's protocol: leaderboards/<split>.md
    return render(replace(board, groups=groups, warnings=()), "md")


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
