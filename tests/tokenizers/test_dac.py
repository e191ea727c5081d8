"""Descript Audio Codec: the authors' results from the authors' file, and Hugging Face's form of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from codec_files import GAINS, NUM_SAMPLES, codec_state, golden, sound
from safetensors.torch import save_file

from avbench.errors import AvbenchError, UsageError
from avbench.nn.weight_norm import without_weight_norm
from avbench.run.check import check
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.dac import OFFICIAL_CONFIG, Dac
from avbench.types import ClipBatch

GOLDEN = golden("dac")


@pytest.fixture
def authors_file(tmp_path: Path) -> Path:
    """{"state_dict", "metadata"} as the authors publish it, small."""
    return _save(tmp_path / "weights_24khz.pth", GOLDEN["kwargs"])


def _save(file: Path, kwargs: dict[str, Any], **changes: torch.Tensor) -> Path:
    state = codec_state(GOLDEN["shapes"], GAINS["dac"]) | {key.replace("__", "."): value for key, value in changes.items()}
    torch.save({"state_dict": state, "metadata": {"kwargs": kwargs}}, file)
    return file


def _load(checkpoint: Path | None, *variants: str) -> Dac:
    return Dac(TokenizerOptions(checkpoint=checkpoint, variants=variants))


def _clip(num_samples: int) -> ClipBatch:
    return ClipBatch(audio=sound(num_samples), fps=3.90625, sample_rate=24_000)


def test_the_authors_file_gives_the_authors_codes_and_samples(authors_file: Path) -> None:
    """Golden: tests/golden/make_codecs.py, the package descript-audio-codec 1.0.0. Codebooks of 64: 3.6 kbit/s for all eight."""
    tokenizer = _load(authors_file, "3.6k")
    tokens = tokenizer.encode(_clip(NUM_SAMPLES))
    assert tokens.codes["audio"][0].tolist() == GOLDEN["codes"]
    recon = tokenizer.decode(tokens).audio
    assert recon is not None
    torch.testing.assert_close(recon[0, 0, ::500], torch.tensor(GOLDEN["every_500th"]), atol=1e-4, rtol=0)
    assert float(recon.std()) == pytest.approx(GOLDEN["std"], abs=1e-5)


def test_the_official_config_makes_a_network_of_the_published_size() -> None:
    from transformers import DacConfig, DacModel

    with torch.device("meta"):
        model = without_weight_norm(DacModel(DacConfig(**OFFICIAL_CONFIG)))
    assert sum(weight.numel() for weight in model.parameters()) == GOLDEN["official_weights"]


def test_a_hugging_face_folder_gives_what_transformers_makes_of_it(tmp_path: Path) -> None:
    from transformers import DacConfig, DacModel

    config = {**OFFICIAL_CONFIG, "encoder_hidden_size": 4, "decoder_hidden_size": 32, "n_codebooks": 8}
    model = DacModel(DacConfig(**config)).eval()
    model.load_state_dict(codec_state({key: value.shape for key, value in model.state_dict().items()}, 1.0))
    model.save_pretrained(tmp_path)
    tokenizer = _load(tmp_path)
    assert tokenizer.info.name == "dac@6k"
    assert tokenizer.info.trained_on == "not stated"
    with torch.inference_mode():
        codes = model.encode(torch.nn.functional.pad(sound(NUM_SAMPLES), (0, 160)), n_quantizers=8).audio_codes
        expected = model.decode(audio_codes=codes).audio_values[:, :NUM_SAMPLES]
        tokens = tokenizer.encode(_clip(NUM_SAMPLES))
        recon = tokenizer.decode(tokens).audio
    assert recon is not None
    assert torch.equal(tokens.codes["audio"], codes)
    torch.testing.assert_close(recon[:, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rate", "num_tokens"), [("0.9k", 616), ("1.8k", 1232), ("3.6k", 2464)])
def test_a_clip_of_the_standard_protocol_has_308_frames(authors_file: Path, rate: str, num_tokens: int) -> None:
    tokenizer = _load(authors_file, rate)
    tokens = tokenizer.encode(_clip(98_304))
    assert tokens.codes["audio"].shape == (1, num_tokens // 308, 308)


def test_the_samples_that_the_decoder_loses_at_the_end_are_silence(authors_file: Path) -> None:
    """Whole frames in: the official decoder gives 320 a frame less 8, and a clip is never shorter than it was."""
    tokenizer = _load(authors_file)
    recon = tokenizer.decode(tokenizer.encode(_clip(40 * 320))).audio
    assert recon is not None
    assert recon.shape[-1] == 40 * 320
    assert not recon[..., -8:].any()
    assert recon[..., -9] != 0


@pytest.mark.slow
def test_the_conformance_kit_passes(authors_file: Path) -> None:
    failed = [finding for finding in check("dac", checkpoint=authors_file) if not finding.passed]
    assert not failed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder__block__99__bias": torch.zeros(1)}, r"has unknown encoder\.block\.98\.bias"),
        ({"quantizer__quantizers__0__codebook__weight": torch.zeros(1, 8)}, "mis-shaped"),
        ({"decoder__model__0__weight_g": torch.ones(1, 1, 1)}, r"decoder\.model\.0\.weight_g has shape"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_key(tmp_path: Path, changes: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(AvbenchError, match=message):
        _load(_save(tmp_path / "a.pth", GOLDEN["kwargs"], **changes))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "its metadata lacks codebook_dim"),
        ({**GOLDEN["kwargs"], "n_codebooks": 10**6}, "n_codebooks is 1000000"),
        ({**GOLDEN["kwargs"], "encoder_rates": "many"}, "are not decoder_rates"),
        ({**GOLDEN["kwargs"], "encoder_dim": 64}, "mis-shaped"),
        ({**GOLDEN["kwargs"], "codebook_dim": [8] * 8}, "makes no model"),
        ({**GOLDEN["kwargs"], "decoder_rates": [2, 4, 5, 8]}, "decoder_rates"),
    ],
)
def test_a_file_whose_arguments_are_no_dac_is_refused(tmp_path: Path, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(AvbenchError, match=message):
        _load(_save(tmp_path / "a.pth", kwargs))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(OFFICIAL_CONFIG | {"encoder_hidden_size": 4, "decoder_hidden_size": 32}))
    with pytest.raises(AvbenchError, match="is not what its config says: it lacks"):
        _load(tmp_path)


def test_rates_extra_and_weights_that_are_missing_are_named(authors_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"0\.9k, 1\.8k, 3\.6k"):
        _load(authors_file, "6k")
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("AVBENCH_WEIGHTS", raising=False)
    with pytest.raises(AvbenchError, match="avbench weights pull dac-24khz"):
        _load(None)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(AvbenchError, match=r"pip install 'avbench\[dac\]'"):
        _load(authors_file)
