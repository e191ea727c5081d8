"""What does a decoder in another interpreter cost? `python benchmarks/isolation.py [TOKENIZER ...] [--limit N] [--repeats 3]`.

Evaluates arcade-mini with the decoder in a worker, as every run does, and in the run's own process, in turn, each in a process of its own
with nothing kept. Prints wall seconds of both (the fastest of the repeats: other work on the machine only ever adds), what isolation costs,
and which part of a run the clips' way between the processes (with the wait for a worker that still loads) takes.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tabulate import tabulate

RUN = """
import sys
from pathlib import Path
from avbench.run.evaluate import evaluate
from avbench.types import RunSpec
tokenizer, limit, metrics, folder, isolate = sys.argv[1:]
spec = RunSpec(
    tokenizer=tokenizer, split="arcade-mini", limit=int(limit) or None, metrics=tuple(name for name in metrics.split(",") if name)
)
print(evaluate(spec, runs_dir=Path(folder), isolate=isolate == "apart").folder)
"""


def timed(tokenizer: str, limit: int, metrics: str, how: str) -> tuple[float, float]:
    """Wall seconds of a whole run, and the part of its batches' time that was spent between the processes."""
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [sys.executable, "-c", RUN, tokenizer, str(limit), metrics, folder, how]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        wall = time.perf_counter() - started
        seconds = json.loads((Path(done.stdout.strip()) / "result.json").read_text())["seconds"]
    return wall, seconds["transfer"] / seconds["total"]


def main() -> None:
    """A row a tokenizer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizers", nargs="*", default=["identity", "h264-opus", "pca-vq"])
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--metrics", default="", help="default: all that suit")
    options = parser.parse_args()
    rows = []
    for tokenizer in options.tokenizers:
        apart, together = [], []
        for _ in range(options.repeats):
            apart.append(timed(tokenizer, options.limit, options.metrics, "apart"))
            together.append(timed(tokenizer, options.limit, options.metrics, "together"))
        (wall, between), (base, _) = min(apart), min(together)
        rows.append([tokenizer, f"{base:.1f}", f"{wall:.1f}", f"{wall / base - 1:+.1%}", f"{between:.1%}"])
        print(tabulate(rows, headers=["tokenizer", "one process (s)", "isolated (s)", "cost", "of it between processes"]), flush=True)


if __name__ == "__main__":
    main()
