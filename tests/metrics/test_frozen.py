"""Features of a split: what is read, what is kept, what a kill leaves, and how the progress of it is shown."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from avbench.data import arcade
from avbench.data.batches import Batch
from avbench.errors import AvbenchError
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics.features import frozen, training_clips
from avbench.metrics.features.frozen import Frozen
from avbench.metrics.features.training_clips import Once
from avbench.types import ClipBatch, ClipFailure, ClipRef

NUMBER = 10  # clips: three parts


@dataclass(frozen=True)
class SmallSplit:
    """As much of a split as its features ask for."""

    name: str = "arcade-train"
    checksum: str = "0123456789abcdef0123"
    clips: tuple[ClipRef, ...] = tuple(ClipRef(id=f"train/{i}", label="pong") for i in range(NUMBER))


class Machine:
    """Reads clips that hold their own number as a video, and makes features of them: two windows, whose mean is the number."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.fail_at: int | None = None
        self.killed_at: int | None = None

    def read_batch(self, split: SmallSplit, part: int, places: list[int]) -> Batch:
        self.read += places
        if self.fail_at in places:
            failure = ClipFailure(id=split.clips[places[0]].id, label="pong", reason="its shard is cut off")
            return Batch(index=part, clips=None, failures=(failure,))
        return Batch(index=part, clips=ClipBatch(video=torch.tensor(places), fps=1.0, sample_rate=1), failures=())

    def extract(self, content: Tensor, sample_rate: int) -> Tensor:
        if self.killed_at in content.tolist():
            raise KeyboardInterrupt
        number = content.float()[:, None, None].repeat(1, 2, 3)
        return number + torch.tensor([-1.0, 1.0])[:, None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(frozen.weights, "path", lambda name: Path(name))
    monkeypatch.setattr(frozen, "_extractor", lambda modality, device: found.extract)
    monkeypatch.setattr(frozen, "read_batch", found.read_batch)
    return found


def expected() -> np.ndarray:
    return np.arange(NUMBER, dtype=np.float32)[:, None].repeat(3, axis=1)


def video_features() -> np.ndarray:
    return Frozen("video", MetricOptions()).of_split(SmallSplit())  # type: ignore[arg-type]


def test_features_come_in_the_order_of_the_clips_and_clips_are_read_once(machine: Machine) -> None:
    assert np.array_equal(video_features(), expected())
    assert machine.read == [*range(NUMBER)]
    assert np.array_equal(video_features(), expected())
    assert machine.read == [*range(NUMBER)]


def test_a_killed_computation_goes_on_where_it_was(machine: Machine) -> None:
    machine.killed_at = 5
    with pytest.raises(KeyboardInterrupt):
        video_features()
    machine.read, machine.killed_at = [], None
    assert np.array_equal(video_features(), expected())
    assert machine.read == [4, 5, 6, 7, 8, 9]


def test_a_damaged_feature_is_made_again_alone(machine: Machine, tmp_path: Path) -> None:
    video_features()
    machine.read = []
    broken = sorted(tmp_path.rglob("*.npy"))[0]
    broken.write_bytes(broken.read_bytes()[:50])
    assert np.array_equal(video_features(), expected())
    assert len(machine.read) == 1


def test_a_feature_of_other_content_is_made_again(machine: Machine, tmp_path: Path) -> None:
    video_features()
    np.save(sorted(tmp_path.rglob("*.npy"))[0], np.full((2, 3), np.nan, np.float32))
    assert np.array_equal(video_features(), expected())


def test_features_that_are_no_numbers_are_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "_extractor", lambda modality, device: lambda x, rate: torch.full((len(x), 2, 3), torch.nan))
    with pytest.raises(AvbenchError, match="no finite numbers; remove it"):
        video_features()


def test_a_clip_that_cannot_be_read_is_an_error_and_not_a_smaller_training_set(machine: Machine) -> None:
    machine.fail_at = 8
    with pytest.raises(AvbenchError, match="clip train/8 cannot be read: its shard is cut off; avbench data"):
        video_features()


def test_what_is_made_once_is_made_at_the_first_get_and_its_failure_stays() -> None:
    calls: list[int] = []

    def make() -> int:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("no space left")
        return 7

    good, bad = Once(make), Once(make)
    assert calls == []
    assert (good.get(), good.get()) == (7, 7)
    for _ in range(2):
        with pytest.raises(MetricUnavailable, match="no space left"):
            bad.get()
    assert len(calls) == 2


def test_lines_tell_the_progress_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 0.0, 30.0, 40.0, 150.0])
    monkeypatch.setattr(training_clips.time, "monotonic", lambda: next(clock))
    assert list(training_clips.tracked(range(4), "features")) == [0, 1, 2, 3]
    # 1 of 4 in 30 s; at 40 s the last line is too recent; then 2 more in 120 s and 1 to go
    assert capsys.readouterr().err.splitlines() == ["features: 25%, about 2 min left", "features: 75%, about 1 min left"]


def test_a_bar_fits_on_a_terminal_that_has_none_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert training_clips.bar_fits()
    assert list(training_clips.tracked(range(3), "features")) == [0, 1, 2]
    assert "features" in terminal.getvalue()
    with Progress(console=Console(stderr=True, force_terminal=True)):
        assert not training_clips.bar_fits()
    assert training_clips.bar_fits()


def test_the_identity_of_the_training_clips_changes_with_their_content(monkeypatch: pytest.MonkeyPatch) -> None:
    before = training_clips.identity()
    assert training_clips.identity() == before
    pins = arcade.read_pins(training_clips.SPLIT)
    monkeypatch.setattr(arcade, "read_pins", lambda stem: ("0" * 32, *pins[1:]))
    assert training_clips.identity() != before
