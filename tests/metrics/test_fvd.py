"""FVD: the known answers of the original TensorFlow code, and the metric's rows and cache."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.metric import MetricOptions
from avbench.metrics.frechet import frechet_from_features
from avbench.metrics.fvd import Fvd, fvd
from avbench.nn.pretrained import i3d
from avbench.types import ClipBatch, Tokens
from avbench.weights import WeightsUnavailable

TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=1.0)


def _batch(seed: int, count: int = 2) -> ClipBatch:
    video = torch.rand(count, 9, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return ClipBatch(ids=tuple(f"game/{i}" for i in range(count)), video=video, fps=4.0, sample_rate=24_000)


def _constant(value: float, count: int, frames: int) -> torch.Tensor:
    """Two copies do where the reference used eight: copies have no covariance, so their number does not matter."""
    return torch.full((count, frames, 3, 64, 64), value)


@pytest.mark.slow
def test_all_zeros_against_all_ones_is_the_figure_of_the_tensorflow_code() -> None:
    assert fvd(_constant(0, 2, 30), _constant(1, 2, 30)) == pytest.approx(151.39244, abs=0.05)


def test_ten_frames_of_zeros_against_ones_are_569_77() -> None:
    assert fvd(_constant(0, 2, 10), _constant(1, 2, 10)) == pytest.approx(569.77, abs=0.05)


def test_a_set_is_at_distance_zero_from_itself() -> None:
    video = _batch(0).video
    assert video is not None
    assert fvd(video, video) == pytest.approx(0, abs=1e-6)


def test_rows_are_the_logits_and_the_value_is_the_distance_of_the_two_sets(tmp_path: Path) -> None:
    reference, recon = _batch(0), _batch(1)
    metric = Fvd(MetricOptions(cache=tmp_path))
    rows = metric.update(reference, recon, TOKENS)
    assert rows.shape == (2, 2, i3d.NUM_LOGITS)
    assert reference.video is not None
    assert recon.video is not None
    assert metric.compute(rows.numpy()) == pytest.approx(fvd(reference.video, recon.video), rel=1e-5)


def test_a_second_run_reads_the_reference_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, recon = _batch(0), _batch(1)
    first = Fvd(MetricOptions(cache=tmp_path)).update(reference, recon, TOKENS)
    extracted: list[int] = []
    logits = i3d.logits

    def counting(model: i3d.I3D, videos: torch.Tensor) -> torch.Tensor:
        extracted.append(len(videos))
        return logits(model, videos)

    monkeypatch.setattr(i3d, "logits", counting)
    second = Fvd(MetricOptions(cache=tmp_path)).update(reference, recon.copy(), TOKENS)
    assert extracted == [2]  # the reconstructions
    assert torch.equal(first[:, 0], second[:, 0])


def test_clips_without_ids_are_computed_and_not_kept(tmp_path: Path) -> None:
    clips = ClipBatch(video=_batch(0).video, fps=4.0, sample_rate=24_000)
    rows = Fvd(MetricOptions(cache=tmp_path)).update(clips, clips, TOKENS)
    assert torch.allclose(rows[:, 0], rows[:, 1], atol=1e-4)
    assert list(tmp_path.iterdir()) == []


def test_the_value_does_not_depend_on_batches() -> None:
    metric = Fvd(MetricOptions())
    reference, recon = _batch(0), _batch(1)
    whole = metric.update(reference, recon, TOKENS).numpy()
    parts = np.concatenate([metric.update(reference.select([i]), recon.select([i]), TOKENS).numpy() for i in range(2)])
    np.testing.assert_allclose(whole, parts, atol=1e-3)
    assert frechet_from_features(whole[:, 0], whole[:, 1]) == pytest.approx(metric.compute(parts), rel=1e-4)


def test_without_weights_the_metric_says_so_before_any_compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("AVBENCH_OFFLINE", "1")
    i3d.load.cache_clear()
    with pytest.raises(WeightsUnavailable, match="avbench weights pull i3d-k400"):
        Fvd(MetricOptions())
