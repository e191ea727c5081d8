"""Fréchet video distance: Unterthiner et al. (2018), "Towards accurate generative models of video".

I3D's 400 Kinetics logits of every clip; Fréchet distance between Gaussians fitted to the two sets. It is biased upwards for few
clips (two samples of one 400-d normal: 159 at N = 512, 40 at N = 2048), so values with different N are not comparable.
"""

import numpy as np
from torch import Tensor

from avbench import weights
from avbench.metric import DistributionMetric, MetricInfo, MetricOptions, of_generated
from avbench.metrics.features.cache import side_features
from avbench.metrics.frechet import DDOF, frechet_from_features
from avbench.nn.pretrained import i3d
from avbench.types import ClipBatch

MIN_CLIPS = 10
_SHA = (weights.CATALOG[i3d.WEIGHTS].sha256 or "")[:8]
EMBEDDING = f"I3D Kinetics-400 logits (weights {_SHA}), all frames, bilinear to 224x224, [-1,1], SAME padding, float32"
KEY = f"{i3d.WEIGHTS}-{_SHA}-224-bilinear-v1"  # change it whenever i3d.preprocess changes: cached features carry it


def fvd(reference_videos: Tensor, recon_videos: Tensor) -> float:
    """FVD between two sets of videos (N, T, 3, H, W) and (M, T, 3, H, W) in [0, 1], on the reference's device; N, M >= 2, T >= 9."""
    model = i3d.load(reference_videos.device)
    features = [i3d.logits(model, videos).cpu().numpy() for videos in (reference_videos, recon_videos)]
    return frechet_from_features(*features)


class Fvd(DistributionMetric):
    """Fréchet video distance, on I3D's logits.

    Rows (B, 2, 400): of the reference and of the reconstruction.
    """

    info = MetricInfo(
        name="fvd",
        unit="",
        higher_is_better=False,
        tolerance=5e-3,
        sets=frozenset({"distribution"}),
        needs=frozenset({"video"}),
        protocol=f"{EMBEDDING}; covariance ddof {DDOF}",
        min_clips=MIN_CLIPS,
        distribution=True,
        weights=(i3d.WEIGHTS,),
    )

    def __init__(self, options: MetricOptions) -> None:
        self.cache, self.device = options.cache, options.device
        self.model = i3d.load(options.device)

    def features(self, clips: ClipBatch, *, reference: bool) -> Tensor:
        assert clips.video is not None
        return side_features(clips, clips.video, KEY, self._logits, cache=self.cache, reference=reference)

    def _logits(self, video: Tensor) -> Tensor:
        return i3d.logits(self.model, video.to(self.device).clamp(0, 1))  # clamped as any player would show it

    def distance(self, reference: np.ndarray, recon: np.ndarray) -> float:
        return frechet_from_features(reference, recon)


class GFvd(Fvd):
    """FVD between the test split's clips and as many generated ones."""

    info = of_generated(Fvd.info, sets=Fvd.info.sets)
