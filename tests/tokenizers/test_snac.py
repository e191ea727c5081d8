"""SNAC: the authors' results from the published files, its three time scales in one stream, its noise without chance."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from codec_files import GAINS, NUM_SAMPLES, codec_state, golden, sound

from avbench.errors import AvbenchError, UsageError
from avbench.run.check import check
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.snac import OFFICIAL_CONFIG, Snac, deinterleave, interleave
from avbench.types import ClipBatch

pytest.importorskip("snac", reason="the extra is not installed: pip install 'avbench[snac]'")
GOLDEN = golden("snac")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """config.json and pytorch_model.bin, as published, small."""
    (tmp_path / "config.json").write_text(json.dumps(GOLDEN["config"]))
    torch.save(codec_state(GOLDEN["shapes"], GAINS["snac"]), tmp_path / "pytorch_model.bin")
    return tmp_path


def _load(checkpoint: Path | None, *variants: str) -> Snac:
    return Snac(TokenizerOptions(checkpoint=checkpoint, variants=variants))


def _clip(num_samples: int) -> ClipBatch:
    return ClipBatch(audio=sound(num_samples), fps=3.90625, sample_rate=24_000)


def test_levels_are_interleaved_coarse_before_fine_and_back() -> None:
    """Worked by hand: one, two and four codes a step."""
    levels = [torch.tensor([[1, 2]]), torch.tensor([[10, 11, 20, 21]]), torch.tensor([[100, 101, 102, 103, 200, 201, 202, 203]])]
    codes = interleave(levels, (4, 2, 1))
    assert codes.tolist() == [[1, 10, 11, 100, 101, 102, 103, 2, 20, 21, 200, 201, 202, 203]]
    assert all(torch.equal(a, b) for a, b in zip(deinterleave(codes, (4, 2, 1)), levels, strict=True))


def test_the_published_files_give_the_authors_codes_and_samples(folder: Path) -> None:
    """Golden: tests/golden/make_codecs.py, the package snac 1.2.1, its noise from the same seed."""
    tokenizer = _load(folder)
    tokens = tokenizer.encode(_clip(NUM_SAMPLES))
    assert [level[0].tolist() for level in deinterleave(tokens.codes["audio"][:, 0], (4, 2, 1))] == GOLDEN["codes"]
    recon = tokenizer.decode(tokens).audio
    assert recon is not None
    torch.testing.assert_close(recon[0, 0, ::500], torch.tensor(GOLDEN["every_500th"]), atol=1e-4, rtol=0)
    assert float(recon.std()) == pytest.approx(GOLDEN["std"], abs=1e-5)


def test_only_the_catalogs_file_is_called_official(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avbench.tokenizers.snac.OFFICIAL_CONFIG", GOLDEN["config"])
    info = _load(folder / "pytorch_model.bin").info
    assert info.trained_on == _load(folder).info.trained_on == "not stated"
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "snac-24khz.bin").write_bytes((folder / "pytorch_model.bin").read_bytes())
    assert _load(None).info.trained_on == "official (hubertsiuzdak/snac_24khz)"
    assert info.parameters == sum(torch.Size(shape).numel() for key, shape in GOLDEN["shapes"].items() if "original0" not in key)


def test_a_clip_of_the_standard_protocol_has_48_steps_of_seven_codes(folder: Path) -> None:
    tokens = _load(folder).encode(_clip(98_304))
    assert tokens.codes["audio"].shape == (1, 1, 48 * 7)


def test_the_official_config_makes_a_network_of_the_published_size() -> None:
    """19.8 million parameters, says the model's page."""
    from snac import SNAC

    with torch.device("meta"):
        model = SNAC(**OFFICIAL_CONFIG)
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6, 1) == 19.8


def test_the_decoders_noise_leaves_the_callers_generator_alone(folder: Path) -> None:
    tokenizer = _load(folder)
    tokens = tokenizer.encode(_clip(NUM_SAMPLES))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    tokenizer.decode(tokens)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_the_conformance_kit_passes(folder: Path) -> None:
    failed = [finding for finding in check("snac", checkpoint=folder) if not finding.passed]
    assert not failed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": "me"}, "no SNAC config: unknown run"),
        ({"encoder_rates": [2] * 100}, "encoder_rates is"),
        ({"encoder_dim": 60_000}, "mis-shaped"),
        ({"vq_strides": [4, 3, 1]}, "do not divide the first"),
        ({"decoder_rates": None}, "decoder_rates is None, where SNAC's own has"),
        ({"vq_strides": ["../..", 2, 1]}, "vq_strides is"),
        ({"noise": 3}, "noise is 3"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    (folder / "config.json").write_text(json.dumps(GOLDEN["config"] | changes))
    with pytest.raises(AvbenchError, match=message):
        _load(folder)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.bin")
    with pytest.raises(AvbenchError, match="is not what its config says: it lacks"):
        _load(tmp_path / "a.bin")


def test_variants_extra_and_weights_that_are_missing_are_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="one bit rate"):
        _load(folder, "6k")
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AVBENCH_WEIGHTS", raising=False)
    with pytest.raises(AvbenchError, match="avbench weights pull snac-24khz"):
        _load(None)
    monkeypatch.setitem(__import__("sys").modules, "snac", None)
    with pytest.raises(AvbenchError, match=r"pip install 'avbench\[snac\]'"):
        _load(folder)
