"""DISTS: the authors' own numbers, and how it behaves."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avbench import weights
from avbench.metric import MetricOptions
from avbench.metrics.dists import DistsMetric, dists, load
from avbench.types import ClipBatch, Tokens

GOLDEN = Path(__file__).parents[1] / "golden" / "dists.json"  # make_dists.py


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, height, width): something smooth with edges and grain."""
    generator = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.rand(1, 3, 5, 7, generator=generator), size=(height, width), mode="bilinear", align_corners=False)
    edges = (smooth > 0.5).float()
    return (0.6 * smooth + 0.3 * edges + 0.1 * torch.rand(1, 3, height, width, generator=generator)).clamp(0, 1)


def pictures() -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs (1, 3, H, W) in [0, 1]."""
    a = picture(128, 128)
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    return {
        "noise": (a, (a + 0.1 * noise).clamp(0, 1)),
        "blur": (a, F.avg_pool2d(a, 5, stride=1, padding=2, count_include_pad=False)),
        "shift": (a, a.roll(3, dims=3)),
        "dark": (a, 0.5 * a),
        "other": (a, picture(128, 128, seed=2)),
        "odd sizes": (picture(67, 93), picture(67, 93).flip(3)),
        "black and white": (torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)),
    }


@pytest.fixture(scope="module", autouse=True)
def network() -> None:
    try:
        load()
    except weights.WeightsUnavailable as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", sorted(pictures()))
def test_it_gives_the_authors_numbers(name: str) -> None:
    reference, recon = pictures()[name]
    assert dists(reference[None], recon[None]).item() == pytest.approx(json.loads(GOLDEN.read_text())[name], abs=2e-5)


def test_more_noise_and_more_blur_are_worse_and_identical_still_and_black_clips_have_0() -> None:
    a = picture(64, 64)
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    noisy = [dists(a[None], (a + strength * noise).clamp(0, 1)[None]).item() for strength in (0.0, 0.03, 0.1, 0.3)]
    assert noisy == sorted(noisy)
    blurred = [dists(a[None], F.avg_pool2d(a, size, 1, size // 2, count_include_pad=False)[None]).item() for size in (1, 3, 5, 9)]
    assert blurred == sorted(blurred)
    assert noisy[0] == blurred[0] == pytest.approx(0.0, abs=1e-6)
    black = torch.zeros(1, 2, 3, 32, 32)
    assert dists(black, black).item() == pytest.approx(0.0, abs=1e-6)


def test_a_texture_of_the_same_kind_costs_less_than_its_blur() -> None:
    """What it was made for; PSNR says the opposite."""
    a = 0.5 + 0.2 * torch.randn(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    grain, resampled = a.clamp(0, 1).split(1)
    flat = torch.full_like(grain, 0.5)
    assert (grain - resampled).square().mean() > (grain - flat).square().mean()
    assert dists(grain, resampled).item() < 0.5 * dists(grain, flat).item()


def test_a_clip_is_the_mean_of_its_frames_and_does_not_depend_on_its_batch() -> None:
    frames = torch.cat([picture(32, 48, seed) for seed in range(4)]).view(2, 2, 3, 32, 48)
    made = (frames + 0.1).clamp(0, 1)
    single = torch.stack([dists(frames[0, t][None, None], made[0, t][None, None])[0] for t in range(2)])
    reference, recon = (ClipBatch(video=video, fps=4.0, sample_rate=24_000) for video in (frames, made))
    rows = DistsMetric(MetricOptions()).update(reference, recon, Tokens(codes={}, vocab_sizes={}, duration_s=1.0))
    assert rows.shape == (2,)
    assert rows[0].item() == pytest.approx(single.mean().item(), abs=1e-6)
    assert DistsMetric(MetricOptions()).compute(rows.numpy()) == pytest.approx(rows.mean().item())
