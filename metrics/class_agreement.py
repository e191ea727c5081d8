"""Does a generated clip look and sound like its class, and do its two modalities belong together? Asked of a classifier of real clips.

`features/classifier.py` is fitted to real clips of the training split; its mistakes on real clips bound these values from above, so read
them beside the real clips' own (`identity`, or the row `real`) and beside chance. On the 1,010 real clips of arcade-test (python
benchmarks/classifier.py): accuracy 0.995 by video, 0.932 by audio, 0.987 by both; agreement 0.927, and 0.009 with the sound of another
clip. B clips, K classes.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from avbench.metric import GENERATION, MetricInfo, MetricOptions, PerClipMetric
from avbench.metrics.features import classifier as real_clips
from avbench.metrics.features import training_clips
from avbench.metrics.features.frozen import MODALITIES, NAMES, WEIGHTS, Frozen
from avbench.metrics.features.training_clips import Once
from avbench.types import ClipBatch, Tokens


def class_accuracy(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(B,) 1.0 where the most probable class of (B, K) is `truth` (B,), else 0.0."""
    return (probabilities.argmax(axis=1) == truth).astype(np.float64)


def same_argmax(video: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """(B,) 1.0 where both give their highest probability (B, K) to the same class, else 0.0."""
    return (video.argmax(axis=1) == audio.argmax(axis=1)).astype(np.float64)


def shared_mass(video: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """(B,) in [0, 1]: the probability that classes sampled from (B, K) and from (B, K) are the same."""
    return (video * audio).sum(axis=1)  # type: ignore[no-any-return]


def _info(name: str, *modalities: str) -> MetricInfo:
    """The protocol is stated by an object that knows its classes."""
    return MetricInfo(
        name=name, unit="", higher_is_better=True, needs=frozenset(modalities), protocol="", per_clip=True, tasks=GENERATION,
        weights=tuple(WEIGHTS.values()),
    )  # fmt: skip


class _Agreement(PerClipMetric):
    """What the metrics here have in common. `modalities`: what is looked at; `heads`: which parts of the classifier."""

    info: MetricInfo
    heads: tuple[str, ...]
    modalities: tuple[str, ...]
    what: str

    def __init__(self, options: MetricOptions) -> None:
        """Cheap: the classifier is read, or fitted, at the first `update`. Raises MetricUnavailable for a split of other classes, or
        without weights."""
        training_clips.check_classes(options.classes)
        networks = self.modalities if any(file.exists() for file in real_clips.fitted_files()) else MODALITIES  # a fit is of all heads
        self.frozen = {modality: Frozen(modality, options) for modality in networks}
        self.classifier = Once(lambda: real_clips.load(options))
        self.info = replace(self.info, protocol=self._protocol())

    def _protocol(self) -> str:
        num_classes = len(set(training_clips.labels()))
        return (
            f"{self.what}; multinomial logistic regression (C {real_clips.INVERSE_PENALTY:g}, standardised, fit {real_clips.FIT_VERSION}) "
            f"on {' and '.join(NAMES[modality] for modality in self.modalities)}, fitted to the first {training_clips.CLIPS} clips of "
            f"{training_clips.SPLIT} ({training_clips.identity()[:8]}); {num_classes} classes, chance {1 / num_classes:.4f}"
        )

    def _probabilities(self, clips: ClipBatch) -> dict[str, np.ndarray]:
        classifier = self.classifier.get()
        features = {modality: self.frozen[modality].of(clips).numpy() for modality in self.modalities}
        return {head: classifier.probabilities(head, features) for head in self.heads}


class _ClassAccuracy(_Agreement):
    """Share of the clips that the classifier puts into the class of their reference."""

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows (B,): 1 or 0; NaN for a clip without label. Raises MetricUnavailable for a class that the classifier does not know."""
        labels = reference.labels or (None,) * len(reference)
        named = [clip for clip, label in enumerate(labels) if label is not None]
        truth = self.classifier.get().positions([label for label in labels if label is not None])
        rows = np.full(len(labels), np.nan)
        if named:
            (probabilities,) = self._probabilities(recon).values()
            rows[named] = class_accuracy(probabilities[named], truth)
        return torch.from_numpy(rows)


class ClassAccuracyVideo(_ClassAccuracy):
    """Share of clips whose video is classified as their label (arcade)."""

    heads, modalities = ("video",), ("video",)
    info = _info("class_accuracy_video", *modalities)
    what = "share of clips whose video is classified as their reference's label"


class ClassAccuracyAudio(_ClassAccuracy):
    """Share of clips whose audio is classified as their label (arcade)."""

    heads, modalities = ("audio",), ("audio",)
    info = _info("class_accuracy_audio", *modalities)
    what = "share of clips whose audio is classified as their reference's label"


class ClassAccuracyAv(_ClassAccuracy):
    """Share of clips that video and audio together classify right (arcade)."""

    heads, modalities = ("av",), ("video", "audio")
    info = _info("class_accuracy_av", *modalities)
    what = "share of clips whose video and audio together are classified as their reference's label"


class AvAgreement(_Agreement):
    """Share of clips whose video and audio are classified alike (arcade).

    Each by its own classifier; labels are not looked at.
    """

    heads, modalities = ("video", "audio"), ("video", "audio")
    info = _info("av_agreement", *modalities)
    what = "share of clips whose video and audio are classified alike, each by itself"

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows (B,): 1 or 0."""
        found = self._probabilities(recon)
        return torch.from_numpy(same_argmax(found["video"], found["audio"]))


class AvAgreementSoft(_Agreement):
    """Probability that video and audio are of one class (arcade).

    That classes sampled for a clip's video and for its audio are the same, each by its own classifier.
    """

    heads, modalities = ("video", "audio"), ("video", "audio")
    info = _info("av_agreement_soft", *modalities)
    what = "sum over classes of P(class | video) x P(class | audio), mean over clips"

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows (B,) in [0, 1]."""
        found = self._probabilities(recon)
        return torch.from_numpy(shared_mass(found["video"], found["audio"]))
