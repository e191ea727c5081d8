"""The mel front end against librosa, and its geometry."""

import librosa
import numpy as np
import pytest
import torch

from avbench.nn.mel import MIN_LOG, log_mel, magnitudes, mel_basis


def _noise(samples: int = 98_304) -> torch.Tensor:
    return 0.3 * torch.randn(samples, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)


def test_a_clip_is_exactly_80_bands_by_384_frames() -> None:
    assert log_mel(torch.zeros(2, 1, 98_304)).shape == (2, 1, 80, 384)


@pytest.mark.parametrize("samples", [385, 1000, 1024, 25_601])
def test_any_length_gives_a_frame_for_each_begun_hop(samples: int) -> None:
    assert log_mel(_noise(samples)).shape == (80, -(-samples // 256))


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples are needed"):
        log_mel(torch.zeros(384))


def test_it_is_librosas_mel_of_the_reflected_signal() -> None:
    audio = _noise()
    padded = np.pad(audio.numpy(), 384, mode="reflect")
    power = np.abs(librosa.stft(padded, n_fft=1024, hop_length=256, center=False, window="hann")) ** 2
    expected = librosa.feature.melspectrogram(S=np.sqrt(power + 1e-9), sr=22_050, n_mels=80, fmin=0, fmax=8000)
    np.testing.assert_allclose(log_mel(audio).numpy(), np.log(np.maximum(expected, 1e-5)), atol=2e-3)


def test_silence_is_the_floor() -> None:
    assert torch.equal(log_mel(torch.zeros(98_304)), torch.full((80, 384), MIN_LOG))


def test_a_frame_is_centred_half_a_hop_after_its_start() -> None:
    click = torch.zeros(98_304)
    click[256 * 100 + 128] = 1
    energy = magnitudes(click).sum(0)
    assert int(energy.argmax()) == 100
    assert energy[99] == pytest.approx(float(energy[101]), rel=1e-3)


def test_relabelling_moves_a_tone_by_the_ratio_of_the_rates() -> None:
    tone = torch.sin(6.283185 * 1000 * torch.arange(98_304) / 24_000)
    band = int(log_mel(tone)[:, 200].argmax())
    centres = librosa.mel_frequencies(n_mels=82, fmin=0, fmax=8000)[1:-1] * 24_000 / 22_050
    assert abs(centres[band] - 1000) == abs(centres - 1000).min()
    assert mel_basis().shape == (80, 513)


def test_a_clip_does_not_depend_on_its_batch() -> None:
    batch = torch.stack([_noise(), 0.1 * _noise().flip(0)])
    assert torch.equal(log_mel(batch)[1], log_mel(batch[1]))
