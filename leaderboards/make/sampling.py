"""How to sample: temperature, guidance and chain on held-out clips.

    python leaderboards/make/sampling.py [--tokenizer avtok] [--task TASK]

Generates the first clips of arcade-val (--limit 101: one of each game) with the tokenizer's own generator, each way of WAYS, and prints
class accuracy and agreement. About two minutes of two cores a row.
"""

import argparse
import json
from typing import Any

from avbench.leaderboards.make.common import RUNS, pipe_table, run
from avbench.types import RunSpec, Sampling

SPLIT = "arcade-val"
COLD, GUIDED = {"temperature": 0.5}, {"temperature": 0.5, "guidance": 3.0}
WAYS: dict[str, tuple[dict[str, Any], ...]] = {
    "a2v": ({}, GUIDED, COLD),
    "v2a": ({}, GUIDED, COLD),
    "av": ({}, GUIDED, GUIDED | {"chain": True}),
}
METRICS: dict[str, tuple[str, ...]] = {
    "a2v": ("class_accuracy_video", "av_agreement", "av_agreement_soft"),
    "v2a": ("class_accuracy_audio", "av_agreement", "av_agreement_soft"),
    "av": ("class_accuracy_video", "class_accuracy_audio", "av_agreement", "av_agreement_soft"),
}


def values(tokenizer: str, task: str, way: dict[str, Any], limit: int) -> dict[str, str]:
    """Metric -> value with its 95 % interval, in per cent."""
    spec = RunSpec(tokenizer=tokenizer, task=task, split=SPLIT, limit=limit, metrics=METRICS[task], sampling=Sampling(**way))
    result = json.loads((run(spec, runs_dir=RUNS / "sampling") / "result.json").read_text())
    found = {value["name"]: [100 * value[key] for key in ("value", "ci_low", "ci_high")] for value in result["values"]}
    return {name: f"{value:.1f} [{low:.1f}, {high:.1f}]" for name, (value, low, high) in found.items()}


def words(way: dict[str, Any]) -> str:
    """As options of `avbench run`."""
    options = [f"--{name}" if value is True else f"--{name} {value:g}" for name, value in way.items()]
    return " ".join(options) or "(defaults)"


def main() -> None:
    """A table for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default="avtok")
    parser.add_argument("--task", action="append", choices=list(WAYS))
    parser.add_argument("--limit", type=int, default=101)
    given = parser.parse_args()
    for task in given.task or WAYS:
        found = [(way, values(given.tokenizer, task, way, given.limit)) for way in WAYS[task]]
        rows = [[words(way), *(row[metric] for metric in METRICS[task])] for way, row in found]
        headers = [f"{task}, {given.limit} clips of {SPLIT}, %", *METRICS[task]]
        print(pipe_table(rows, headers), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
