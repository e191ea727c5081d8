"""What the scripts of this folder share: finished runs, where what is kept of them lies, and a paired difference in words."""

import glob
from pathlib import Path

from tabulate import tabulate

from avbench.board.compare import MetricComparison
from avbench.board.text import format_number
from avbench.errors import AvbenchError
from avbench.run.evaluate import evaluate
from avbench.types import RunSpec

RUNS = Path("runs")
RESULTS = Path("results")  # the published rows
KEPT_SCHEDULES = Path("leaderboards", "kept", "schedules")  # rows of no board
KEPT_GENERATORS = Path("leaderboards", "kept", "generators")


def run(spec: RunSpec, *, runs_dir: Path = RUNS, save_samples: int = 0) -> Path:
    """The folder of the finished run, resumed where it was stopped. Raises AvbenchError where it fails, or a clip does."""
    done = evaluate(spec, runs_dir=runs_dir, save_samples=save_samples)
    if done.num_failed:
        raise AvbenchError(f"{done.folder}: {done.num_failed} clips failed; clips.jsonl says why")
    print(done.folder.name, flush=True)
    return done.folder


def rows(tokenizer: str = "*", place: str = "*", below: Path = RESULTS) -> list[Path]:
    """Folders of kept rows whose tokenizer and `<split>_<protocol>` fit the patterns ("arcade-mini_*")."""
    return sorted(file.parent for file in below.glob(f"{glob.escape(tokenizer) if tokenizer != '*' else '*'}/*/{place}/result.json"))


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
