"""What a run tells while it works: log.jsonl, TensorBoard and a progress bar. All of it written by the first process."""

import json
import math
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from avbench import files

LOG = "log.jsonl"
MAX_BYTES = 2**26  # of a log; a line has about 500


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
    """The sound lines of a run's log; none where there is no log. Raises AvbenchError where log.jsonl is no ordinary file."""
    return read_lines(out)[0]


def read_lines(out: Path) -> tuple[list[dict[str, Any]], int]:
    """The sound lines of a log, which may come from anybody, and how many are damaged: every sound line says `stage` and `clips_seen`.

    Raises AvbenchError where log.jsonl is no ordinary file, or larger than any log.
    """
    lines, damaged = [], 0
    for text in _raw(out / LOG):
        try:
            line = files.parse_json(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and isinstance(line.get("stage"), str) and is_number(line.get("clips_seen")):
            lines.append(line)
        else:
            damaged += 1
    return lines, damaged


def is_number(value: Any) -> bool:
    """Whether a value of a line is a number; a loss that was none is NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _raw(path: Path) -> list[bytes]:
    return list(files.read_lines(path, MAX_BYTES)) if os.path.lexists(path) else []


def _keep_until(path: Path, step: int) -> None:
    """Drop lines beyond `step`, and a last line that a kill cut off."""
    if not os.path.lexists(path):
        return
    kept = []
    for line in _raw(path):
        try:
            if files.parse_json(line)["step"] <= step:
                kept.append(line.rstrip(b"\n") + b"\n")
        except (ValueError, KeyError, TypeError):
            break
    with files.atomic(path) as file:
        file.write(b"".join(kept))


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _flat(f"{prefix}/{key}", value)
        elif isinstance(value, int | float) and key != "step":
            found.append((f"{prefix}/{key}", float(value)))
    return found
