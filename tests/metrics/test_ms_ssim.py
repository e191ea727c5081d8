"""MS-SSIM: the paper's formulas in SciPy, pytorch-msssim's numbers, and what happens below 161 pixels a side, where others refuse.

torchmetrics is no oracle of the value: it takes the last scale's mean over a picture that it padded (0.016 more at 176x192).
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as theirs

from avbench.metrics.ms_ssim import POWERS, MsSsim, ms_ssim, powers_of
from avbench.metrics.ssim import ssim
from avbench.types import ClipBatch, Tokens


def smooth_and_noisy(height: int, width: int, noise: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """Two clips (2, 2, 3, height, width), and the same with noise."""
    generator = torch.Generator().manual_seed(height + width)
    coarse = torch.rand(4, 3, height // 4, width // 4, generator=generator)
    clips = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False).unflatten(0, (2, 2))
    return clips, (clips + noise * torch.randn(clips.shape, generator=generator)).clamp(0, 1)


def by_the_paper(x: np.ndarray, y: np.ndarray, powers: tuple[float, ...]) -> float:
    """MS-SSIM of planes (H, W) in float64: a window in two dimensions, blocks averaged by slices, odd sides repeat their last row."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    value = 1.0
    for scale, power in enumerate(powers):
        if scale:
            x, y = (np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge") for plane in (x, y))
            x, y = ((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4 for p in (x, y))
        mean_x, mean_y, xx, yy, xy = (convolve2d(plane, window, mode="valid") for plane in (x, y, x * x, y * y, x * y))
        seen = (2 * (xy - mean_x * mean_y) + 0.03**2) / (xx - mean_x**2 + yy - mean_y**2 + 0.03**2)
        if scale == len(powers) - 1:
            seen = seen * (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        value *= max(seen.mean(), 0.0) ** power
    return float(value)


@pytest.mark.parametrize(("height", "width"), [(176, 192), (164, 204), (128, 128), (128, 160), (64, 92), (16, 16)])
def test_it_agrees_with_the_papers_formulas_plane_by_plane(height: int, width: int) -> None:
    reference, recon = smooth_and_noisy(height, width)
    powers = powers_of(min(height, width))
    planes = zip(reference[0].flatten(0, 1).double().numpy(), recon[0].flatten(0, 1).double().numpy(), strict=True)
    expected = np.mean([by_the_paper(a, b, powers) for a, b in planes])
    assert ms_ssim(reference[:1], recon[:1]).item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("size", "expected"), [((176, 192), [0.8913387657, 0.8933117390]), ((256, 256), [0.8915567398, 0.8910915852])])
def test_it_gives_the_numbers_of_pytorch_msssim(size: tuple[int, int], expected: list[float]) -> None:
    """Of its release 1.0.0, which averages colours last, as TensorFlow does."""
    assert ms_ssim(*smooth_and_noisy(*size)).tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("side", "scales"), [(10, 0), (11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (64, 3), (81, 4), (128, 4), (160, 4), (161, 5), (999, 5)]
)
def test_a_picture_has_as_many_scales_as_hold_a_window(side: int, scales: int) -> None:
    if not scales:
        with pytest.raises(ValueError, match="11 pixels"):
            powers_of(side)
        return
    powers = powers_of(side)
    assert len(powers) == scales
    assert sum(powers) == pytest.approx(1.0, abs=2e-4)
    assert powers[0] / powers[-1] == pytest.approx(POWERS[0] / POWERS[scales - 1])


def test_the_usual_implementation_refuses_the_default_size() -> None:
    """Why the protocol says what is done there."""
    clips, _ = smooth_and_noisy(128, 128)
    with pytest.raises(ValueError, match="must be larger than 160"):
        theirs(clips[0], clips[0], data_range=1.0)


def test_a_single_scale_is_ssim_itself() -> None:
    reference, recon = smooth_and_noisy(16, 20, noise=0.05)
    assert torch.allclose(ms_ssim(reference, recon), ssim(reference, recon), atol=1e-5)


def test_more_noise_is_worse_and_identical_still_and_black_clips_have_1() -> None:
    clean, _ = smooth_and_noisy(128, 128)
    values = [ms_ssim(clean, smooth_and_noisy(128, 128, noise)[1]).mean().item() for noise in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1.0, abs=1e-5)
    still = clean[:, :1].expand(-1, 4, -1, -1, -1)
    assert ms_ssim(still, still).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert ms_ssim(torch.zeros(1, 2, 3, 64, 64), torch.zeros(1, 2, 3, 64, 64)).tolist() == pytest.approx([1.0], abs=1e-6)


def test_a_negative_picture_has_0_and_no_nan() -> None:
    clips, _ = smooth_and_noisy(128, 128)
    assert ms_ssim(clips, 1 - clips).tolist() == [0.0, 0.0]


def test_the_value_of_two_clips_is_their_mean_and_neither_depends_on_the_other() -> None:
    reference, recon = smooth_and_noisy(64, 64)
    batch, made = (ClipBatch(video=video, fps=4.0, sample_rate=24_000) for video in (reference, recon))
    rows = MsSsim().update(batch, made, Tokens(codes={}, vocab_sizes={}, duration_s=1.0))
    assert torch.equal(rows[1:], ms_ssim(reference[1:], recon[1:]))
    assert MsSsim().compute(rows.numpy()) == pytest.approx(rows.mean().item())
