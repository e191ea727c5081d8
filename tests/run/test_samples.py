"""Samples of a run: what is kept of a clip, under which name, and that it is the clip."""

import contextlib
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from avbench.errors import AvbenchError
from avbench.generate.panels import panels
from avbench.run import samples
from avbench.run.samples import MEL_BANDS, has_sample, sample_name, write_pair
from avbench.types import ClipBatch

RATE = 24_000


def write_sample(folder: Path, reference: ClipBatch, recon: ClipBatch, task: str = "reconstruct") -> None:
    samples.write_sample(folder, reference, recon, write_pair if task == "reconstruct" else panels(task))  # type: ignore[arg-type]


def clip(*, video: bool = True, audio: bool = True, hertz: float = 1000.0) -> ClipBatch:
    time = torch.arange(49_152) / RATE
    tone = torch.where(time < 1.024, 0.5 * torch.sin(2 * torch.pi * hertz * time), torch.zeros(()))
    frames = torch.linspace(0.2, 0.9, 8)[None, :, None, None, None].expand(1, 8, 3, 32, 32)
    return ClipBatch(
        ids=("a/b",),
        labels=("x",),
        fps=8 / 2.048,
        sample_rate=RATE,
        video=frames if video else None,
        audio=tone[None, None] if audio else None,
    )


def test_a_sample_is_pictures_sounds_stills_and_spectrograms_and_both_side_by_side(tmp_path: Path) -> None:
    write_sample(tmp_path, clip(), clip(hertz=3000.0))
    name = sample_name("a/b")
    wanted = {f"{side}.{kind}" for side in ("reference", "recon") for kind in ("mp4", "flac", "jpg", "png")}
    assert {path.name for path in (tmp_path / name).iterdir()} == wanted
    assert has_sample(tmp_path, "a/b")
    with av.open(str(tmp_path / name / "recon.mp4")) as movie:
        assert not movie.streams.audio
        frames = [frame.to_ndarray(format="rgb24").mean() / 255 for frame in movie.decode(video=0)]
    assert frames == pytest.approx(torch.linspace(0.2, 0.9, 8).tolist(), abs=0.02)
    with av.open(str(tmp_path / f"{name}.mp4")) as pair:
        assert (pair.streams.video[0].width, pair.streams.audio[0].channels) == (128, 2)


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: what would make a file larger fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("part", ["all", "sound", "both"])
def test_a_full_disk_is_told_in_words_whichever_file_does_not_fit(tmp_path: Path, part: str) -> None:
    write_sample(tmp_path / "whole", clip(), clip())
    folder = tmp_path / "whole" / sample_name("a/b")
    picture, sound = ((folder / f"reference.{kind}").stat().st_size for kind in ("mp4", "flac"))
    both = folder.with_suffix(".mp4").stat().st_size
    assert picture < sound < both
    size = {"all": 0, "sound": (picture + sound) // 2, "both": (sound + both) // 2}[part]
    with files_of_at_most(size), pytest.raises(AvbenchError, match=r"no space left for .*run the same command again"):
        write_sample(tmp_path / "full", clip(), clip())
    assert not has_sample(tmp_path / "full", "a/b")


def test_the_sound_kept_is_the_sound_measured(tmp_path: Path) -> None:
    recon = clip(hertz=3000.0)
    write_sample(tmp_path, clip(), recon)
    with av.open(str(tmp_path / sample_name("a/b") / "recon.flac")) as file:
        samples = np.concatenate([frame.to_ndarray().ravel() for frame in file.decode(audio=0)])
    assert recon.audio is not None
    assert np.abs(samples / 32768 - recon.audio[0, 0].numpy()).max() < 1 / 32000


def test_a_spectrogram_has_time_along_its_width_and_low_sounds_at_the_bottom(tmp_path: Path) -> None:
    write_sample(tmp_path, clip(hertz=300.0), clip(hertz=8000.0))
    brightness = {}
    for side in ("reference", "recon"):
        pixels = np.asarray(Image.open(tmp_path / sample_name("a/b") / f"{side}.png").convert("L")).astype(float)
        assert pixels.shape == (MEL_BANDS, 1 + 49_152 // 256)
        half = pixels.shape[1] // 2
        assert pixels[:, : half - 5].max() > 4 * pixels[:, half + 5 :].max() + 1  # the tone stops in the middle
        brightness[side] = pixels[:, :half].mean(1).argmax()
    assert brightness["reference"] > MEL_BANDS * 0.7 > MEL_BANDS * 0.4 > brightness["recon"]


def test_what_a_tokenizer_lacks_is_not_there(tmp_path: Path) -> None:
    write_sample(tmp_path / "sound", clip(), clip(video=False))
    write_sample(tmp_path / "picture", clip(), clip(audio=False))
    recon = {kind: {path.suffix for path in (tmp_path / kind / sample_name("a/b")).glob("recon.*")} for kind in ("sound", "picture")}
    assert recon == {"sound": {".flac", ".png"}, "picture": {".mp4", ".jpg"}}
    assert has_sample(tmp_path / "sound", "a/b")
    assert has_sample(tmp_path / "picture", "a/b")


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "a/../b", ".hidden", "<script>", "x" * 500, "ü\n"])
def test_a_name_stays_inside_the_folder_and_two_ids_never_share_one(hostile: str) -> None:
    name = sample_name(hostile)
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) < 80
    assert name != sample_name(hostile + " ")


def test_a_sample_of_an_older_version_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / f"{sample_name('a/b')}.mp4").touch()
    assert not has_sample(tmp_path, "a/b")


@pytest.mark.parametrize(("task", "height", "ears"), [("a2v", 256, 1), ("v2a", 256, 2), ("av", 320, 2)])
def test_a_generated_clip_is_shown_between_its_condition_and_the_real_one(tmp_path: Path, task: str, height: int, ears: int) -> None:
    real, made = clip(), clip(hertz=3000.0)
    assert made.video is not None
    write_sample(tmp_path, real, replace(made, video=1 - made.video), task)
    with av.open(str(tmp_path / f"{sample_name('a/b')}.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24") / 255 for frame in file.decode(video=0)]
        assert file.streams.audio[0].codec_context.layout.nb_channels == ears
    assert {frame.shape for frame in frames} == {(height, 768, 3)}
    condition, shown, truth = (np.stack([frame[:256, 256 * k : 256 * (k + 1)] for frame in frames]) for k in range(3))
    brightness = np.linspace(0.2, 0.9, 8)
    if task == "v2a":
        assert condition.mean((1, 2, 3)) == pytest.approx(brightness, abs=0.03)
        assert np.abs(shown - truth).mean() > 0.02  # two spectrograms, of tones that differ
    else:
        assert shown.mean((1, 2, 3)) == pytest.approx(1 - brightness, abs=0.03)
        assert truth.mean((1, 2, 3)) == pytest.approx(brightness, abs=0.03)
    if task == "a2v":
        cursor = condition[:, :, :, :].min((1, 3)).argmax(1)
        assert cursor == pytest.approx(np.arange(8) * 32, abs=3)  # the white line, in step with the frames


def test_a_class_is_written_on_a_card(tmp_path: Path) -> None:
    cards = []
    for label in ("x", "a much longer name"):
        write_sample(tmp_path / label, replace(clip(), labels=(label,)), clip(), "av")
        with av.open(str(tmp_path / label / f"{sample_name('a/b')}.mp4")) as file:
            cards.append(next(file.decode(video=0)).to_ndarray(format="rgb24")[:, :256])
    assert 0 < (cards[0] > 128).mean() < (cards[1] > 128).mean() < 0.1
