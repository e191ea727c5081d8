"""What a run tells while it works: log.jsonl, TensorBoard and a progress bar. All of it written by the first process.

And held-out clips as a PNG: a row of frames and mel of the reference, and under it that of the reconstruction.
"""

import json
import math
import os
import threading
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional as F

from avbench import files
from avbench.files import atomic, is_disk_error

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
        self._hook = threading.excepthook
        threading.excepthook = self._thread_ended
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
        try:
            self._board.close()
        finally:
            threading.excepthook = self._hook

    def _thread_ended(self, args: threading.ExceptHookArgs) -> None:
        """A full disk under TensorBoard's thread is raised by the next call: once, in words, and not as a traceback before."""
        if args.exc_value is None or not is_disk_error(args.exc_value):
            self._hook(args)


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


FRAMES = 6  # of each clip's 16, evenly spread
GAP = 4  # white pixels between clips


def sheet(references: list[Tensor], recons: list[Tensor]) -> Tensor:
    """Rows (3, H, W) in [0, 1], one of each a clip -> uint8 (3, H', W): each reference above its reconstruction."""
    pairs = [F.pad(torch.cat(pair, dim=1), (0, 0, 0, GAP), value=1.0) for pair in zip(references, recons, strict=True)]
    return (torch.cat(pairs, dim=1).clamp(0, 1) * 255).round().to(torch.uint8)


def frame_row(video: Tensor) -> Tensor:
    """(T, 3, H, W) -> (3, H, W'): some frames side by side."""
    picks = torch.linspace(0, len(video) - 1, min(FRAMES, len(video))).round().long()
    return torch.cat(list(video[picks]), dim=2).float()


def spectrogram(mel: Tensor, height: int) -> Tensor:
    """(bands, F) in [0, 1] -> (3, height, F), low bands at the bottom."""
    from matplotlib import colormaps

    coloured = torch.from_numpy(colormaps["magma"](mel.flip(0).numpy())[..., :3]).permute(2, 0, 1).float()
    return F.interpolate(coloured[None], size=(height, mel.shape[1]), mode="nearest")[0]


def write_picture(path: Path, pixels: Tensor) -> None:
    """uint8 (3, H, W) as PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(file, format="png")
