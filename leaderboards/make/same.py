"""Compares two runs of the same clips, number by number: what a change of the code moved.

    python leaderboards/make/same.py RUN KEPT

Each is a folder of runs/ or of results/. RUN may have fewer clips (--limit): clips are compared by id. Values over all clips (FVD,
intervals) are compared where both have the same clips. Prints a line a metric, the largest difference of any clip and of the value;
exits 1 if one is over 1e-6.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from avbench.run.finished import read_clips

TOLERANCE = 1e-6


def rows_of(folder: Path) -> dict[str, dict[str, float | None]]:
    """Clip id -> its metrics."""
    return {row["id"]: row["metrics"] for row in read_clips(folder)}


def values_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Metric -> its entry in result.json."""
    return {value["name"]: value for value in json.loads((folder / "result.json").read_text())["values"]}


def difference(a: float | None, b: float | None) -> float:
    """0 for equal; infinite where one has no number."""
    if a is None or b is None:
        return 0.0 if a == b else math.inf
    return abs(a - b)


def compare(run: Path, kept: Path) -> dict[str, tuple[int, float, float | None]]:
    """Metric that both know -> (clips compared, largest difference of a clip, of value and interval or None)."""
    rows, before = rows_of(run), rows_of(kept)
    values, earlier = values_of(run), values_of(kept)
    common = rows.keys() & before.keys()
    found = {}
    for name in values.keys() & earlier.keys():
        of_clips = [difference(rows[clip][name], before[clip][name]) for clip in common if name in rows[clip] and name in before[clip]]
        whole = None
        if rows.keys() == before.keys():
            whole = max(difference(values[name][key], earlier[name][key]) for key in ("value", "ci_low", "ci_high"))
        if of_clips or whole is not None:
            found[name] = (len(of_clips), max(of_clips, default=0.0), whole)
    return found


def main() -> None:
    """Both runs' folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("kept", type=Path)
    options = parser.parse_args()
    found = compare(options.run, options.kept)
    if not found:
        raise SystemExit(f"{options.run} and {options.kept} have no clip and metric in common")
    for name, (clips, of_clips, whole) in sorted(found.items()):
        print(f"{name:22} {clips:5} clips {of_clips:10.3g}   value {'n/a' if whole is None else f'{whole:.3g}'}")
    sys.exit(any(max(of_clips, whole or 0.0) > TOLERANCE for _, of_clips, whole in found.values()))


if __name__ == "__main__":
    main()
