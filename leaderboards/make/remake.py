"""Makes anew what follows from the published rows: values and intervals of every metric with one number a clip.

    python leaderboards/make/remake.py [--write]

For a change of avbench/stats, which needs no clip and no tokenizer. Distribution metrics (FVD, FAD, codebook use) keep what they have:
their features are not kept. Prints what moves; `--write` writes it.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from avbench import registry, stats
from avbench.board.submit import seal
from avbench.errors import AvbenchError
from avbench.files import atomic
from avbench.leaderboards.make.common import KEPT_SCHEDULES, rows
from avbench.run.finished import read_clips


def remake(folder: Path, write: bool) -> list[str]:
    """Lines of what moves in a run's result."""
    result = json.loads((folder / "result.json").read_text())
    clips = read_clips(folder)
    lines = []
    for value in result["values"]:
        numbers = [row["metrics"].get(value["name"]) for row in clips if row["status"] == "ok"]
        if value["value"] is None or not _is_mean(value["name"]) or not any(number is not None for number in numbers):
            continue
        data = np.array([math.nan if number is None else number for number in numbers])
        low, high = stats.mean_interval(data[np.isfinite(data)], seed=result["spec"]["seed"])
        new = {"value": float(np.nanmean(data)), "ci_low": low, "ci_high": high}
        lines += [f"{folder} {value['name']} {key}: {value[key]} -> {new[key]}" for key in new if not _close(value[key], new[key])]
        value.update({key: new[key] for key in new if not _close(value[key], new[key])})
    result["intervals"] = stats.VERSION
    if write:
        with atomic(folder / "result.json", "w") as file:
            file.write(json.dumps(result, indent=1) + "\n")
        seal(folder)
    return lines


def _is_mean(name: str) -> bool:
    try:
        return registry.metric_info(name).per_clip
    except (AvbenchError, KeyError):
        return False


def _close(a: Any, b: Any) -> bool:
    return isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=1e-12)


def main() -> None:
    """Every published row, and those of the schedules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    for folder in (*rows(), *rows(below=KEPT_SCHEDULES)):
        print("\n".join(remake(folder, options.write)) or f"{folder}: as it was", flush=True)


if __name__ == "__main__":
    main()
