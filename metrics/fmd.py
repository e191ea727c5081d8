"""FMD, a Fréchet distance of motion: do things move as they do in the real clips, whatever they look like?

As FVMD (Liu et al. 2024, "Fréchet video motion distance", arXiv 2407.16124): velocities and accelerations of points, histogrammed by
direction and weighted by length, Fréchet distance between the clips' histograms. FVMD tracks points with PIPs++, whose weights come from
the open web; here each pixel's velocity is its optical flow (OpenCV's Farneback, as AV-Align uses it), so it sees no motion beyond a
frame and values do not compare with FVMD's. A still clip is further from moving ones, beside a blurred one, than FVD puts it.
B clips, T frames, G x G cells.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from avbench.metric import DistributionMetric, MetricInfo, MetricOptions, of_generated
from avbench.metrics.av_align import gray_frames
from avbench.metrics.features.cache import side_features
from avbench.metrics.frechet import DDOF, frechet_from_features
from avbench.types import ClipBatch

CELLS = 4  # a side
DIRECTIONS = 8
MIN_CLIPS = 10
KEY = "farneback-hof-4x4x8-v1"  # change it whenever `motion_features` changes: cached features carry it


def motion_features(video: Tensor) -> Tensor:
    """(B, 256) float32 of clips (B, T, 3, H, W) in [0, 1], T >= 3: the velocities' histogram and the accelerations'.

    Of each: per cell and direction, mean over frames and pixels of the length of those vectors, in percent of the frame's width a frame.
    """
    if video.shape[1] < 3:
        raise ValueError(f"an acceleration takes three frames; the clips have {video.shape[1]}")
    return torch.stack([_of_clip(frames) for frames in gray_frames(video)])


def _of_clip(frames: np.ndarray) -> Tensor:
    """(256,) of gray frames uint8 (T, H, W)."""
    velocity = np.stack([_flow(before, after) for before, after in pairwise(frames)])
    velocity *= 100 / frames.shape[2]
    histograms = [_histogram(velocity), _histogram(np.diff(velocity, axis=0))]
    return torch.from_numpy(np.concatenate(histograms).astype(np.float32))


def _flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Float32 (H, W, 2), pixels to the right and down: pyramid 0.5 x 3, window 15, 3 iterations, polynomials 5 / 1.2."""
    import cv2

    return np.asarray(cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0))  # type: ignore[call-overload]


def _histogram(vectors: np.ndarray) -> np.ndarray:
    """(128,) of vectors (F, H, W, 2): a vector's length goes to its cell, shared between the two nearest of eight directions."""
    _, height, width, _ = vectors.shape
    length = np.hypot(vectors[..., 0], vectors[..., 1])
    turn = np.arctan2(vectors[..., 1], vectors[..., 0]) / (2 * np.pi) * DIRECTIONS
    lower = np.floor(turn)
    rows = np.arange(height) * CELLS // height
    columns = np.arange(width) * CELLS // width
    cell = (rows[:, None] * CELLS + columns)[None]
    counts = np.zeros(CELLS * CELLS * DIRECTIONS)
    for direction, share in ((lower, 1 - (turn - lower)), (lower + 1, turn - lower)):
        index = cell * DIRECTIONS + direction.astype(np.int64) % DIRECTIONS
        counts += np.bincount(index.ravel(), weights=(length * share).ravel(), minlength=len(counts))
    pixels = np.bincount(np.broadcast_to(cell, length.shape).ravel(), minlength=CELLS * CELLS)
    return counts / np.repeat(np.maximum(pixels, 1), DIRECTIONS)


def _of_video(video: Tensor) -> Tensor:
    return motion_features(video.clamp(0, 1))


class Fmd(DistributionMetric):
    """Fréchet distance of motion: histograms of optical flow and its change."""

    info = MetricInfo(
        name="fmd",
        unit="",
        higher_is_better=False,
        tolerance=5e-3,
        needs=frozenset({"video"}),
        protocol=(
            f"OpenCV Farneback flow of uint8 gray frames at the split's fps and size, in % of the width a frame; histograms of velocity "
            f"and acceleration, {CELLS}x{CELLS} cells x {DIRECTIONS} directions, weighted by length, mean over frames; covariance "
            f"ddof {DDOF}"
        ),
        min_clips=MIN_CLIPS,
        distribution=True,
        default=False,
    )

    def __init__(self, options: MetricOptions) -> None:
        self.cache = options.cache

    def features(self, clips: ClipBatch, *, reference: bool) -> Tensor:
        assert clips.video is not None
        return side_features(clips, clips.video, KEY, _of_video, cache=self.cache, reference=reference)

    def distance(self, reference: np.ndarray, recon: np.ndarray) -> float:
        return frechet_from_features(reference, recon)


class GFmd(Fmd):
    """FMD between the test split's clips and as many generated ones."""

    info = of_generated(Fmd.info)
