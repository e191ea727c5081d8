"""Flicker: hand-worked values, NumPy, and what it sees that PSNR does not."""

import numpy as np
import pytest
import torch

from avbench.metrics.flicker import Flicker, flicker
from avbench.metrics.psnr import psnr
from avbench.types import ClipBatch, Tokens

TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=1.0)


def moving(frames: int = 8) -> torch.Tensor:
    """Two clips of a bar that moves by a pixel a frame."""
    clips = torch.full((2, frames, 3, 16, 16), 0.25)
    for frame in range(frames):
        clips[:, frame, :, :, frame : frame + 4] = 0.75
    return clips


def test_values_worked_out_by_hand() -> None:
    still = torch.zeros(1, 4, 1, 1, 1).expand(1, 4, 3, 8, 8)
    blinking = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 4, 1, 1, 1).expand(1, 4, 3, 8, 8)
    assert flicker(still, blinking).tolist() == [1.0]
    assert flicker(blinking, 1 - blinking).tolist() == [2.0]
    assert flicker(blinking, blinking / 2).tolist() == [0.5]


def test_it_agrees_with_numpy() -> None:
    generator = np.random.default_rng(0)
    reference, recon = generator.random((2, 2, 5, 3, 8, 8), dtype=np.float32)
    expected = np.abs(np.diff(recon, axis=1) - np.diff(reference, axis=1)).mean(axis=(1, 2, 3, 4))
    assert flicker(torch.from_numpy(reference), torch.from_numpy(recon)).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_a_constant_error_costs_nothing_and_one_that_comes_and_goes_does_at_the_same_psnr() -> None:
    clips = moving()
    signs = torch.tensor([1.0, -1.0]).repeat(4).view(1, 8, 1, 1, 1)
    steady, blinking = clips + 0.1, clips + 0.1 * signs
    assert psnr(clips, steady).tolist() == pytest.approx(psnr(clips, blinking).tolist(), abs=1e-4)
    assert flicker(clips, steady).tolist() == pytest.approx([0.0, 0.0], abs=1e-7)
    assert flicker(clips, blinking).tolist() == pytest.approx([0.2, 0.2], abs=1e-6)


def test_more_noise_is_worse_and_a_frozen_picture_costs_the_motion() -> None:
    clips = moving()
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    values = [flicker(clips, clips + strength * noise).mean().item() for strength in (0.0, 0.01, 0.03, 0.1, 0.3)]
    assert values == sorted(values)
    assert values[0] == 0.0
    frozen = clips[:, :1].expand_as(clips)
    assert torch.equal(flicker(clips, frozen), clips.diff(dim=1).abs().flatten(1).mean(1))


def test_identical_still_and_single_frames_and_two_clips() -> None:
    clips = moving()
    still = clips[:, :1].expand_as(clips)
    assert flicker(clips, clips).tolist() == [0.0, 0.0]
    assert flicker(still, still).tolist() == [0.0, 0.0]
    assert flicker(clips[:, :1], clips[:, :1]).isnan().all()
    batch, made = (ClipBatch(video=video, fps=4.0, sample_rate=24_000) for video in (clips, still))
    rows = Flicker().update(batch, made, TOKENS)
    assert rows.tolist() == pytest.approx((255 * flicker(clips, still)).tolist())
    assert Flicker().compute(rows.numpy()) == pytest.approx(rows.mean().item())


def test_a_reconstruction_outside_the_range_is_clamped_by_the_metric() -> None:
    white = ClipBatch(video=torch.ones(1, 2, 3, 8, 8), fps=4.0, sample_rate=24_000)
    brighter = ClipBatch(video=torch.tensor([1.0, 1.5]).view(1, 2, 1, 1, 1).expand(1, 2, 3, 8, 8), fps=4.0, sample_rate=24_000)
    assert Flicker().update(white, brighter, TOKENS).tolist() == [0.0]
