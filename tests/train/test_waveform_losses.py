"""The codecs' spectral losses against librosa and by hand."""

import warnings

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.train.waveform.losses import log_mel_config, log_mel_l1, mel_spectrogram, multi_scale_configs, multi_scale_mel


def clips(seed: int = 0, samples: int = 5000) -> Tensor:
    return 0.2 * torch.randn(2, samples, generator=torch.Generator().manual_seed(seed))


def bank(n_fft: int, num_mels: int, f_min: float) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return librosa.filters.mel(sr=24_000, n_fft=n_fft, n_mels=num_mels, fmin=f_min, htk=True, norm=None)


def oracle_log_mel(audio: np.ndarray) -> np.ndarray:
    spectrum = np.abs(librosa.stft(audio.astype(np.float64), n_fft=1024, hop_length=256, center=True, pad_mode="reflect"))
    return np.log(np.maximum(bank(1024, 100, 0.0) @ spectrum, 1e-7))


def oracle_mel(audio: np.ndarray, n_fft: int) -> np.ndarray:
    hop, window = n_fft // 4, np.hanning(n_fft + 1)[:-1]
    padded = np.pad(audio.astype(np.float64), (n_fft - hop) // 2, mode="reflect")
    padded = np.pad(padded, (0, -(len(padded) - n_fft) % hop))
    frames = np.stack([padded[i : i + n_fft] * window for i in range(0, len(padded) - n_fft + 1, hop)])
    energy = np.abs(np.fft.rfft(frames / np.sqrt((window**2).sum()))) ** 2
    return bank(n_fft, 64, 64.0) @ energy.T


def test_the_log_mel_loss_is_librosas() -> None:
    reference, recon = clips(0), clips(1) * 0.3
    expected = np.mean(
        [np.abs(oracle_log_mel(a) - oracle_log_mel(b)).mean() for a, b in zip(reference.numpy(), recon.numpy(), strict=True)]
    )
    assert float(log_mel_l1(reference, recon)) == pytest.approx(expected, rel=1e-4)


def test_each_scale_of_the_multi_scale_loss_is_a_windowed_transform_by_hand() -> None:
    audio = clips()
    for config in multi_scale_configs():
        ours = mel_spectrogram(audio, config).numpy()
        np.testing.assert_allclose(ours, np.stack([oracle_mel(a, config.n_fft) for a in audio.numpy()]), rtol=2e-3, atol=1e-6)


def test_the_multi_scale_loss_adds_up_its_scales_over_ten() -> None:
    reference, recon = clips(0), clips(1) * 0.3
    expected = 0.0
    for n_fft in (64, 128, 256, 512, 1024):
        a, b = (np.stack([oracle_mel(clip, n_fft) for clip in audio.numpy()]) for audio in (reference, recon))
        expected += np.abs(a - b).mean() + np.square(np.log10(1e-5 + a) - np.log10(1e-5 + b)).mean()
    assert float(multi_scale_mel(reference, recon)) == pytest.approx(expected / 10, rel=1e-3)


@pytest.mark.parametrize("loss", [log_mel_l1, multi_scale_mel])
def test_a_perfect_reconstruction_costs_nothing_and_a_worse_one_more(loss) -> None:  # type: ignore[no-untyped-def]
    reference = clips()
    assert float(loss(reference, reference)) == 0.0
    near, far = (float(loss(reference, reference + amount * clips(1))) for amount in (0.1, 1.0))
    assert 0 < near < far


@pytest.mark.parametrize("loss", [log_mel_l1, multi_scale_mel])
def test_digital_silence_has_a_finite_gradient(loss) -> None:  # type: ignore[no-untyped-def]
    silence = torch.zeros(1, 4000, requires_grad=True)
    loss(clips()[:1, :4000], silence).backward()
    assert silence.grad is not None
    assert bool(silence.grad.isfinite().all())


def test_a_loss_does_not_depend_on_how_many_clips_share_the_batch() -> None:
    reference, recon = clips(0), clips(1)
    for loss in (log_mel_l1, multi_scale_mel):
        alone = [float(loss(reference[i : i + 1], recon[i : i + 1])) for i in range(2)]
        assert float(loss(reference, recon)) == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_the_bands_follow_the_sample_rate() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 16_000)[None]
    peaks = [int(mel_spectrogram(tone, log_mel_config(rate)).mean(-1).argmax()) for rate in (16_000, 24_000)]
    centres = [librosa.mel_frequencies(102, fmin=0.0, fmax=rate / 2, htk=True)[1:-1] for rate in (16_000, 24_000)]
    assert centres[0][peaks[0]] == pytest.approx(1000, rel=0.05)
    assert centres[1][peaks[1]] == pytest.approx(1500, rel=0.05), "the same samples, taken as 24 kHz"
