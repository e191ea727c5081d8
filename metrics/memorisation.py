"""Does a generator hand out its training clips? Distance of each clip to the nearest training clip, against that of the real test clip.

The real test clip at the same position in the split says how near to the training clips an honest clip of this kind lies, which differs by
far between classes. A ratio near 1: as new as real clips; well below 1: copied. B clips, N training clips, D numbers a clip.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from avbench.metric import GENERATION, MetricInfo, MetricOptions, PerClipMetric
from avbench.metrics.features import training_clips, training_features
from avbench.metrics.features.frozen import NAMES, WEIGHTS, Frozen
from avbench.metrics.features.training_clips import Once
from avbench.types import ClipBatch, Tokens

MAX_RATIO = 10.0  # a test clip that is all but in the training split would otherwise decide the mean


def nearest_distance(features: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Euclidean distance (B,) from each of `features` (B, D) to the nearest of `training` (N, D)."""
    from scipy.spatial.distance import cdist

    return cdist(np.asarray(features, np.float64), np.asarray(training, np.float64)).min(axis=1)  # type: ignore[no-any-return]


def distance_ratio(recon: np.ndarray, reference: np.ndarray, training: np.ndarray) -> np.ndarray:
    """(B,) in [0, 10]: nearest training clip's distance from `recon` (B, D) over that from `reference`; NaN where the latter is 0."""
    real = nearest_distance(reference, training)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = nearest_distance(recon, training) / real
    return np.where(real > 0, np.minimum(ratio, MAX_RATIO), np.nan)


def _info(name: str, modality: str) -> MetricInfo:
    """The protocol is stated by an object that knows its training clips. No direction: noise is far from every training clip, too."""
    return MetricInfo(
        name=name, unit="", higher_is_better=None, needs=frozenset({modality}), protocol="", per_clip=True, tasks=GENERATION,
        weights=(WEIGHTS[modality],),
    )  # fmt: skip


class _NearestTrain(PerClipMetric):
    """Mean over clips of `distance_ratio` in one modality."""

    info: MetricInfo
    modality: str

    def __init__(self, options: MetricOptions) -> None:
        """Cheap: the training clips' features are read, or made, at the first `update`. Raises MetricUnavailable for clips of another
        kind, or without weights."""
        training_clips.check_classes(options.classes)
        self.frozen = Frozen(self.modality, options)
        self.training = Once(lambda: training_features.of(self.modality, options))
        self.info = replace(
            self.info,
            protocol=f"Euclidean distance to the nearest of the first {training_clips.CLIPS} clips of {training_clips.SPLIT} "
            f"({training_clips.identity()[:8]}) over that of the reference, at most {MAX_RATIO:g}; {NAMES[self.modality]}; mean over clips",
        )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows (B,): 1 as far as the reference, 0 a copy; NaN where the reference itself is a training clip."""
        training = self.training.get()
        features = self.frozen.of(recon).numpy(), self.frozen.of_reference(reference).numpy()
        return torch.from_numpy(distance_ratio(*features, training))


class NearestTrainVideo(_NearestTrain):
    """Distance to the nearest training video, over the real clip's (arcade).

    Well below 1 means copying.
    """

    info, modality = _info("nearest_train_video", "video"), "video"


class NearestTrainAudio(_NearestTrain):
    """Distance to the nearest training audio, over the real clip's (arcade).

    Well below 1 means copying.
    """

    info, modality = _info("nearest_train_audio", "audio"), "audio"
