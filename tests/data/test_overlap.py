"""Fingerprints and `avbench data overlap`: copies are found, other clips are not."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from avbench.cli.app import app
from avbench.data import splits
from avbench.data.fingerprint import distances, fingerprint
from avbench.data.overlap import alike, overlap
from avbench.errors import UsageError
from avbench.protocol import Protocol

PROTOCOL = Protocol(num_frames=8, duration_s=2.0, resolution=64, sample_rate=16_000)


def clip(seed: int, *, frames: int = 8, later: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Coarse noise that moves, and a sum of wandering tones; `later` seconds on."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 255, (8, 24, 3)).astype(np.float32)
    video = [np.kron(np.roll(ground, int(2 * (k / 4 + later)), axis=1)[:, :8], np.ones((8, 8, 1))) for k in range(frames)]
    time = np.arange(32_000) / 16_000 + later
    pitches = rng.uniform(300, 1_800, 6)
    sound = sum(np.sin(2 * np.pi * (p * time + 40 * np.sin(2 * np.pi * (1 + i) * time / 3))) for i, p in enumerate(pitches))
    return np.array(video, dtype=np.uint8), (sound * 3_000).astype(np.int16)


def apart(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    pictures, sound = distances([fingerprint(*a, PROTOCOL)], [fingerprint(*b, PROTOCOL)], PROTOCOL)
    return float(pictures[0, 0]), float(sound[0, 0])


def test_a_clip_is_at_no_distance_from_itself_and_far_from_another() -> None:
    assert apart(clip(0), clip(0)) == (0.0, 0.0)
    pictures, sound = apart(clip(0), clip(1))
    assert pictures > 0.3
    assert sound > 0.3


def test_noise_a_fade_and_a_cut_in_time_leave_a_copy_alike() -> None:
    video, audio = clip(0, later=0.25)
    rng = np.random.default_rng(9)
    worse = (0.8 * video + rng.normal(0, 12, video.shape)).clip(0, 255).astype(np.uint8)
    quieter = (0.3 * audio + rng.normal(0, 60, audio.shape)).astype(np.int16)
    pictures, sound = apart(clip(0), (worse, quieter))
    assert alike(np.array(pictures), np.array(sound))


def test_what_says_nothing_in_both_counts_for_nothing_and_in_one_is_a_difference() -> None:
    video, audio = clip(0)
    assert apart((video, 0 * audio), (video, audio)) == (0.0, 1.0)
    assert apart((0 * video, audio), (video, audio)) == (1.0, 0.0)
    for both, expected in (((video, 0 * audio), True), ((0 * video, audio), True), ((0 * video, 0 * audio), False)):
        assert bool(alike(*map(np.array, apart(both, both)))) is expected
    assert np.isnan(apart((video[:0], audio), (video[:0], audio))[0])


def test_many_clips_at_once_are_compared_as_two_are() -> None:
    clips = [fingerprint(*clip(seed), PROTOCOL) for seed in range(5)]
    pictures, sound = distances(clips, clips, PROTOCOL)
    for i, j in ((0, 1), (2, 4), (3, 3)):
        assert (pictures[i, j], sound[i, j]) == pytest.approx(apart(clip(i), clip(j)), abs=1e-6)


def test_the_overlap_of_two_folders_is_the_file_that_both_have(clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "copied.mp4").write_bytes((clip_folder / "square" / "1.mp4").read_bytes())
    done = CliRunner().invoke(app, ["data", "overlap", f"folder:{clip_folder}", f"folder:{tmp_path / 'theirs'}"])
    assert done.exit_code == 0, done.output
    assert "square/1.mp4  copied.mp4  pictures 0.00, sound 0.00" in done.output
    assert "1 of 5 clips" in done.output


def test_splits_of_two_protocols_are_refused(clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    a, b = (splits.load(f"folder:{clip_folder}{query}", progress=False) for query in ("", "?res=64"))
    with pytest.raises(UsageError, match="at one protocol"):
        list(overlap(a, b))
