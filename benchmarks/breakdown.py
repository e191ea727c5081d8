"""Where the time of a run goes: `python benchmarks/breakdown.py [RUN ...]`; without an argument, every arcade-mini run in runs/.

Decode, resample and pixel metrics (prepare + read + psnr + ssim) are to stay at or under 15 % of the wall time.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tabulate import tabulate

OURS = ("read", "payload", "metric psnr", "metric ssim")


def breakdown(folder: Path, prepare: float) -> list[tuple[str, str, str]]:
    """(stage, seconds, share of the total) of a run, longest first; `prepare`: seconds that decoding its clips takes where it is first."""
    result = json.loads((folder / "result.json").read_text())
    seconds = result["seconds"]
    total = seconds["total"]
    rows = [(stage, f"{s:.1f}", f"{100 * s / total:.1f} %") for stage, s in seconds.items() if stage != "total" and s >= 0.05]
    ours = prepare + sum(seconds.get(stage, 0.0) for stage in OURS)
    share = f"{100 * ours / (total + prepare):.1f} %"
    rows.append((f"prepare + read + payload + pixel metrics of {total + prepare:.1f} s", f"{ours:.1f}", share))
    return rows


def prepare_seconds(split: str) -> float:
    """Wall time of decoding (or emulating) and resampling a split's clips from nothing, on all cores; a run finds them prepared."""
    with TemporaryDirectory() as cache:
        begin = time.perf_counter()
        command = [sys.executable, "-m", "avbench", "data", "prepare", split]
        subprocess.run(command, env={**os.environ, "AVBENCH_CACHE": cache}, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begin


def main() -> None:
    """Print the table of each run."""
    folders = [Path(name) for name in sys.argv[1:]] or sorted(path.parent for path in Path("runs").glob("*arcade-mini*/result.json"))
    prepare = prepare_seconds("arcade-mini")
    print(f"preparing the 101 clips of arcade-mini, once for all runs: {prepare:.1f} s")
    for folder in folders:
        print(f"\n{folder.name}")
        print(tabulate(breakdown(folder, prepare), headers=("stage", "seconds", "share")))


if __name__ == "__main__":
    main()
