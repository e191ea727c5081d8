"""Peak memory against the number of clips: `python benchmarks/memory.py [TOKENIZER]` runs arcade-test with 101 and with 1,010 clips.

Each run is a process of its own, from nothing, with every metric. The two peaks are to lie within 10 % of each other.
"""

import json
import subprocess
import sys
from pathlib import Path

from tabulate import tabulate


def peak(tokenizer: str, limit: int) -> tuple[float, float]:
    """(peak resident memory in MB, wall seconds) of a run over the first `limit` clips of arcade-test."""
    command = [sys.executable, "-m", "avbench", "run", "--tokenizer", tokenizer, "--split", "arcade-test", "--limit", str(limit)]
    done = subprocess.run([*command, "--runs-dir", "runs/memory", "--fresh"], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads((Path(done.stdout.strip().splitlines()[-1]) / "result.json").read_text())
    costs = {value["name"]: value["value"] for value in result["cost"]}
    return costs["peak_memory_mb"], result["seconds"]["total"]


def main() -> None:
    """Print both peaks and their ratio."""
    tokenizer = sys.argv[1] if len(sys.argv) > 1 else "static-frame+silence"
    rows = [(limit, *peak(tokenizer, limit)) for limit in (101, 1010)]
    print(tabulate(rows, headers=("clips", "peak memory MB", "seconds"), floatfmt=".0f"))
    print(f"ratio {rows[1][1] / rows[0][1]:.3f} (to stay within 0.9 and 1.1)")


if __name__ == "__main__":
    main()
