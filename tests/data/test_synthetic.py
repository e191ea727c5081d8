"""avbench.data.synthetic: clips that need nothing but NumPy."""

from pathlib import Path

import numpy as np
import pytest

from avbench.data import splits
from avbench.data.synthetic import PROTOCOL, draw


def test_a_clip_moves_sounds_and_follows_from_its_name_and_number() -> None:
    video, audio = draw("a", 4, PROTOCOL)
    assert (video.shape, video.dtype, audio.shape, audio.dtype) == ((16, 128, 128, 3), np.uint8, (98_304,), np.int16)
    assert np.abs(np.diff(video.astype(int), axis=0)).any(axis=(1, 2, 3)).sum() >= 10
    assert np.abs(audio.astype(int)).max() > 5_000
    again, other = draw("a", 4, PROTOCOL), draw("b", 4, PROTOCOL)
    assert np.array_equal(video, again[0])
    assert np.array_equal(audio, again[1])
    assert not np.array_equal(video, other[0])


def test_the_pitch_tells_the_class() -> None:
    peaks = [int(np.abs(np.fft.rfft(draw("a", index, PROTOCOL)[1])).argmax()) for index in range(6)]
    assert max(peaks[0], peaks[3]) < min(peaks[1], peaks[4])
    assert max(peaks[1], peaks[4]) < min(peaks[2], peaks[5])


def test_training_and_validation_clips_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    train, val = (splits.load(f"synthetic-{name}", limit=6, progress=False) for name in ("train", "val"))
    assert {clip.label for clip in train.clips} == {"low", "middle", "high"}
    assert not {entry.pin for entry in train.entries} & {entry.pin for entry in val.entries}
