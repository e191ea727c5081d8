"""How long is the way of a stranger's row? `python benchmarks/submission.py [--limit 12] [--metrics ...]`.

The toy plugin of the tests on the first clips of arcade-mini: run, submit, validate, verify (of a copy of the plugin, in another folder),
table; each command in a process of its own, in a folder to throw away. Prints wall seconds and the last line of each.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tabulate import tabulate

from avbench.board.submission import PLEDGE

TOY = Path(__file__).parents[1] / "tests" / "toy_plugin"
CARD = f"who: A. Stranger\ncontact: none\ntrained_on: nothing\nlicence: MIT\nlink: none\npledge: {PLEDGE}\n"


def timed(place: Path, *arguments: str) -> tuple[float, str]:
    """Seconds of `avbench ARGUMENTS` in `place`, and the last line that it prints."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "avbench", *arguments], cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"avbench {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started, done.stdout.strip().splitlines()[-1]


def main() -> None:
    """A line a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--metrics", default="psnr,ssim,fvd,codebook_use,bits_per_s,tokens_per_s")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        for home in ("author", "keeper"):
            shutil.copytree(TOY, place / home / "plugin")
        (place / "author" / "card.yaml").write_text(CARD)
        plugin = "plugin/block_mean.py:BlockMean"
        what = ("--split", "arcade-mini", "--limit", str(given.limit), "--metrics", given.metrics)
        steps = [("run", *timed(place / "author", "run", "--tokenizer", plugin, *what))]
        steps.append(("submit", *timed(place / "author", "submit", steps[0][2])))
        shutil.copytree(place / "author" / "results", place / "keeper" / "results")
        steps.append(("validate", *timed(place / "keeper", "validate", "results")))
        steps.append(("verify", *timed(place / "keeper", "verify", steps[1][2], "--tokenizer", plugin, "--by", "keeper")))
        steps.append(("table", *timed(place / "keeper", "table", "--results", "results", "--no-reported")))
    print(tabulate([(name, f"{seconds:.1f}", line[:90]) for name, seconds, line in steps], headers=["command", "s", "last line"]))


if __name__ == "__main__":
    main()
