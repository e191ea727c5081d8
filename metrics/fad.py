"""Fréchet audio distance: Kilgour et al. (2019), arXiv 1812.08466. Fréchet distance between Gaussians fitted to embeddings of windows.

The embedding decides the value, so it is in the metric's name. A window of a clip is one sample: all windows of all reference clips
against those of all reconstructions. Biased upwards for few clips, and more so the wider the embedding: compare at equal N only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from avbench import weights
from avbench.metric import DistributionMetric, MetricInfo, MetricOptions, of_generated
from avbench.metrics.features import vggish
from avbench.metrics.features.cache import side_features
from avbench.metrics.frechet import DDOF, frechet_from_features
from avbench.nn.pretrained import aisfx
from avbench.types import ClipBatch

MIN_CLIPS = 10
_RESAMPLED = "torchaudio resample (sinc, Hann window), float32"


def fad(reference_features: np.ndarray, recon_features: np.ndarray) -> float:
    """FAD between windows' embeddings (..., D) and (..., D) of two sets of clips; every leading dimension counts samples."""
    dim = reference_features.shape[-1]
    return frechet_from_features(reference_features.reshape(-1, dim), recon_features.reshape(-1, dim))


class _Fad(DistributionMetric):
    """FAD over the clips of a run. Rows (B, 2, W, D): embeddings of the W windows of the reference and of the reconstruction."""

    info: MetricInfo
    key: str  # names embedding, weights and front end in the cache of reference features
    embed: Callable[[Tensor, int], Tensor]  # audio (B, C, N), sample rate -> (B, W, D)

    def __init__(self, options: MetricOptions) -> None:
        self.cache, self.device = options.cache, options.device

    def features(self, clips: ClipBatch, *, reference: bool) -> Tensor:
        assert clips.audio is not None

        def extract(audio: Tensor) -> Tensor:
            return self.embed(audio.to(self.device), clips.sample_rate)

        return side_features(clips, clips.audio, self.key, extract, cache=self.cache, reference=reference)

    def distance(self, reference: np.ndarray, recon: np.ndarray) -> float:
        return fad(reference, recon)


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What a Fréchet audio distance looks through, in words."""

    network: str
    front_end: str
    full_rank: int  # clips of 4.096 s below which a covariance of its windows is singular
    checkpoint: str  # in the catalog of weights

    @property
    def protocol(self) -> str:
        """Of a metric that needs no covariance."""
        sha256 = weights.CATALOG[self.checkpoint].sha256
        return f"{self.network} ({self.front_end}); weights {(sha256 or 'not pinned')[:8]}, {_RESAMPLED}"

    def info(self, name: str) -> MetricInfo:
        """Of the Fréchet distance."""
        front_end = f"{self.front_end}; rank-deficient below {self.full_rank} clips of 4.096 s"
        return MetricInfo(
            name=name,
            unit="",
            higher_is_better=False,
            tolerance=5e-3,
            sets=frozenset({"distribution"}),
            needs=frozenset({"audio"}),
            protocol=f"FAD, {replace(self, front_end=front_end).protocol}; all windows pooled, covariance ddof {DDOF}",
            min_clips=MIN_CLIPS,
            distribution=True,
            weights=(self.checkpoint,),
        )


AISFX = Embedding(
    network="aisfx 512-d",
    front_end="Essentia log-mel, mono 44.1 kHz, block 2048, hop 1024, 96 bands 0-22050 Hz, windows of 100 frames, hop 50",
    full_rank=257,
    checkpoint=aisfx.WEIGHTS,
)
VGGISH = Embedding(
    network="VGGish 128-d",
    front_end="mono 16 kHz, 25/10 ms, 64 mels 125-7500 Hz, log(x + 0.01), 0.96 s windows without overlap, no PCA, no last ReLU",
    full_rank=33,
    checkpoint=vggish.WEIGHTS,
)


class FadAisfx(_Fad):
    """Fréchet audio distance under a CNN for sound effects."""

    info = AISFX.info("fad_aisfx")
    key = f"{aisfx.WEIGHTS}-{(weights.CATALOG[aisfx.WEIGHTS].sha256 or '')[:8]}-44k-blocks-v1"

    def __init__(self, options: MetricOptions) -> None:
        super().__init__(options)
        model = aisfx.load(options.device)
        self.embed = lambda audio, sample_rate: aisfx.embed(model, audio, sample_rate)


class FadVggish(_Fad):
    """Fréchet audio distance under VGGish, which most papers report."""

    info = VGGISH.info("fad_vggish")
    key = f"{vggish.WEIGHTS}-{(weights.CATALOG[vggish.WEIGHTS].sha256 or '')[:8]}-16k-patches-v1"

    def __init__(self, options: MetricOptions) -> None:
        super().__init__(options)
        model = vggish.load(options.device)
        self.embed = lambda audio, sample_rate: vggish.embed(model, audio, sample_rate)


class GFadAisfx(FadAisfx):
    """FAD (sound-effects CNN) between the test clips and as many generated."""

    info = of_generated(FadAisfx.info, sets=frozenset({"v2a", "distribution"}))


class GFadVggish(FadVggish):
    """FAD (VGGish) between the test clips and as many generated ones."""

    info = of_generated(FadVggish.info, sets=frozenset({"v2a", "distribution"}))
