"""Verifies every row of a board that this machine can make, and prints a table with the time it took.

    python leaderboards/make/verify.py [--split arcade-mini] [--limit N] [--runs-dir runs] [TOKENIZER ...]

Rows are those of reference.py; each is evaluated first (resuming, or reusing, what runs/ holds: published rows keep no bytes) and then made
again from its kept bytes, within walls. Exits with 1 if a row that was made could not be verified.
"""

import argparse
import sys
import time
from pathlib import Path

from avbench.errors import AvbenchError
from avbench.leaderboards.make.common import RUNS, pipe_table, run
from avbench.leaderboards.make.reference import SPLITS, TRAINED_HERE
from avbench.run.differences import told
from avbench.run.finished import Run
from avbench.run.verify import verify
from avbench.types import RunSpec

HEADERS = ["row", "clips", "metrics", "verified", "encoded again: same bytes", "run, s", "verify, s"]


def row(spec: RunSpec, runs_dir: Path) -> list[str]:
    """Cells of one tokenizer. Raises AvbenchError where it cannot be evaluated here."""
    folder = run(spec, runs_dir=runs_dir)
    result, started = Run.read(folder).result, time.perf_counter()
    try:
        done = verify(folder)
    except AvbenchError as error:
        return [result["tokenizer"]["name"], str(result["num_clips"]), "", f"no: {error}", "", "", ""]
    seconds = time.perf_counter() - started
    print("\n".join(told(done.differences)), end="\n" if done.differences else "", flush=True)
    again = f"{done.reencoded.equal} of {done.reencoded.clips}"
    verified = f"no: {len(done.differences)} differences" if done.differences else "yes"
    spent = result["seconds"].get("total", 0.0)
    return [result["tokenizer"]["name"], str(done.num_clips), str(done.num_metrics), verified, again, f"{spent:.0f}", f"{seconds:.0f}"]


def main() -> None:
    """Every row that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="arcade-mini", choices=SPLITS)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--runs-dir", type=Path, default=RUNS)
    parser.add_argument("tokenizers", nargs="*", help="default: all of the board")
    options = parser.parse_args()
    rows, left_out = [], []
    for tokenizer, checkpoint in (*((name, None) for name in SPLITS[options.split]), *TRAINED_HERE):
        if options.tokenizers and tokenizer not in options.tokenizers:
            continue
        try:
            spec = RunSpec(tokenizer=tokenizer, split=options.split, checkpoint=checkpoint, limit=options.limit)
            rows.append(row(spec, options.runs_dir))
            print(" | ".join(rows[-1]), flush=True)
        except AvbenchError as error:
            left_out.append(f"{tokenizer} is left out: {error}")
    print(pipe_table(rows, HEADERS), *left_out, sep="\n")
    sys.exit(any(cells[3] != "yes" for cells in rows))


if __name__ == "__main__":
    main()
