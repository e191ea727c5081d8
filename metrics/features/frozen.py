"""One vector a clip and modality: I3D's 400 Kinetics logits, and the mean over windows of the sound-effects CNN's 512 numbers.

The networks, keys and folders of FVD and FAD, so that each serves the other's cache. B clips, D numbers.
"""

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from avbench.data import splits
from avbench.metric import MetricOptions
from avbench.metrics.fad import FadAisfx
from avbench.metrics.features import aisfx, i3d
from avbench.metrics.features.cache import cached_features
from avbench.metrics.fvd import PREPROCESSING
from avbench.paths import cache_root
from avbench.types import ClipBatch
from avbench.weights import CATALOG

MODALITIES = ("video", "audio")
DIMS = {"video": i3d.NUM_LOGITS, "audio": aisfx.DIM}
KEYS = {"video": f"{i3d.WEIGHTS}-{(CATALOG[i3d.WEIGHTS].sha256 or '')[:8]}-{PREPROCESSING}", "audio": FadAisfx.key}
NAMES = {"video": f"I3D logits ({KEYS['video']})", "audio": f"aisfx, mean of windows ({KEYS['audio']})"}
SPLIT_BATCH = 4

Extract = Callable[[Tensor, int], Tensor]  # a batch's video or audio, sample rate -> features as the cache keeps them
_recent: dict[tuple[str, str], tuple[weakref.ref[Tensor], Tensor]] = {}


class Frozen:
    """Features of one modality ("video" or "audio"). Raises WeightsUnavailable where the network's file cannot be had."""

    def __init__(self, modality: str, options: MetricOptions) -> None:
        self.modality, self.cache, self.device = modality, options.cache, options.device
        self.extract: Extract = _video(options.device) if modality == "video" else _audio(options.device)

    def of(self, clips: ClipBatch) -> Tensor:
        """(B, D) float32 on the CPU. The last batch's are kept: several metrics ask for the same clips one after another."""
        content = self._content(clips)
        kept = _recent.get((self.modality, str(self.device)))
        if kept is None or kept[0]() is not content:
            kept = (weakref.ref(content), self.extract(content, clips.sample_rate).cpu())
            _recent[self.modality, str(self.device)] = kept
        return _vector(kept[1])

    def of_reference(self, clips: ClipBatch) -> Tensor:
        """(B, D) float32 on the CPU; kept in the split's cache of reference features."""
        return self._kept(clips, self.cache)

    def of_split(self, split: splits.Split) -> tuple[np.ndarray, tuple[str | None, ...]]:
        """Features (N, D) and labels of every clip of `split` that could be prepared; made once, and what is made is kept."""
        cache = cache_root() / "reference-features" / split.checksum[:16]
        total = -(-len(split.clips) // SPLIT_BATCH)
        title = f"{self.modality} features of {len(split.clips)} clips of {split.name}"
        found: list[np.ndarray] = []
        labels: list[str | None] = []
        for batch in track(splits.batches(split, SPLIT_BATCH), title, total=total, console=Console(stderr=True), transient=True):
            if batch.clips is not None:
                found.append(self._kept(batch.clips, cache).numpy())
                labels += batch.clips.labels
        return np.concatenate(found), tuple(labels)

    def _kept(self, clips: ClipBatch, cache: Path | None) -> Tensor:
        content = self._content(clips)
        ids = clips.ids or ("",) * len(clips)  # equal ids: the cache declines to keep them
        kept = cached_features(cache, KEYS[self.modality], ids, lambda missing: self.extract(content[missing], clips.sample_rate))
        return _vector(kept)

    def _content(self, clips: ClipBatch) -> Tensor:
        content = clips.video if self.modality == "video" else clips.audio
        assert content is not None
        return content


def _vector(features: Tensor) -> Tensor:
    """(B, D) of (B, D), or of windows (B, W, D)."""
    return features.mean(1) if features.ndim == 3 else features


def _video(device: torch.device) -> Extract:
    model = i3d.load(device)
    return lambda video, sample_rate: i3d.logits(model, video.clamp(0, 1))


def _audio(device: torch.device) -> Extract:
    model = aisfx.load(device)
    return lambda audio, sample_rate: aisfx.embed(model, audio.to(device), sample_rate)
