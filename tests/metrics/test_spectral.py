from itertools import pairwise

import librosa
import numpy as np
import pytest
import torch
import torchaudio

from avbench.metrics.spectral import MelDistance, StftDistance, mel_distance, stft_distance
from avbench.types import ClipBatch, Tokens

RATE = 24_000
TOKENS = Tokens(codes={"audio": torch.zeros(1, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=1.0)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tones() -> tuple[torch.Tensor, torch.Tensor]:
    """A second (1, 1, N) of a wobbling tone and a sweep, and the same quieter with another tone on top."""
    t = torch.arange(RATE, dtype=torch.float64) / RATE
    reference = (
        0.3 * torch.sin(2 * torch.pi * 440 * t + 3 * torch.sin(2 * torch.pi * 3 * t)) + 0.1 * torch.sin(2 * torch.pi * 3000 * t * t)
    ).float()
    recon = (0.7 * reference.double() + 0.05 * torch.sin(2 * torch.pi * 5000 * t)).float()
    return reference[None, None], recon[None, None]


# MelSpectrogramLoss() and MultiScaleSTFTLoss() of the authors' own audiotools 0.7.4, which DAC's evaluation calls, on these samples.
@pytest.mark.parametrize(("rate", "mel"), [(24_000, 0.7758783102), (44_100, 0.7027307749)])
def test_agrees_with_the_authors_code(rate: int, mel: float) -> None:
    reference, recon = tones()
    assert mel_distance(reference, recon, rate).item() == pytest.approx(mel, rel=1e-5)
    assert stft_distance(reference, recon).item() == pytest.approx(1.6999385357, rel=1e-5)


def test_channels_are_averaged_as_the_authors_code_does() -> None:
    reference, recon = tones()
    pair = torch.cat([reference, reference.flip(2)], 1), torch.cat([recon, 0.5 * recon], 1)
    assert mel_distance(*pair, 24_000).item() == pytest.approx(1.8914948702, rel=1e-5)
    assert stft_distance(*pair).item() == pytest.approx(2.7936375141, rel=1e-4)


def test_agrees_with_torchaudios_mels_and_librosas_spectra() -> None:
    reference, recon = noise(2, 1, 6000), noise(2, 1, 6000, seed=1)
    mel, stft = torch.zeros(2), torch.zeros(2)
    for window, bands in ((2048, 150), (512, 80)):
        mels = torchaudio.transforms.MelSpectrogram(
            RATE, window, hop_length=window // 4, n_mels=bands, power=1.0, norm="slaney", mel_scale="slaney"
        )
        a, b = mels(reference), mels(recon)
        mel += (a - b).abs().mean((1, 2, 3)) + (2 * a.clamp_min(1e-5).log10() - 2 * b.clamp_min(1e-5).log10()).abs().mean((1, 2, 3))
        spectra = [
            np.abs(librosa.stft(x.numpy()[:, 0], n_fft=window, hop_length=window // 4, pad_mode="reflect")) for x in (reference, recon)
        ]
        a, b = (torch.from_numpy(x) for x in spectra)
        stft += (a - b).abs().mean((1, 2)) + (2 * a.clamp_min(1e-5).log10() - 2 * b.clamp_min(1e-5).log10()).abs().mean((1, 2))
    torch.testing.assert_close(mel_distance(reference, recon, RATE), mel, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stft_distance(reference, recon), stft, rtol=1e-4, atol=1e-5)


def test_more_noise_is_worse_and_identical_clips_are_at_zero() -> None:
    x = noise(2, 1, 5000)
    for distance in (lambda a, b: mel_distance(a, b, RATE), stft_distance):
        values = [distance(x, x + scale * noise(2, 1, 5000, seed=1)) for scale in (0.0, 0.01, 0.1, 1.0, 3.0)]
        assert values[0].tolist() == [0.0, 0.0]
        assert all((low < high).all() for low, high in pairwise(values))


def test_silence_is_finite_and_a_silent_reference_is_left_out_of_the_metric() -> None:
    reference, recon = noise(3, 1, 5000), noise(3, 1, 5000, seed=1)
    reference[2] = 0
    clips = [ClipBatch(audio=audio, fps=4.0, sample_rate=RATE) for audio in (reference, recon, torch.zeros_like(recon))]
    for metric in (MelDistance(), StftDistance()):
        rows = metric.update(clips[0], clips[1], TOKENS).numpy()
        assert np.isnan(rows).tolist() == [False, False, True]
        assert metric.compute(rows) == pytest.approx(rows[:2].mean())
        silent = metric.update(clips[0], clips[2], TOKENS).numpy()
        assert (silent[:2] > rows[:2]).all()


def test_a_value_in_a_batch_is_that_of_the_clip_alone() -> None:
    reference, recon = noise(3, 2, 5000), noise(3, 2, 5000, seed=1) * torch.tensor([0.1, 1.0, 3.0])[:, None, None]
    alone = torch.cat([mel_distance(reference[i : i + 1], recon[i : i + 1], RATE) for i in range(3)])
    torch.testing.assert_close(mel_distance(reference, recon, RATE), alone)


def test_audio_that_is_too_short_or_of_another_shape_is_refused() -> None:
    for reference, recon in ((torch.zeros(1, 1, 1024), torch.zeros(1, 1, 1024)), (torch.zeros(1, 1, 2000), torch.zeros(1, 1, 2001))):
        with pytest.raises(ValueError, match="one shape"):
            stft_distance(reference, recon)
