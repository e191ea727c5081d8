"""EnCodec 48 kHz: the authors' codes, scales and samples from the authors' file, what its payload takes, and stereo at other rates."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codec_files import GAINS, codec_state, golden, stereo
from safetensors.torch import save_file

import avbench
from avbench.errors import AvbenchError, UsageError
from avbench.protocol import Protocol
from avbench.run import payload
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.encodec.checkpoint import STEREO, load_checkpoint, to_transformers
from avbench.tokenizers.encodec.stereo import EncodecStereo
from avbench.tokenizers.encodec.tokenizer import Encodec
from avbench.types import ClipBatch
from tests.helpers import clocks

GOLDEN = golden("encodec48")
SECONDS, RATE = 1.25, 48_000


@pytest.fixture(scope="module")
def authors_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official file's keys, shapes and kind of name, with weights that follow from the keys."""
    file = tmp_path_factory.mktemp("authors") / "encodec.th"
    torch.save(codec_state(GOLDEN["shapes"], GAINS["encodec"]), file)
    return file.rename(file.with_name(f"encodec_48khz-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.th"))


def load(path: Path, *variants: str, rate: int = RATE, channels: int = 2) -> EncodecStereo:
    protocol = Protocol(num_frames=0, duration_s=SECONDS, sample_rate=rate, channels=channels)
    return EncodecStereo(TokenizerOptions(checkpoint=path, variants=variants, protocol=protocol))


def clip(audio: torch.Tensor, rate: int = RATE) -> ClipBatch:
    return ClipBatch(audio=audio, fps=0.0, sample_rate=rate)


def test_the_authors_file_gives_the_authors_codes_scales_and_samples(authors_file: Path) -> None:
    """Golden: tests/golden/make_codecs.py, the package encodec 0.1.1. Two segments, the last one of 0.26 s."""
    tokenizer = load(authors_file, "6k")
    tokens = tokenizer.encode(clip(stereo()))
    assert tokens.codes["audio"][0].tolist() == GOLDEN["codes"]
    scales = np.frombuffer(bytes(tokens.codes["audio.scale"][0, 0].tolist()), ">f4")
    assert scales.tolist() == pytest.approx(GOLDEN["scales"], rel=1e-6)
    recon = tokenizer.decode(payload.from_bytes([payload.to_bytes(tokens, 0)])).audio
    assert recon is not None
    assert recon.shape == (1, 2, 60_000)
    torch.testing.assert_close(recon[0, :, ::500], torch.tensor(GOLDEN["every_500th"]), atol=1e-4, rtol=0)
    assert float(recon.std()) == pytest.approx(GOLDEN["std"], abs=1e-5)


def test_a_hugging_face_folder_gives_the_same_codes(authors_file: Path, tmp_path: Path) -> None:
    from transformers import EncodecConfig

    save_file(to_transformers(torch.load(authors_file, weights_only=True)), tmp_path / "model.safetensors")
    EncodecConfig(**STEREO).save_pretrained(tmp_path)
    assert load(tmp_path, "6k").encode(clip(stereo())).codes["audio"][0].tolist() == GOLDEN["codes"]


def test_segments_and_scales_are_counted(authors_file: Path) -> None:
    """4.096 s: five segments of which the last has 21 frames; 16 codebooks of 10 bits at 24 kbit/s, 32 bits a segment."""
    tokens = load(authors_file, "24k").encode(clip(torch.zeros(1, 2, 196_608)))
    assert tokens.codes["audio"].shape == (1, 16, 4 * 150 + 21)
    assert tokens.codes["audio.scale"].shape == (1, 1, 4 * 5)


@pytest.mark.parametrize(("rate", "channels", "samples"), [(44_100, 2, 55_125), (24_000, 1, 30_000)])
def test_other_rates_are_resampled_and_mono_is_both_sides(authors_file: Path, rate: int, channels: int, samples: int) -> None:
    audio = torch.from_numpy(clocks.chirp(SECONDS, rate)).expand(1, channels, -1)
    tokenizer = load(authors_file, "3k", rate=rate, channels=channels)
    recon = tokenizer.decode(tokenizer.encode(clip(audio, rate)))
    assert recon.audio is not None
    assert (recon.audio.shape, recon.sample_rate) == ((1, channels, samples), rate)


def test_the_other_model_is_named(authors_file: Path, tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match="try encodec-48khz"):
        Encodec(TokenizerOptions(checkpoint=authors_file))
    torch.save(codec_state(golden("encodec")["shapes"], GAINS["encodec"]), tmp_path / "mono.th")
    with pytest.raises(AvbenchError, match=r"try encodec$"):
        load_checkpoint(tmp_path / "mono.th", stereo=True)
    with pytest.raises(UsageError, match="clips of this split have 6 channels"):
        load(authors_file, channels=6)
    with pytest.raises(UsageError, match="3k, 6k, 12k, 24k"):
        load(authors_file, "1.5k")


def test_payloads_that_cannot_be_are_refused(authors_file: Path) -> None:
    tokenizer = load(authors_file, "3k")
    tokens = tokenizer.encode(clip(stereo()))
    tokens.codes["audio.scale"][0, 0, :4] = torch.tensor([255, 255, 255, 255])
    with pytest.raises(AvbenchError, match="loudness is nan"):
        tokenizer.decode(tokens)
    del tokens.codes["audio.scale"]
    with pytest.raises(AvbenchError, match="damaged payload"):
        tokenizer.decode(tokens)


def test_it_is_evaluated_on_stereo_and_beside_a_video_codec(
    authors_file: Path, tmp_path: Path, test_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "songs").mkdir()
    sides = np.stack([clocks.chirp(1.5, 44_100), 0.5 * clocks.chirp(1.5, 44_100, 1.0)], axis=1)
    soundfile.write(tmp_path / "songs" / "a.wav", sides, 44_100)
    options = {"device": "cpu", "progress": False}
    song = avbench.evaluate(
        "encodec-48khz@6k", f"{tmp_path}/songs?protocol=cd&seconds=1", metrics=("mr_stft", "bits_per_s"), checkpoint=authors_file, **options
    )
    assert song["bits_per_s"] == pytest.approx(4 * (150 + 2) * 10 + 2 * 32)  # the last segment: 480 samples, two frames
    (tmp_path / "videos").mkdir()
    clocks.write(tmp_path / "videos" / "a.mp4", seconds=2.0)
    both = avbench.evaluate(
        "h264@400k+encodec-48khz@6k", f"{tmp_path}/videos?res=64&fps=25&seconds=1&rate=44100&channels=2",
        metrics=("psnr", "mr_stft", "bits_per_s"), checkpoint=f"+{authors_file}", **options,
    )  # fmt: skip
    assert both.num_failed == 0
    assert both["psnr"] > 20
    assert both["bits_per_s"] > song["bits_per_s"]
