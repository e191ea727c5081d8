"""Throughput of a training run, from its log: `python benchmarks/training.py RUN_FOLDER`.

Median clips/s by stage, model FLOP utilisation (the tokenizer's own matrix products against a large matrix product of the same dtype on the
same device and threads) and the share of time that the loop stood waiting for data.
"""

import json
import sys
from pathlib import Path
from statistics import median

from tabulate import tabulate

COLUMNS = ("clips_per_s", "mfu", "waiting_for_data")


def rows(log: Path) -> list[list[str]]:
    """One line a stage."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    stages: dict[str, list[dict[str, float]]] = {}
    for entry in entries:
        if entry["kind"] == "train":
            stages.setdefault(entry["stage"], []).append(entry)
    return [[name, str(len(found)), *(f"{median(e[c] for e in found):.4g}" for c in COLUMNS)] for name, found in stages.items()]


if __name__ == "__main__":
    print(tabulate(rows(Path(sys.argv[1]) / "log.jsonl"), headers=["stage", "log lines", "clips/s", "MFU", "waiting for data"]))
