import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as oracle

from avbench.metrics.si_sdr import CEILING_DB, FLOOR_DB, SiSdr, SiSdrAligned, SiSdrMedian, SiSdrZeroMean, best_shift, si_sdr, si_sdr_aligned
from avbench.types import ClipBatch, Tokens

TARGET = torch.tensor([[[3.0, -0.5, 2.0, 7.0]]])
PRED = torch.tensor([[[2.5, 0.0, 2.0, 8.0]]])
TOKENS = Tokens(codes={"audio": torch.zeros(1, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=1.0)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(audio: torch.Tensor) -> ClipBatch:
    return ClipBatch(ids=tuple(str(i) for i in range(len(audio))), audio=audio, fps=4.0, sample_rate=24_000)


def test_published_values_raw_and_mean_removed() -> None:
    assert si_sdr(TARGET, PRED).item() == pytest.approx(18.4030, abs=1e-4)
    assert si_sdr(TARGET, PRED, zero_mean=True).item() == pytest.approx(15.0918, abs=1e-4)


@pytest.mark.parametrize("zero_mean", [False, True])
def test_agrees_with_torchmetrics(zero_mean: bool) -> None:
    reference = noise(5, 1, 8000) + 0.05
    recon = 0.7 * reference + torch.tensor([1.0, 0.3, 0.1, 0.01, 3.0])[:, None, None] * noise(5, 1, 8000, seed=1)
    expected = oracle(recon.double(), reference.double(), zero_mean=zero_mean)[:, 0]
    torch.testing.assert_close(si_sdr(reference, recon, zero_mean), expected, rtol=0, atol=1e-6)


def test_identical_scaled_and_inverted_clips_reach_the_ceiling() -> None:
    x = noise(1, 1, 4000)
    assert [si_sdr(x, scale * x).item() for scale in (1.0, 0.3, -2.0, 1e-6)] == [CEILING_DB] * 4


def test_a_value_in_a_batch_is_that_of_the_clip_alone() -> None:
    reference, recon = noise(4, 1, 5000), noise(4, 1, 5000, seed=1) + noise(4, 1, 5000)
    for function in (si_sdr, si_sdr_aligned):
        alone = torch.cat([function(reference[i : i + 1], recon[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(function(reference, recon), alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("function", [si_sdr, si_sdr_aligned, lambda a, b: si_sdr(a, b, zero_mean=True)])
def test_silence_for_a_sound_is_the_floor_and_worse_than_noise(function) -> None:  # type: ignore[no-untyped-def]
    x = noise(1, 1, 4000)
    assert function(x, torch.zeros_like(x)).item() == FLOOR_DB
    assert function(x, noise(1, 1, 4000, seed=1)).item() > FLOOR_DB


def test_a_constant_is_silence_once_the_mean_is_removed() -> None:
    x = noise(1, 1, 4001)
    assert si_sdr(x, torch.full_like(x, 0.1), zero_mean=True).item() == FLOOR_DB


def test_silent_reference_is_defined() -> None:
    x, silent = noise(1, 1, 4000), torch.zeros(1, 1, 4000)
    assert si_sdr(silent, x).item() == FLOOR_DB
    assert si_sdr(silent, silent).item() == CEILING_DB
    assert si_sdr_aligned(silent, x).item() == FLOOR_DB


@pytest.mark.parametrize("metric", [SiSdr(), SiSdrZeroMean(), SiSdrAligned()])
def test_the_metric_leaves_clips_with_a_silent_reference_out_of_its_mean(metric: SiSdr) -> None:
    reference, recon = noise(3, 1, 4000), noise(3, 1, 4000) + 0.1 * noise(3, 1, 4000, seed=1)
    reference[1] = 0
    rows = metric.update(batch(reference), batch(recon), TOKENS).numpy()
    assert np.isnan(rows).tolist() == [False, True, False]
    assert metric.compute(rows) == pytest.approx((rows[0] + rows[2]) / 2)


@settings(deadline=None, max_examples=25)
@given(shift=st.integers(-1200, 1200), seed=st.integers(0, 1000))
def test_a_pure_delay_within_the_bound_costs_nothing_and_is_found(shift: int, seed: int) -> None:
    x = noise(1, 1, 9000, seed=seed)
    reference, recon = x[..., 2000:7000], x[..., 2000 - shift : 7000 - shift]
    assert best_shift(reference.double(), recon.double(), 1200).item() == shift
    assert si_sdr_aligned(reference, recon, max_shift=1200).item() == CEILING_DB
    zero_filled = torch.zeros_like(reference)
    zero_filled[..., max(0, shift) : 5000 + min(0, shift)] = reference[..., max(0, -shift) : 5000 - max(0, shift)]
    assert si_sdr_aligned(reference, zero_filled, max_shift=1200).item() == CEILING_DB


def test_a_delay_beyond_the_bound_is_not_compensated() -> None:
    x = noise(1, 1, 9000)
    assert si_sdr_aligned(x[..., 2000:7000], x[..., 1000:6000], max_shift=999).item() < 0


def test_the_best_shift_is_that_of_trying_every_shift() -> None:
    reference, recon = noise(3, 1, 600), noise(3, 1, 600, seed=1)
    recon += 0.5 * torch.roll(reference, 7, -1)
    shifts = range(-20, 21)
    pairs = [(reference[..., max(0, -d) : 600 - max(0, d)], recon[..., max(0, d) : 600 - max(0, -d)]) for d in shifts]
    expected = torch.stack([si_sdr(a, b) for a, b in pairs]).amax(0)
    torch.testing.assert_close(si_sdr_aligned(reference, recon, max_shift=20), expected, rtol=0, atol=1e-9)


def test_a_periodic_sound_keeps_the_smallest_shift() -> None:
    x = torch.sin(2 * torch.pi * torch.arange(9600, dtype=torch.float64) / 48)[None, None]
    assert best_shift(x, x, 1200).item() == 0
    assert best_shift(x, torch.roll(x, 5, -1), 1200).item() == 5


def test_a_shift_that_would_drop_most_of_the_sound_does_not_count() -> None:
    reference, recon = torch.zeros(1, 1, 4000), torch.zeros(1, 1, 4000)
    reference[..., :300], recon[..., :300] = noise(300), noise(300, seed=1)
    assert si_sdr_aligned(reference, recon, max_shift=1200).item() < 10


def test_aligned_is_never_below_raw() -> None:
    reference, recon = noise(6, 1, 3000), noise(6, 1, 3000, seed=1)
    assert (si_sdr_aligned(reference, recon) >= si_sdr(reference, recon)).all()


def test_channels_are_one_signal_and_an_empty_one_does_no_harm() -> None:
    x = noise(1, 1, 3000)
    stereo, recon = torch.cat([x, torch.zeros_like(x)], 1), torch.cat([x + noise(1, 1, 3000, seed=1), torch.zeros_like(x)], 1)
    assert si_sdr(stereo, recon).item() == pytest.approx(si_sdr(x, recon[:, :1]).item(), abs=1e-9)


@pytest.mark.parametrize("function", [si_sdr, si_sdr_aligned])
def test_unequal_shapes_and_nan_are_refused(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="one shape"):
        function(torch.zeros(1, 1, 5), torch.zeros(1, 1, 6))
    with pytest.raises(ValueError, match="not finite"):
        function(torch.ones(1, 1, 5), torch.full((1, 1, 5), float("nan")))


def test_the_median_is_that_of_the_clips_and_not_moved_by_one_that_failed() -> None:
    metric, x = SiSdrMedian(), noise(5, 1, 4000)
    recon = x + torch.tensor([0.0, 0.01, 0.1, 0.3, 1.0])[:, None, None] * noise(5, 1, 4000, seed=1)
    recon[4] = 0  # -100 dB
    rows = metric.update(batch(x), batch(recon), TOKENS)
    assert rows.shape == (5, 1)
    assert metric.compute(rows.numpy()) == pytest.approx(si_sdr(x, recon).sort().values[2].item())
    assert metric.compute(rows[:2].numpy()) == pytest.approx(si_sdr(x, recon)[:2].mean().item())
    assert np.isnan(metric.compute(metric.update(batch(torch.zeros_like(x)), batch(recon), TOKENS).numpy()))
