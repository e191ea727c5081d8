import numpy as np
import pytest
import torch

from avbench.metrics.av_align import AvAlign, av_align, motion_peak_times, onset_times, peak_iou
from avbench.types import ClipBatch, Tokens

DURATION_S, RATE = 4.096, 24_000


def moving_pattern(num_frames: int, jumps: set[int], size: int = 64) -> torch.Tensor:
    """(1, T, 3, H, W): a pattern that drifts by half a pixel a frame, and by 5 pixels in the frames `jumps`."""
    y, x = np.mgrid[:size, :size]
    at, frames = 10.0, []
    for frame in range(num_frames):
        at += 5.0 if frame in jumps else 0.5
        frames.append((127 + 100 * np.sin(x * 0.35 - at * 0.35) * np.cos(y * 0.2)).clip(0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(frames))[None, :, None].expand(1, -1, 3, -1, -1).float() / 255


def hits(times: tuple[float, ...]) -> torch.Tensor:
    """(1, 1, N): decaying 700 Hz tones that begin at `times`."""
    t = np.arange(round(DURATION_S * RATE)) / RATE
    tones = [(t >= at) * np.exp(-np.maximum(t - at, 0) * 20) * np.sin(2 * np.pi * 700 * t) * 0.6 for at in times]
    return torch.from_numpy(sum(tones, np.zeros_like(t)).clip(-1, 1).astype(np.float32))[None, None]


# Values of the authors' own script (github.com/guyyariv/TempoTokens, av_align.py of commit bf0b1e3) on these very frames and samples.
@pytest.mark.parametrize(
    ("num_frames", "jumps", "times", "expected"),
    [
        (16, {3, 7, 11}, (0.8, 1.85, 2.9), 3 / 5),
        (32, {4, 9, 15, 22, 28}, (0.5, 1.0, 1.9, 2.8, 3.7), 5 / 9),
        (16, {5}, (0.3, 0.9, 1.6, 2.4, 3.3), 1 / 7),
        (102, {20, 45, 70}, (0.8, 1.9, 2.79), 3 / 38),
    ],
)
def test_agrees_with_the_authors_script(num_frames: int, jumps: set[int], times: tuple[float, ...], expected: float) -> None:
    value = av_align(moving_pattern(num_frames, jumps), hits(times), num_frames / DURATION_S, RATE)
    assert value.tolist() == pytest.approx([expected])


def test_onsets_are_found_where_tones_begin() -> None:
    found = onset_times(hits((0.8, 1.85, 2.9))[0, 0].numpy(), RATE)
    assert found.tolist() == pytest.approx([0.8, 1.85, 2.9], abs=0.04)


def test_a_jump_is_a_motion_peak_and_a_still_or_single_frame_has_none() -> None:
    frames = (moving_pattern(16, {7})[0, :, 0] * 255).round().to(torch.uint8).numpy()
    assert 7 / 4.0 in motion_peak_times(frames, fps=4.0)
    assert motion_peak_times(np.repeat(frames[:1], 16, axis=0), fps=4.0).size == 0
    assert motion_peak_times(frames[:1], fps=4.0).size == 0


@pytest.mark.parametrize(
    ("audio", "video", "expected"),
    [
        ([1.0], [1.0], 1.0),
        ([1.0], [1.2], 1.0),
        ([1.0], [1.25], 0.0),  # exactly one frame away: outside
        ([], [1.0], 0.0),
        ([1.0], [], 0.0),
        ([], [], 0.0),
        ([0.9, 1.0, 1.1], [1.0], 1 / 3),  # one video peak matches one sound
        ([1.0, 2.0], [1.0, 3.0], 1 / 3),
        ([1.0, 1.2], [0.9, 1.1], 1.0),
    ],
)
def test_intersection_over_union_by_hand(audio: list[float], video: list[float], expected: float) -> None:
    assert peak_iou(np.array(audio), np.array(video), fps=4.0) == pytest.approx(expected)


def test_only_the_reconstruction_counts_and_the_batch_does_not() -> None:
    video = torch.cat([moving_pattern(16, {3, 7, 11}), moving_pattern(16, {5})])
    audio = torch.cat([hits((0.8, 1.85, 2.9)), hits((0.3, 0.9, 1.6, 2.4, 3.3))])
    recon = ClipBatch(video=video, audio=audio, fps=16 / DURATION_S, sample_rate=RATE)
    silent = ClipBatch(video=torch.zeros_like(video), audio=torch.zeros_like(audio), fps=16 / DURATION_S, sample_rate=RATE)
    tokens = Tokens(codes={"joint": torch.zeros(2, 1, 1, dtype=torch.int64)}, vocab_sizes={"joint": 1}, duration_s=DURATION_S)
    metric = AvAlign()
    assert metric.update(silent, recon, tokens).tolist() == pytest.approx([3 / 5, 1 / 7])
    assert metric.update(recon, recon, tokens).tolist() == metric.update(silent, recon, tokens).tolist()
    assert metric.update(recon, silent, tokens).tolist() == [0.0, 0.0]
