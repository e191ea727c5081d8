"""`python scripts/structure.py [CHECKOUT]`: how a checkout's Python is cut: files, lines, functions, modules.

Tests, and what git does not know, are left out.

A function's length is from `def` to its last line, decorators left out, nested functions counted on their own as well; a module's is its
lines. Small modules are those of at most 40 lines that hold code.
"""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

SMALL = 40  # lines
OUTSIDE = ("tests", "runs")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def main(checkout: Path) -> None:
    """Print the figures of `checkout`."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=checkout, capture_output=True, text=True, check=True).stdout.splitlines()
    files = [path for name in listed if (path := Path(name)).parts[0] not in OUTSIDE and (checkout / path).is_file()]
    sources = {path: (checkout / path).read_text(encoding="utf-8") for path in files}
    modules = [len(source.splitlines()) for source in sources.values() if source.strip()]
    trees = [ast.parse(source) for source in sources.values()]
    lengths = sorted(
        node.end_lineno - node.lineno + 1 for tree in trees for node in ast.walk(tree) if isinstance(node, FUNCTIONS) and node.end_lineno
    )
    rows = {
        "Python files (without tests)": len(modules),
        "lines": sum(modules),
        "functions": len(lengths),
        "function length, median": statistics.median(lengths),
        "function length, p90": lengths[round(0.9 * (len(lengths) - 1))],
        "module length, median": statistics.median(modules),
        f"modules of at most {SMALL} lines": sum(length <= SMALL for length in modules),
    }
    for what, value in rows.items():
        print(f"{what:32}{value:>10,g}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
