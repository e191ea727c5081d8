"""Puts our own runs among the published rows, results/, which come with avbench.

    python leaderboards/make/published.py RUN [RUN ...]        e.g. runs/avtok-scene-mini_arcade-mini_220fd7b6f8

A row is added so: `avbench run ...`, then this, then `avbench validate results`, `avbench table --results results --write` and
`python benchmarks/readme.py`. It takes the place of an earlier row of the same tokenizer, split and protocol, whatever its revision.
Whatever still lies in runs/reference moves with `python leaderboards/make/published.py --move runs/reference`, again and again: numbers
stay byte for byte.

The schedules' rows (leaderboards/make/schedules.py) are of no board: `--to leaderboards/kept/schedules`.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from avbench.board.submission import PLEDGE
from avbench.board.submit import write_submission
from avbench.errors import AvbenchError
from avbench.leaderboards.make.common import KEPT_GENERATORS, RESULTS
from avbench.types import DEFAULT_TASK

CARD = """who: avbench authors
contact: the issues of avbench's repository
trained_on: {trained_on}
training_split: "{training_split}"
exception: "{exception}"
licence: Apache-2.0
link: avbench's repository
pledge: {pledge}
"""
SAMPLING = "temperature and guidance were first looked at on clips of this split; arcade-val did not contradict them"


def publish(run: Path, to: Path = RESULTS) -> Path:
    """The row of a finished run below `to`, the only one of its tokenizer on these clips.

    Raises AvbenchError where its numbers did not arrive byte for byte.
    """
    result = json.loads((run / "result.json").read_text())
    trained_on = result["tokenizer"].get("trained_on") or "nothing"
    split = "arcade-train" if trained_on.startswith("arcade-train") else ""
    is_drawn = result["spec"].get("task", DEFAULT_TASK) != DEFAULT_TASK and result["tokenizer"].get("kind") != "control"
    exception = SAMPLING if is_drawn else ""
    card = CARD.format(trained_on=json.dumps(trained_on), training_split=split, exception=exception, pledge=PLEDGE)
    folder, _ = write_submission(run, to, card.encode())
    written = json.loads((folder / "result.json").read_text())
    same = all(written.get(key) == result.get(key) for key in ("values", "cost", "num_clips", "num_ok", "num_failed"))
    if not same or written["split"]["checksum"] != result["split"]["checksum"]:
        raise AvbenchError(f"{folder}: its numbers are not those of {run}")
    for other in folder.parents[1].glob(f"*/{folder.name}"):
        if other != folder:
            shutil.rmtree(other)
            if not any(other.parent.iterdir()):
                other.parent.rmdir()
    return folder


def runs_of(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Runs of an old runs/reference, and the folder of rows that each belongs to."""
    for file in sorted(folder.rglob("result.json")):
        schedules = file.parent.parent.name == "schedules"
        yield file.parent, Path("leaderboards", "kept", "schedules") if schedules else RESULTS


def main() -> None:
    """Publish runs, or move a whole folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--to", type=Path, default=RESULTS)
    parser.add_argument("--move", type=Path, metavar="runs/reference")
    given = parser.parse_args()
    for run in given.runs:
        print(publish(run, given.to), flush=True)
    if given.move is None:
        return
    for run, to in runs_of(given.move):
        print(publish(run, to), flush=True)
        shutil.rmtree(run)
    for file in sorted((given.move / "generators").glob("*.json")):
        KEPT_GENERATORS.mkdir(parents=True, exist_ok=True)
        shutil.move(file, KEPT_GENERATORS / file.name)
    for empty in sorted((path for path in given.move.rglob("*") if path.is_dir()), reverse=True):
        empty.rmdir()
    given.move.rmdir()


if __name__ == "__main__":
    main()
