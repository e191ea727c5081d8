import numpy as np
import pytest
import torch
from auraloss.freq import MultiResolutionSTFTLoss

from avbench.metrics.mr_stft import MrStft, mr_stft
from avbench.types import ClipBatch, Tokens

TOKENS = Tokens(codes={"audio": torch.zeros(1, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=1.0)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(reference: np.ndarray, recon: np.ndarray) -> float:
    """The definition with NumPy: reflect-padded frames, Hann window centred in the FFT, magnitudes of at least 1e-4."""
    values = []
    for size, hop, length in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        window = np.pad(np.hanning(length + 1)[:-1], (size - length) // 2)
        magnitudes = []
        for x in (reference, recon):
            frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, size // 2, mode="reflect"), size)[::hop]
            magnitudes.append(np.maximum(np.abs(np.fft.rfft(frames * window)), 1e-4))
        target, got = magnitudes
        convergence = np.linalg.norm(target - got) / np.linalg.norm(target)
        values.append(convergence + np.abs(np.log(target) - np.log(got)).mean())
    return float(np.mean(values))


def test_agrees_with_the_definition_written_out() -> None:
    reference, recon = noise(2, 1, 6000), noise(2, 1, 6000) + 0.5 * noise(2, 1, 6000, seed=1)
    expected = [by_hand(a[0].double().numpy(), b[0].double().numpy()) for a, b in zip(reference, recon, strict=True)]
    assert mr_stft(reference, recon).tolist() == pytest.approx(expected, rel=1e-4)


def test_is_auraloss_of_each_clip_alone_with_recon_first() -> None:
    reference, recon = noise(3, 1, 5000), noise(3, 1, 5000, seed=1) * torch.tensor([0.1, 1.0, 3.0])[:, None, None]
    loss = MultiResolutionSTFTLoss()
    expected = torch.stack([loss(recon[i : i + 1], reference[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(mr_stft(reference, recon), expected)
    assert not torch.allclose(mr_stft(recon, reference), expected)  # the order matters
    assert mr_stft(reference, recon).mean().item() != pytest.approx(loss(recon, reference).item(), rel=1e-3)  # so does the batch


def test_identical_clips_give_zero_and_silence_for_a_sound_gives_more_than_noise() -> None:
    x = noise(2, 1, 5000)
    assert mr_stft(x, x).tolist() == [0.0, 0.0]
    assert (mr_stft(x, torch.zeros_like(x)) > mr_stft(x, noise(2, 1, 5000, seed=1))).all()


def test_silent_reference_is_finite_and_left_out_of_the_metric() -> None:
    reference, recon = noise(3, 1, 5000), noise(3, 1, 5000, seed=1)
    reference[2] = 0
    assert torch.isfinite(mr_stft(reference, recon)).all()
    clips = [ClipBatch(audio=audio, fps=4.0, sample_rate=24_000) for audio in (reference, recon)]
    rows = MrStft().update(clips[0], clips[1], TOKENS).numpy()
    assert np.isnan(rows).tolist() == [False, False, True]
    assert MrStft().compute(rows) == pytest.approx(mr_stft(reference[:2], recon[:2]).mean().item())


def test_audio_that_is_too_short_or_of_another_shape_is_refused() -> None:
    for reference, recon in ((torch.zeros(1, 1, 1024), torch.zeros(1, 1, 1024)), (torch.zeros(1, 1, 2000), torch.zeros(1, 1, 2001))):
        with pytest.raises(ValueError, match="one shape"):
            mr_stft(reference, recon)
