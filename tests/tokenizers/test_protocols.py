"""Every built-in tokenizer at other protocols: what comes back is a clip of the split, or it is said before anything is computed."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import avbench
from avbench.errors import UsageError
from tests.helpers import clocks
from tests.helpers.codec_files import GAINS, codec_state, golden

RATE = 44_100


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stereo files of 1.5 s."""
    folder = tmp_path_factory.mktemp("songs")
    for name, start in (("a.wav", 0.0), ("b.flac", 2.0)):
        sides = np.stack([clocks.chirp(1.5, RATE, start), 0.5 * clocks.chirp(1.5, RATE, start + 1)], axis=1)
        soundfile.write(folder / name, sides, RATE)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("a.mp4", "b.mp4"):
        clocks.write(folder / name, seconds=2.0)
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def checkpoint(name: str, folder: Path) -> Path:
    """The official architecture's file at random weights, small, as published."""
    facts = golden(name)
    state = codec_state(facts["shapes"], GAINS[name])
    folder.mkdir()
    if name == "dac":
        torch.save({"state_dict": state, "metadata": {"kwargs": facts["kwargs"]}}, folder / "weights_24khz.pth")
        return folder / "weights_24khz.pth"
    if name == "snac":
        (folder / "config.json").write_text(json.dumps(facts["config"]))
        torch.save(state, folder / "pytorch_model.bin")
        return folder
    torch.save(state, folder / "encodec.th")
    return folder / "encodec.th"


@pytest.mark.parametrize("name", ["encodec", "dac", "snac"])
def test_networks_of_one_channel_code_stereo_at_another_rate(name: str, songs: Path, tmp_path: Path) -> None:
    options = {"metrics": ("si_sdr", "mr_stft", "bits_per_s"), "device": "cpu", "progress": False}
    variant = {"dac": "dac@3.6k"}.get(name, name)
    path = checkpoint(name, tmp_path / name)
    mono, stereo = (
        avbench.evaluate(variant, f"{songs}?protocol=cd&seconds=1&channels={channels}", checkpoint=path, **options) for channels in (1, 2)
    )
    assert stereo.num_failed == 0
    assert stereo["bits_per_s"] == pytest.approx(2 * mono["bits_per_s"])
    assert "44100 Hz stereo" in stereo.result["protocol"]
    assert np.isfinite(stereo["mr_stft"])


@pytest.mark.parametrize(("name", "exact"), [("identity", True), ("static-frame+silence", False), ("h264@200k-opus@64k", False)])
def test_controls_and_codecs_take_any_size_rate_and_channels(name: str, exact: bool, videos: Path) -> None:
    query = "res=48&fps=25&seconds=1&rate=48000&channels=2"
    run = avbench.evaluate(name, f"{videos}?{query}", metrics=("psnr", "si_sdr", "av_align"), device="cpu", progress=False)
    assert run.num_failed == 0
    assert run["psnr"] == 100 if exact else 5 < run["psnr"] <= 100


@pytest.mark.parametrize(
    ("name", "query", "says"),
    [
        ("avtok", "res=256", r"resolution 128 \(not 256\)"),
        ("avtok", "fps=25", r"num_frames 16 \(not 102\)"),
        ("mel-vocoder@griffinlim", "channels=2", r"channels 1 \(not 2\)"),
        ("h264", "only=audio", "have no video"),
        ("identity", "only=video", "have no audio"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(name: str, query: str, says: str, videos: Path) -> None:
    with pytest.raises(UsageError, match=says):
        avbench.evaluate(name, f"{videos}?{query}", metrics=("psnr",), device="cpu", progress=False)
