"""Peak memory of runs, each a process of its own, from nothing.

    python benchmarks/memory.py clips [TOKENIZER]     every metric, 101 and 1,010 clips of arcade-test: within 10 % of each other
    python benchmarks/memory.py metrics               large metrics all at once, one after another, and the largest alone

`metrics` measures those whose weights are here; for each other it puts a stand-in, which holds as many bytes and computes nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tabulate import tabulate

from avbench import registry
from avbench.metric import MetricOptions, MetricUnavailable

LARGE = ("ib_score", "desync", "clap_score")
STAND_IN = """
import torch
from avbench.metric import MetricInfo, PerClipMetric

class {name}(PerClipMetric):
    info = MetricInfo(name="{name}", unit="", higher_is_better=None, needs=frozenset({{"video"}}), protocol="a stand-in",
                      per_clip=True, memory_bytes={size})
    def __init__(self, options):
        self.network = torch.ones({size} // 4, device=options.device)
    def update(self, reference, recon, tokens):
        return self.network[: len(recon)]
"""


def main() -> None:
    """Print the table asked for."""
    if sys.argv[1:] == ["metrics"]:
        large_metrics()
    else:
        number_of_clips(sys.argv[2] if len(sys.argv) > 2 else "static-frame+silence")


def number_of_clips(tokenizer: str) -> None:
    """Both peaks and their ratio."""
    rows = [(limit, *peak("--tokenizer", tokenizer, "--split", "arcade-test", "--limit", str(limit))) for limit in (101, 1010)]
    print(tabulate(rows, headers=("clips", "peak memory MB", "seconds"), floatfmt=".0f"))
    print(f"ratio {rows[1][1] / rows[0][1]:.3f} (to stay within 0.9 and 1.1)")


def large_metrics() -> None:
    """Peaks with all networks in memory, with one at a time, and with the largest metric alone."""
    sizes = {name: registry.metric_info(name).memory_bytes for name in LARGE}
    with TemporaryDirectory() as folder:
        names = stand_ins(Path(folder), sizes)
        largest = names[max(LARGE, key=sizes.__getitem__)]
        run = ("--tokenizer", "identity", "--split", "arcade-mini", "--limit", "16")
        ways = {
            "none of them (psnr)": ("psnr", "0"),
            f"the largest alone ({largest})": (largest, "0"),
            "one after another": (",".join(names.values()), "0"),
            "all at once": (",".join(names.values()), "1000"),
        }
        rows = [(way, *peak(*run, "--metrics", metrics, "--metrics-memory", limit, path=folder)) for way, (metrics, limit) in ways.items()]
    print(tabulate(rows, headers=("large metrics", "peak memory MB", "seconds"), floatfmt=".0f"))
    print("networks: " + ", ".join(f"{names[name]} {size / 1e6:.0f} MB" for name, size in sizes.items()))


def stand_ins(folder: Path, sizes: dict[str, int]) -> dict[str, str]:
    """Metric -> itself where it can be loaded here, else a plugin of the same size, registered in `folder`."""
    names = {}
    for name, size in sizes.items():
        try:
            registry.load_metric(name, MetricOptions())
            names[name] = name
        except MetricUnavailable:
            names[name] = f"{name}_size"
            (folder / f"{name}_size.py").write_text(STAND_IN.format(name=names[name], size=size))
    facts = folder / "sizes-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: sizes\nVersion: 1\n")
    made = [f"{found} = {found}:{found}" for name, found in names.items() if found != name]
    (facts / "entry_points.txt").write_text("\n".join(["[avbench.metrics]", *made, ""]))
    return names


def peak(*arguments: str, path: str = "") -> tuple[float, float]:
    """(peak resident memory in MB, wall seconds) of `avbench run ARGUMENTS`, with `path` among the folders of packages."""
    command = [sys.executable, "-m", "avbench", "run", *arguments, "--runs-dir", "runs/memory", "--fresh"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in (path, os.environ.get("PYTHONPATH", "")) if part)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result = json.loads((Path(done.stdout.strip().splitlines()[-1]) / "result.json").read_text())
    costs = {value["name"]: value["value"] for value in result["cost"]}
    return costs["peak_memory_mb"], result["seconds"]["total"]


if __name__ == "__main__":
    main()
