"""Files at other protocols: stereo, sound or pictures alone, native sizes, another beginning; and what is no such file."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from avbench.data import splits
from avbench.data.damage import MediaError
from avbench.data.decode import read_protocol
from avbench.data.sound import mix
from avbench.errors import AvbenchError, UsageError
from avbench.protocol import Protocol
from tests.helpers import clocks

RATE = 44_100


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))


def stereo(path: Path, seconds: float = 3.0, kind: str = "PCM_16") -> np.ndarray:
    """(N, 2): another chirp on each side, in a file."""
    sides = np.stack([clocks.chirp(seconds, RATE), 0.5 * clocks.chirp(seconds, RATE, start=2.0)], axis=1)
    soundfile.write(path, sides, RATE, subtype=kind)
    return sides


@pytest.mark.parametrize("name", ["x.wav", "x.flac"])
def test_stereo_sound_is_the_files_own_samples(name: str, tmp_path: Path) -> None:
    sides = stereo(tmp_path / name)
    video, audio = read_protocol(tmp_path / name, Protocol(num_frames=0, duration_s=2.0, sample_rate=RATE, channels=2))
    assert video.size == 0
    assert audio.shape == (2, 2 * RATE)
    middle = np.rint(sides[RATE // 2 : RATE // 2 + 2 * RATE].T * 32767)
    assert np.abs(audio - middle).max() <= 1  # 16 bits, rounded once by the file and once here


def test_mono_of_stereo_is_the_average_and_stereo_of_mono_copies(tmp_path: Path) -> None:
    sides = stereo(tmp_path / "x.wav")
    _, mono = read_protocol(tmp_path / "x.wav", Protocol(num_frames=0, duration_s=3.0, sample_rate=RATE))
    assert np.abs(mono - np.rint(sides.mean(axis=1) * 32767)).max() <= 2
    soundfile.write(tmp_path / "m.wav", sides[:, 0], RATE)
    _, both = read_protocol(tmp_path / "m.wav", Protocol(num_frames=0, duration_s=3.0, sample_rate=RATE, channels=2))
    assert np.array_equal(both[0], both[1])


def test_six_channels_become_two_in_turn_and_two_do_not_become_six() -> None:
    six = np.arange(6, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    assert np.array_equal(mix(six, 2)[:, 0], [2.0, 3.0])  # of 0, 2, 4 and of 1, 3, 5
    with pytest.raises(MediaError, match="2 channels; the split wants 6"):
        mix(six[:2], 6)


def test_a_folder_of_sound_files_is_a_split_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    stereo(tmp_path / "songs" / "a.wav")
    (tmp_path / "songs" / "b.flac").write_bytes(b"fLaC nothing")
    with pytest.raises(AvbenchError, match="no videos"):
        splits.load(f"folder:{tmp_path}/songs", progress=False)
    split = splits.load(f"folder:{tmp_path}/songs?protocol=cd&seconds=2", progress=False)
    batch = splits.read_batch(split, 0, [0, 1])
    assert batch.clips is not None
    assert batch.clips.video is None
    assert batch.clips.audio is not None
    assert batch.clips.audio.shape == (1, 2, 2 * RATE)
    assert [failure.id for failure in batch.failures] == ["b.flac"]


def test_videos_without_sound_are_clips_where_no_sound_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    clocks.write(tmp_path / "v" / "a.mp4", seconds=3.0, keep=lambda kind, _: kind == "video")
    split = splits.load(f"folder:{tmp_path}/v?only=video&res=64&fps=5&seconds=2", progress=False)
    batch = splits.read_batch(split, 0, [0])
    assert batch.clips is not None
    assert batch.clips.audio is None
    assert batch.clips.video is not None
    pictures = (batch.clips.video[0].permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    assert np.allclose(clocks.times_of(pictures), 0.5 + 0.2 * np.arange(10), atol=0.021)


def test_a_beginning_is_kept(tmp_path: Path) -> None:
    path = clocks.write(tmp_path / "a.mp4", seconds=5.0)
    video, _ = read_protocol(path, Protocol(num_frames=5, duration_s=1.0, resolution=64, start_s=3.0))
    assert np.allclose(clocks.times_of(video), 3.0 + 0.2 * np.arange(5), atol=0.021)


def test_native_clips_keep_their_own_sizes(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name, shape in (("a.mp4", (48, 64, 3)), ("b.mp4", (64, 32, 3))):
        clocks.write(tmp_path / "v" / name, seconds=2.0, shown=lambda number, shape=shape: np.full(shape, 100 + number, np.uint8))
    split = splits.load(f"folder:{tmp_path}/v?res=native&fps=4&seconds=1", progress=False)
    shapes = [tuple(splits.read_batch(split, number, [number]).clips.video.shape) for number in (0, 1)]
    assert shapes == [(1, 4, 3, 48, 64), (1, 4, 3, 64, 32)]
    with pytest.raises(UsageError, match="--batch-size 1"):
        splits.read_batch(split, 0, [0, 1])
    path = next(split.root.glob("clip-*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    damaged = [splits.read_batch(split, number, [number]).failures for number in (0, 1)]
    assert sum(len(failures) for failures in damaged) == 1


def test_emulated_splits_change_size_and_rate_alone(tmp_path: Path) -> None:
    assert splits.find("arcade-mini?res=64").protocol == Protocol(resolution=64)
    assert splits.find("arcade-mini?res=64").root != splits.find("arcade-mini").root
    assert splits.find("arcade-mini?res=128").root == splits.find("arcade-mini").root
    for query in ("fps=25", "channels=2", "only=audio", "res=native", "start=1"):
        with pytest.raises(UsageError, match="only res and rate"):
            splits.find(f"arcade-mini?{query}")


def test_a_folder_with_a_question_mark_in_its_name_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "what?res=64").mkdir()
    clocks.write(tmp_path / "what?res=64" / "a.mp4", seconds=2.0)
    assert splits.find(f"folder:{tmp_path}/what?res=64").protocol == Protocol()
    assert splits.find(f"folder:{tmp_path}/what?res=64?res=32").protocol == Protocol(resolution=32)
