import numpy as np
import pytest
import scipy.stats
import torch
from bouncing import bouncing

from avbench.metrics.av_sync import LAGS, AvOnsetCorrelation, AvOnsetLag, _correlate, _fast, best_lag, lag_correlations
from avbench.types import ClipBatch, Tokens

RATE, FPS = 24_000, 25.0
TOKENS = Tokens(codes={"audio": torch.zeros(1, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=4.0)


def batch(video: torch.Tensor, audio: torch.Tensor) -> ClipBatch:
    return ClipBatch(video=video, audio=audio, fps=FPS, sample_rate=RATE)


def test_each_lag_is_scipys_correlation_of_the_overlap() -> None:
    rng = np.random.default_rng(0)
    motion, onsets = (np.convolve(rng.standard_normal(400), np.ones(7), mode="same") for _ in range(2))
    a, b = _fast(motion), _fast(onsets)
    found = _correlate(motion, onsets)
    for lag in (-50, -7, 0, 3, 50):
        pair = (a[: len(a) - lag], b[lag:]) if lag >= 0 else (a[-lag:], b[:lag])
        assert found[50 + lag] == pytest.approx(scipy.stats.pearsonr(*pair).statistic, abs=1e-9)


def test_sound_that_is_shifted_scores_less_and_its_lag_is_told() -> None:
    shifts = (0.0, 0.04, 0.08, 0.16, 0.32)
    clips = [[bouncing(late_s=shift, seed=seed) for seed in range(3)] for shift in shifts]
    found = [torch.cat([lag_correlations(*clip, FPS, RATE) for clip in row]) for row in clips]
    means = [row[:, 50].mean().item() for row in found]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.3
    told = torch.stack([best_lag(row).mean() for row in found])
    assert told.tolist() == pytest.approx(shifts, abs=0.02)
    early = lag_correlations(*bouncing(late_s=-0.16), FPS, RATE)
    assert best_lag(early).item() == pytest.approx(-0.16, abs=0.02)


def test_still_pictures_and_silence_have_no_value_and_the_reference_is_not_looked_at() -> None:
    video, audio = bouncing(2.0)
    recon = batch(torch.cat([video, video, 0 * video + 0.3]), torch.cat([audio, 0 * audio, audio]))
    for metric in (AvOnsetCorrelation(), AvOnsetLag()):
        rows = metric.update(batch(0 * recon.video, 0 * recon.audio), recon, TOKENS).numpy()  # type: ignore[operator]
        assert np.isnan(rows).tolist() == [False, True, True]
        assert metric.compute(rows) == pytest.approx(rows[0])
        assert metric.update(recon, recon, TOKENS).numpy()[0] == rows[0]


def test_of_two_clips_the_value_is_their_mean_and_the_lag_has_no_sign() -> None:
    clips = [bouncing(3.0, late_s=late) for late in (-0.2, 0.2)]
    recon = batch(*(torch.cat(part) for part in zip(*clips, strict=True)))
    rows = AvOnsetLag().update(recon, recon, TOKENS).numpy()
    assert (rows >= 0).all()
    assert AvOnsetLag().compute(rows) == pytest.approx(0.2, abs=0.05)
    assert AvOnsetCorrelation().compute(AvOnsetCorrelation().update(recon, recon, TOKENS).numpy()) < 0.3


def test_of_equal_correlations_the_lag_nearest_zero_is_taken() -> None:
    assert best_lag(torch.zeros(1, len(LAGS), dtype=torch.float64)).tolist() == [0.0]
    assert best_lag(torch.full((1, len(LAGS)), torch.nan, dtype=torch.float64)).isnan().all()
