"""FMD: flow of known motion, histograms worked out by hand, and still against moving clips."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avbench.metric import MetricOptions
from avbench.metrics.fmd import CELLS, DIRECTIONS, Fmd, GFmd, _histogram, motion_features
from avbench.metrics.frechet import frechet_from_features
from avbench.types import ClipBatch, Tokens

TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=1.0)


def clips(count: int = 12, frames: int = 6, size: int = 64, seed: int = 0) -> torch.Tensor:
    """(count, frames, 3, size, size): a textured picture that slides, each clip its own way."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        texture = F.interpolate(torch.rand(1, 3, size // 4, size // 4, generator=generator), size=size, mode="bilinear")[0]
        right, down = (int(step) for step in torch.randint(-2, 3, (2,), generator=generator))
        made.append(torch.stack([texture.roll((t * down, t * right), dims=(1, 2)) for t in range(frames)]))
    return torch.stack(made)


def batch(video: torch.Tensor) -> ClipBatch:
    return ClipBatch(video=video, fps=4.0, sample_rate=24_000)


def value(reference: torch.Tensor, recon: torch.Tensor) -> float:
    metric = Fmd(MetricOptions())
    return metric.compute(metric.update(batch(reference), batch(recon), TOKENS).numpy())


def sliding(right: int, down: int) -> np.ndarray:
    """(2, 4, 4, 8) velocities and accelerations of a clip that slides by so many pixels of 64 a frame."""
    texture = F.interpolate(torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0)), size=64, mode="bicubic").clamp(0, 1)[0]
    video = torch.stack([texture.roll((t * down, t * right), dims=(1, 2)) for t in range(5)])[None]
    return motion_features(video).numpy().reshape(2, CELLS, CELLS, DIRECTIONS)


@pytest.mark.parametrize(("right", "down", "direction"), [(2, 0, 0), (0, 2, 2), (-2, 0, 4), (0, -2, 6), (2, 2, 1)])
def test_a_slide_has_its_direction_and_its_speed_and_no_acceleration(right: int, down: int, direction: int) -> None:
    velocity, acceleration = sliding(right, down)
    inner = velocity[1:3, 1:3].mean(axis=(0, 1))
    assert inner.argmax() == direction
    assert inner.sum() == pytest.approx(100 * np.hypot(right, down) / 64, rel=0.15)  # % of the width, as far as Farneback sees it
    assert acceleration[1:3, 1:3].sum(axis=-1).mean() < 0.25 * inner.sum()


def test_vectors_are_shared_between_the_two_nearest_directions_by_hand() -> None:
    vectors = np.zeros((1, 4, 4, 2))
    vectors[0, 0, 0] = (3.0, 0.0)  # direction 0 of the first cell
    vectors[0, 3, 3] = (2 * np.cos(np.pi / 8), 2 * np.sin(np.pi / 8))  # half-way between 0 and 1 in the last cell
    vectors[0, 0, 3] = (np.cos(-np.pi / 8), np.sin(-np.pi / 8))  # half-way between 7 and 0
    found = _histogram(vectors).reshape(16, 8)
    assert found[0].tolist() == pytest.approx([3.0, 0, 0, 0, 0, 0, 0, 0])
    assert found[15].tolist() == pytest.approx([1.0, 1.0, 0, 0, 0, 0, 0, 0])
    assert found[3].tolist() == pytest.approx([0.5, 0, 0, 0, 0, 0, 0, 0.5])
    assert found.sum() == pytest.approx(6.0)


def test_still_clips_have_no_motion_and_are_far_from_moving_ones() -> None:
    moving = clips()
    still = moving[:, :1].expand_as(moving)
    assert motion_features(still).max() < 0.01 * motion_features(moving).max()  # Farneback's own noise
    assert value(still, still) == pytest.approx(0.0, abs=1e-6)
    noisy = (moving + 0.02 * torch.randn(moving.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert value(moving, moving) == pytest.approx(0.0, abs=1e-6)
    assert value(moving, still) > 20 * value(moving, noisy)


def test_more_noise_and_slower_motion_are_worse_and_colour_and_brightness_hardly_count() -> None:
    moving = clips()
    noise = torch.randn(moving.shape, generator=torch.Generator().manual_seed(1))
    noisy = [value(moving, (moving + strength * noise).clamp(0, 1)) for strength in (0.0, 0.05, 0.1, 0.3)]
    assert noisy == sorted(noisy)
    held = [moving[:, [step * (t // step) for t in range(6)]] for step in (1, 2, 3, 6)]
    stuttering = [value(moving, video) for video in held]
    assert stuttering[0] < min(stuttering[1:])
    assert value(moving, 0.9 * moving) < 0.1 * stuttering[-1]


def test_two_clips_have_a_value_and_rows_follow_their_clips() -> None:
    moving, metric = clips(2), Fmd(MetricOptions())
    rows = metric.update(batch(moving), batch(moving.flip(0)), TOKENS).numpy()
    assert rows.shape == (2, 2, 2 * CELLS * CELLS * DIRECTIONS)
    assert np.array_equal(rows[0, 0], rows[1, 1])
    assert metric.compute(rows) == pytest.approx(0.0, abs=1e-6)  # the same set
    assert metric.distance(rows[:, 0], rows[:, 0] + 1) == pytest.approx(frechet_from_features(rows[:, 0], rows[:, 0] + 1))


def test_short_clips_are_refused_and_generated_clips_have_their_own_name() -> None:
    with pytest.raises(ValueError, match="three frames"):
        motion_features(clips(1, frames=2))
    assert GFmd.info.name == "gfmd"
    assert "reconstruct" not in GFmd.info.tasks
    assert not GFmd.info.default
