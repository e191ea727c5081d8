"""What the scripts of this folder share: finished runs, where their small files are kept, and a paired difference in words."""

import json
import shutil
from pathlib import Path
from typing import Any

from tabulate import tabulate

from avbench.board.compare import MetricComparison
from avbench.board.text import format_number
from avbench.errors import AvbenchError
from avbench.run.evaluate import evaluate
from avbench.types import RunSpec

RUNS = Path("runs")
REFERENCE = RUNS / "reference"
KEPT = ("manifest.json", "result.json", "clips.jsonl")


def run(spec: RunSpec, *, runs_dir: Path = RUNS, save_samples: int = 0) -> Path:
    """The folder of the finished run, resumed where it was stopped. Raises AvbenchError where it fails, or a clip does."""
    done = evaluate(spec, runs_dir=runs_dir, save_samples=save_samples)
    if done.num_failed:
        raise AvbenchError(f"{done.folder}: {done.num_failed} clips failed; clips.jsonl says why")
    print(done.folder.name, flush=True)
    return done.folder


def keep(folder: Path) -> None:
    """Copy the small files of a run to runs/reference/, in place of an earlier run of the same tokenizer and split."""
    name = folder.name.rpartition("_")[0]
    for old in REFERENCE.glob(f"{name}_*"):
        if old.name.rpartition("_")[0] == name:
            shutil.rmtree(old)
    (REFERENCE / folder.name).mkdir(parents=True)
    for file in KEPT:
        shutil.copy(folder / file, REFERENCE / folder.name / file)
    manifest = REFERENCE / folder.name / "manifest.json"
    manifest.write_text(json.dumps(_without_paths(json.loads(manifest.read_text())), indent=1) + "\n")


def _without_paths(manifest: dict[str, Any]) -> dict[str, Any]:
    """The command with the last parts of its absolute paths: where a machine keeps its files is nobody's business."""
    words = [Path(word).name if word.startswith("/") else word for word in str(manifest["command"]).split(" ")]
    return {**manifest, "command": " ".join(words)}


def difference(row: MetricComparison) -> str:
    """`B - A [interval]` of one metric, a star where it is significant; or why there is none."""
    test = row.difference
    if row.p_holm is None or test.difference is None:
        return row.verdict

    def number(value: float | None) -> str:
        return "n/a" if value is None else format_number(row.column, value)

    star = "" if row.p_holm >= 0.05 else " *"
    return f"{number(test.difference)} [{number(test.ci_low)}, {number(test.ci_high)}]{star}"


def pipe_table(rows: list[list[str]], headers: list[str]) -> str:
    """Markdown, cells as they are."""
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)
