"""What a run tells while it works: log.jsonl, TensorBoard and a progress bar. All of it written by the first process."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from avbench.files import atomic

LOG = "log.jsonl"


class Log:
    """`out`/log.jsonl, a JSON object a line: {"kind": "train" | "eval", "step", "stage", "clips_seen", ...}; the same in TensorBoard.

    A resumed run forgets the lines that its last kill had left beyond its checkpoint, so that every step is there once.
    """

    def __init__(self, out: Path, *, step: int, total_clips: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        out.mkdir(parents=True, exist_ok=True)
        self.path = out / LOG
        _keep_until(self.path, step)
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} of {task.total:,.0f} clips"))
        self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
        self._task: TaskID = self._bar.add_task("starting", total=total_clips)
        self._bar.start()

    def write(self, kind: str, values: dict[str, Any]) -> None:
        """Add a line. values: step, stage, clips_seen, and numbers or dicts of numbers."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind} | values) + "\n")
        for name, value in _flat(kind, values):
            self._board.add_scalar(name, value, values["step"])
        self._board.flush()

    def show(self, stage: str, clips_seen: int, loss: float, clips_per_s: float, held_out: str) -> None:
        """Move the progress bar."""
        description = f"{stage}  loss {loss:.4f}  {clips_per_s:.1f} clips/s  {held_out}".rstrip()
        self._bar.update(self._task, completed=clips_seen, description=description)

    def close(self) -> None:
        """Take the bar away and flush TensorBoard."""
        self._bar.stop()
        self._board.close()


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    path = out / LOG
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _keep_until(path: Path, step: int) -> None:
    """Drop lines beyond `step`, and a last line that a kill cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            break
    with atomic(path, "w") as file:
        file.write("".join(f"{line}\n" for line in kept))


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _flat(f"{prefix}/{key}", value)
        elif isinstance(value, int | float) and key != "step":
            found.append((f"{prefix}/{key}", float(value)))
    return found
