"""One vector a clip and modality: I3D's 400 Kinetics logits, and the mean over windows of the sound-effects CNN's 512 numbers.

The networks, keys and folders of FVD and FAD, so that each serves the other's cache. B clips, D numbers.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avbench import weights
from avbench.data import shards, splits
from avbench.data.batches import read_batch
from avbench.errors import AvbenchError
from avbench.metric import MetricOptions
from avbench.metrics.fad import FadAisfx
from avbench.metrics.features.cache import cached_features, side_features
from avbench.metrics.features.training_clips import tracked
from avbench.metrics.fvd import KEY
from avbench.nn.pretrained import aisfx, i3d
from avbench.paths import cache_root
from avbench.types import ClipBatch

MODALITIES = ("video", "audio")
WEIGHTS = {"video": i3d.WEIGHTS, "audio": aisfx.WEIGHTS}
KEYS = {"video": KEY, "audio": FadAisfx.key}
NAMES = {"video": f"I3D logits ({KEYS['video']})", "audio": f"aisfx, mean of windows ({KEYS['audio']})"}
PART = 4  # clips of a split at a time: what a killed computation loses at most

Extract = Callable[[Tensor, int], Tensor]  # a batch's video or audio, sample rate -> features as the cache keeps them


class Frozen:
    """Features of one modality ("video" or "audio"). Raises WeightsUnavailable where the network's file cannot be had.

    The network is built when the first features are asked for.
    """

    def __init__(self, modality: str, options: MetricOptions) -> None:
        weights.path(WEIGHTS[modality])
        self.modality, self.cache, self.device = modality, options.cache, options.device

    @cached_property
    def extract(self) -> Extract:
        """The network as a function."""
        return _extractor(self.modality, self.device)

    def of(self, clips: ClipBatch) -> Tensor:
        """(B, D) float32 on the CPU. The last batch's are kept: several metrics ask for the same clips one after another."""
        return self._side(clips, reference=False)

    def of_reference(self, clips: ClipBatch) -> Tensor:
        """(B, D) float32 on the CPU; kept in the split's cache of reference features."""
        return self._side(clips, reference=True)

    def _side(self, clips: ClipBatch, *, reference: bool) -> Tensor:
        def extract(content: Tensor) -> Tensor:
            return self.extract(content, clips.sample_rate)

        return _vector(side_features(clips, self._content(clips), KEYS[self.modality], extract, cache=self.cache, reference=reference))

    def of_split(self, split: splits.Split) -> np.ndarray:
        """(N, D) of all clips of `split`. Each part is kept when it is made, and the clips of a part that is kept are not read.

        One process makes them, others wait for it. Raises AvbenchError where a clip cannot be read, or the kept features are damaged.
        """
        cache = cache_root() / "reference-features" / split.checksum[:16]
        parts = range(-(-len(split.clips) // PART))
        with shards.lock(cache):
            title = f"{self.modality} features of {len(split.clips)} clips of {split.name}"
            found = np.concatenate([self._of_part(split, part, cache) for part in tracked(parts, title)])
        if not np.isfinite(found).all():
            raise AvbenchError(f"{cache} holds {self.modality} features that are no finite numbers; remove it and they are made again")
        return found

    def _of_part(self, split: splits.Split, part: int, cache: Path) -> np.ndarray:
        indices = range(part * PART, min((part + 1) * PART, len(split.clips)))

        def make(missing: list[int]) -> Tensor:
            batch = read_batch(split, part, [indices[position] for position in missing])
            if batch.failures:
                first = batch.failures[0]
                raise AvbenchError(f"{split.name}: clip {first.id} cannot be read: {first.reason}; avbench data prepare {split.name}")
            assert batch.clips is not None
            return self.extract(self._content(batch.clips), batch.clips.sample_rate)

        kept = cached_features(cache, KEYS[self.modality], tuple(split.clips[index].id for index in indices), make)
        return _vector(kept).numpy()

    def _content(self, clips: ClipBatch) -> Tensor:
        content = clips.video if self.modality == "video" else clips.audio
        assert content is not None
        return content


def _vector(features: Tensor) -> Tensor:
    """(B, D) of (B, D), or of windows (B, W, D)."""
    return features.mean(1) if features.ndim == 3 else features


@lru_cache(maxsize=4)
def _extractor(modality: str, device: torch.device) -> Extract:
    """One network for all metrics that look at the modality."""
    return _video(device) if modality == "video" else _audio(device)


def _video(device: torch.device) -> Extract:
    model = i3d.load(device)
    return lambda video, sample_rate: i3d.logits(model, video.clamp(0, 1))


def _audio(device: torch.device) -> Extract:
    model = aisfx.load(device)
    return lambda audio, sample_rate: aisfx.embed(model, audio.to(device), sample_rate)
