"""PSNR: hand-worked values, torchmetrics, and what a run makes of an identical clip."""

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from avbench.metrics.psnr import Psnr, PsnrFrames, psnr, psnr_frames
from avbench.types import ClipBatch, Tokens

TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=1.0)


@pytest.fixture
def clips() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(3, 4, 3, 16, 16, generator=generator)
    noise = torch.rand(3, 4, 3, 16, 16, generator=generator) * torch.tensor([0.1, 0.3, 0.6]).view(3, 1, 1, 1, 1)
    return reference, (reference + noise - noise / 2).clamp(0, 1)


def test_the_textbook_example_gives_2_5527() -> None:
    target, preds = torch.tensor([[3.0, 2.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    assert psnr(target.view(1, 1, 1, 2, 2), preds.view(1, 1, 1, 2, 2), data_range=3).item() == pytest.approx(2.5527, abs=5e-5)


def test_zeros_against_ones_is_0_db() -> None:
    assert psnr(torch.zeros(1, 2, 3, 8, 8), torch.ones(1, 2, 3, 8, 8)).tolist() == [0.0]


def test_it_agrees_with_torchmetrics_clip_by_clip(clips: tuple[torch.Tensor, torch.Tensor]) -> None:
    expected = [peak_signal_noise_ratio(b, a, data_range=1.0).item() for a, b in zip(*clips, strict=True)]
    assert psnr(*clips).tolist() == pytest.approx(expected, abs=1e-4)


def test_the_mse_is_taken_over_the_clip_before_the_logarithm() -> None:
    reference = torch.zeros(1, 2, 3, 8, 8)
    recon = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.3)])[None]
    assert psnr(reference, recon).item() == pytest.approx(10 * torch.log10(torch.tensor(1 / 0.05)).item(), abs=1e-4)


def test_a_clip_has_the_same_value_alone_and_in_a_batch(clips: tuple[torch.Tensor, torch.Tensor]) -> None:
    alone = torch.cat([psnr(a[None], b[None]) for a, b in zip(*clips, strict=True)])
    assert torch.equal(psnr(*clips), alone)


def test_identical_clips_are_infinite_and_enter_the_mean_as_100_db(clips: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert torch.isinf(psnr(clips[0], clips[0])).all()
    batch = ClipBatch(video=clips[0], fps=4.0, sample_rate=24_000)
    rows = Psnr().update(batch, batch, TOKENS)
    assert Psnr().compute(rows.numpy()) == 100.0


def test_a_reconstruction_outside_the_range_is_clamped_by_the_metric() -> None:
    white = ClipBatch(video=torch.ones(1, 2, 3, 8, 8), fps=4.0, sample_rate=24_000)
    brighter = ClipBatch(video=torch.full((1, 2, 3, 8, 8), 1.5), fps=4.0, sample_rate=24_000)
    assert Psnr().update(white, brighter, TOKENS).tolist() == [100.0]


def test_clips_of_different_shapes_are_refused_instead_of_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        psnr(torch.zeros(1, 4, 3, 8, 8), torch.zeros(1, 1, 3, 8, 8))


def test_psnr_of_frames_agrees_with_torchmetrics_frame_by_frame(clips: tuple[torch.Tensor, torch.Tensor]) -> None:
    pairs = zip(clips[0].flatten(0, 1), clips[1].flatten(0, 1), strict=True)
    expected = [peak_signal_noise_ratio(b, a, data_range=1.0).item() for a, b in pairs]
    assert psnr_frames(*clips).flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_the_mean_over_frames_is_never_below_the_psnr_of_the_clip_and_far_above_it_where_one_frame_is_exact() -> None:
    reference = torch.zeros(2, 2, 3, 8, 8)
    recon = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.1)])[None].repeat(2, 1, 1, 1, 1)
    recon[1, 0] = 0
    batch, made = (ClipBatch(video=video, fps=4.0, sample_rate=24_000) for video in (reference, recon))
    frames, clip = PsnrFrames().update(batch, made, TOKENS), Psnr().update(batch, made, TOKENS)
    assert frames.tolist() == pytest.approx([20.0, 60.0], abs=1e-4)  # the second: 100 dB and 20 dB
    assert clip.tolist() == pytest.approx([20.0, 23.0103], abs=1e-4)
    assert PsnrFrames().compute(frames.numpy()) == pytest.approx(40.0, abs=1e-4)


def test_more_noise_has_a_lower_psnr_of_frames_and_identical_and_still_clips_have_100(clips: tuple[torch.Tensor, torch.Tensor]) -> None:
    values = psnr_frames(*clips).mean(1).tolist()  # the fixture's clips have more and more noise
    assert values == sorted(values, reverse=True)
    still = ClipBatch(video=clips[0][:, :1].expand_as(clips[0]).contiguous(), fps=4.0, sample_rate=24_000)
    assert PsnrFrames().update(still, still, TOKENS).tolist() == [100.0] * 3
