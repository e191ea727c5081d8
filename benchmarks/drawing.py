"""How to draw: temperature, guidance and chain on held-out clips. `python benchmarks/drawing.py [--tokenizer avtok] [--task TASK]`.

Generates the first clips of arcade-val (--limit 101: one of each game) with the tokenizer's own generator, each way of WAYS, and prints
class accuracy and agreement. About two minutes of two cores a row.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tabulate import tabulate

SPLIT = "arcade-val"
WAYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "a2v": ((), ("--temperature", "0.5", "--guidance", "3"), ("--temperature", "0.5")),
    "v2a": ((), ("--temperature", "0.5", "--guidance", "3"), ("--temperature", "0.5")),
    "av": ((), ("--temperature", "0.5", "--guidance", "3"), ("--temperature", "0.5", "--guidance", "3", "--chain")),
}
METRICS = {
    "a2v": ("class_accuracy_video", "av_agreement", "av_agreement_soft"),
    "v2a": ("class_accuracy_audio", "av_agreement", "av_agreement_soft"),
    "av": ("class_accuracy_video", "class_accuracy_audio", "av_agreement", "av_agreement_soft"),
}


def values(tokenizer: str, task: str, way: tuple[str, ...], limit: int) -> dict[str, str]:
    """Metric -> value with its 95 % interval, in per cent."""
    command = ["run", "--tokenizer", tokenizer, "--task", task, "--split", SPLIT, "--limit", str(limit), *way]
    command += ["--metrics", ",".join(METRICS[task]), "--runs-dir", str(Path("runs") / "drawing")]
    done = subprocess.run([sys.executable, "-m", "avbench", *command], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads((Path(done.stdout.strip().splitlines()[-1]) / "result.json").read_text())
    found = {value["name"]: [100 * value[key] for key in ("value", "ci_low", "ci_high")] for value in result["values"]}
    return {name: f"{value:.1f} [{low:.1f}, {high:.1f}]" for name, (value, low, high) in found.items()}


def main() -> None:
    """A table for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default="avtok")
    parser.add_argument("--task", action="append", choices=list(WAYS))
    parser.add_argument("--limit", type=int, default=101)
    given = parser.parse_args()
    for task in given.task or WAYS:
        found = [(way, values(given.tokenizer, task, way, given.limit)) for way in WAYS[task]]
        rows = [[" ".join(way) or "(defaults)", *(row[metric] for metric in METRICS[task])] for way, row in found]
        headers = [f"{task}, {given.limit} clips of {SPLIT}, %", *METRICS[task]]
        print(tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
