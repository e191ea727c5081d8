"""Where the time of a run goes: `python benchmarks/breakdown.py [RUN ...]`; without an argument, every arcade-mini run in runs/.

Decode, resample and pixel metrics (read + psnr + ssim) are to stay at or under 15 % of the wall time.
"""

import json
import sys
from pathlib import Path

from tabulate import tabulate

OURS = ("read", "payload", "metric psnr", "metric ssim")


def breakdown(folder: Path) -> list[tuple[str, str, str]]:
    """(stage, seconds, share of the total) of a run, longest first."""
    result = json.loads((folder / "result.json").read_text())
    seconds = result["seconds"]
    total = seconds["total"]
    rows = [(stage, f"{s:.1f}", f"{100 * s / total:.1f} %") for stage, s in seconds.items() if stage != "total" and s >= 0.05]
    ours = sum(seconds.get(stage, 0.0) for stage in OURS)
    rows.append((f"read + payload + pixel metrics of {total:.1f} s", f"{ours:.1f}", f"{100 * ours / total:.1f} %"))
    return rows


def main() -> None:
    """Print the table of each run."""
    folders = [Path(name) for name in sys.argv[1:]] or sorted(path.parent for path in Path("runs").glob("*arcade-mini*/result.json"))
    for folder in folders:
        print(f"\n{folder.name}")
        print(tabulate(breakdown(folder), headers=("stage", "seconds", "share")))


if __name__ == "__main__":
    main()
