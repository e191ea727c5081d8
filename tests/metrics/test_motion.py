"""Metrics of what moves: hand-worked masks and values, NumPy, LPIPS itself, and what a background earns."""

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.metric import MetricOptions
from avbench.metrics.lpips import lpips, lpips_maps
from avbench.metrics.motion import LpipsMotion, PsnrMotion, lpips_motion, moving_pixels, psnr_motion
from avbench.metrics.psnr import psnr
from avbench.types import ClipBatch, Tokens

TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=1.0)


def _square(frames: int = 4, size: int = 64, side: int = 16) -> Tensor:
    """A red square (1, T, 3, H, W) that jumps its own width a frame over a grey picture."""
    video = torch.full((1, frames, 3, size, size), 0.5)
    for frame in range(frames):
        left = frame * side % size
        video[0, frame, :, 8 : 8 + side, left : left + side] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    return video


def _batch(video: Tensor) -> ClipBatch:
    return ClipBatch(video=video, fps=4.0, sample_rate=24_000)


def test_a_pixel_moves_where_one_channel_is_over_a_tenth_from_the_mean_frame() -> None:
    video = torch.zeros(1, 2, 3, 1, 4)
    video[0, 1, 1] = torch.tensor([0.0, 0.19, 0.21, 1.0])  # half of each is its distance from the mean, in both frames
    assert moving_pixels(video).shape == (1, 2, 1, 1, 4)
    assert moving_pixels(video)[0, :, 0, 0].tolist() == [[False, False, True, True]] * 2


def test_psnr_of_the_moving_pixels_by_hand() -> None:
    reference = torch.zeros(1, 2, 3, 1, 2)
    reference[0, 1, :, 0, 1] = 1.0  # the right pixel moves in both frames
    recon = torch.full_like(reference, 0.5)
    recon[0, 1, :, 0, 1] = torch.tensor([0.9, 1.0, 1.0])
    error = (3 * 0.25 + 0.01) / 6
    assert psnr_motion(reference, recon).item() == pytest.approx(-10 * np.log10(error), abs=1e-5)


def test_it_agrees_with_numpy_on_random_clips() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = 0.5 + 0.3 * (torch.rand(3, 4, 3, 16, 16, generator=generator) - 0.5)
    recon = torch.rand(reference.shape, generator=generator)
    for clip in range(3):
        x, y = reference[clip].double().numpy(), recon[clip].double().numpy()
        mask = (np.abs(x - x.mean(axis=0)) > 0.1).any(axis=1)
        assert 0.1 < mask.mean() < 0.9
        errors = ((x - y) ** 2).transpose(0, 2, 3, 1)[mask]
        assert psnr_motion(reference, recon)[clip].item() == pytest.approx(-10 * np.log10(errors.mean()), abs=1e-4)


def test_where_everything_moves_it_is_psnr_and_the_mean_of_the_map() -> None:
    generator = torch.Generator().manual_seed(1)
    reference = torch.randint(0, 2, (1, 1, 3, 64, 64), generator=generator).float().repeat(1, 2, 1, 1, 1)
    reference[:, 1] = 1 - reference[:, 1]  # every channel is 0.5 from its mean
    recon = torch.rand(reference.shape, generator=generator)
    assert psnr_motion(reference, recon).item() == pytest.approx(psnr(reference, recon).item(), abs=1e-5)
    assert lpips_motion(reference, recon).item() == pytest.approx(lpips_maps(reference, recon).mean().item(), abs=1e-6)


def test_the_map_of_lpips_has_nearly_the_mean_of_lpips() -> None:
    generator = torch.Generator().manual_seed(2)
    reference, recon = torch.rand(2, 2, 3, 128, 128, generator=generator), torch.rand(2, 2, 3, 128, 128, generator=generator)
    maps = lpips_maps(reference, recon)
    assert maps.shape == (2, 2, 1, 128, 128)
    # Bilinear interpolation gives pixels at the edges a little more or less than their share.
    assert maps.mean(dim=(1, 2, 3, 4)).tolist() == pytest.approx(lpips(reference, recon).tolist(), rel=0.02)


def test_a_background_earns_nothing_of_psnr_and_little_of_lpips() -> None:
    """Two reconstructions with the same square, one of them over a ruined background; LPIPS' deep layers see a bit of it from afar."""
    reference = _square(size=128)
    recon = reference + 0.1
    ruined = recon.clone()
    ruined[..., 64:, :] = 0
    assert psnr(reference, recon) > psnr(reference, ruined) + 5
    assert psnr_motion(reference, ruined).item() == pytest.approx(psnr_motion(reference, recon).item(), abs=1e-6)
    assert lpips(reference, ruined) - lpips(reference, recon) > 10 * (lpips_motion(reference, ruined) - lpips_motion(reference, recon))


def test_the_mean_frame_is_worse_where_it_matters() -> None:
    reference = _square(size=128)
    still = reference.mean(dim=1, keepdim=True).expand_as(reference)
    assert psnr_motion(reference, still) < psnr(reference, still) - 10
    assert lpips_motion(reference, still) > 2 * lpips(reference, still)


def test_the_mask_is_the_references_alone() -> None:
    reference = _square()
    recon = torch.zeros_like(reference)
    errors = reference.square()[moving_pixels(reference).expand_as(reference)]
    assert psnr_motion(reference, recon).item() == pytest.approx(-10 * errors.mean().log10().item(), abs=1e-5)
    assert torch.isinf(psnr_motion(reference, reference)).all()


def test_a_clip_in_which_nothing_moves_has_no_value_and_leaves_the_mean_alone() -> None:
    reference = torch.cat([_square(), torch.full((1, 4, 3, 64, 64), 0.3)])
    recon = (reference + 0.05).clamp(0, 1)
    for metric in (PsnrMotion(), LpipsMotion(MetricOptions())):
        rows = metric.update(_batch(reference), _batch(recon), TOKENS)
        assert rows.isnan().tolist() == [False, True]
        assert metric.compute(rows.numpy()) == pytest.approx(rows[0].item())


def test_a_clip_has_the_same_value_alone_and_in_a_batch() -> None:
    reference = torch.cat([_square(), _square().flip(-1) * 0.7])
    recon = (reference + 0.1 * torch.rand(reference.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    assert psnr_motion(reference[1:], recon[1:]).item() == pytest.approx(psnr_motion(reference, recon)[1].item(), abs=1e-9)
    assert lpips_motion(reference[1:], recon[1:]).item() == pytest.approx(lpips_motion(reference, recon)[1].item(), abs=1e-6)


def test_exact_pixels_enter_the_mean_as_100_db_and_distance_zero() -> None:
    batch = _batch(_square())
    assert PsnrMotion().update(batch, batch, TOKENS).tolist() == [100.0]
    assert LpipsMotion(MetricOptions()).update(batch, batch, TOKENS).tolist() == [0.0]


def test_both_protocols_say_what_moves_and_which_network() -> None:
    assert all("over 0.1 from the reference clip's mean frame" in metric.info.protocol for metric in (PsnrMotion, LpipsMotion))
    assert "alexnet" in LpipsMotion.info.protocol


def test_clips_of_different_shapes_are_refused_instead_of_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        psnr_motion(torch.zeros(1, 4, 3, 8, 8), torch.zeros(1, 1, 3, 8, 8))
