"""Scenes: what a clip shows throughout, said by one number, the most similar item of a bank; and what is left of the clip then.

A bank holds mean frames (or mels) of training clips: all of them, or the means of as many clusters. Between seeds of one game the same
backgrounds come again, so one token of 13 bits shows a clip of arcade better than networks that make it patch by patch.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.nn.kmeans import kmeans, nearest
from avbench.nn.patches import VideoPatch, video_to_patches

COARSE = 8  # values a side that the first comparison takes together: 8 ms a picture among 6,060; 4 take 83
BLOCK = 64  # items compared at once in full: 13 MB of pictures at 128x128


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Items (N, C, H, W), H and W at least 8: pictures as uint8, mels as float16 (N, 1, 80, F)."""

    items: Tensor

    def __len__(self) -> int:
        return len(self.items)

    @property
    def scale(self) -> float:
        """Stored value -> value: pictures are in [0, 1] outside."""
        return 1 / 255 if self.items.dtype == torch.uint8 else 1.0

    def decode(self, codes: Tensor) -> Tensor:
        """int64 (B,) -> items (B, C, H, W), float32."""
        return self.items[codes].float() * self.scale

    def encode(self, items: Tensor, *, allowed: Tensor | None = None) -> Tensor:
        """int64 (B,): the entries nearest (Euclidean, over all values) to float items (B, C, H, W). Each is compared alone.

        allowed: bool (B, N), the entries among which each item may choose, at least one (default: all).
        """
        values = items.float() / self.scale
        return torch.stack([self._nearest(item, None if allowed is None else allowed[row]) for row, item in enumerate(values)])

    def to(self, device: torch.device | str) -> "Bank":
        """The same on another device."""
        return Bank(items=self.items.to(device))

    @cached_property
    def coarse(self) -> Tensor:
        """Items an eighth the size a side, flat: float32 (N, C*H*W/64)."""
        return torch.cat([_coarse(block.float()) for block in self.items.split(BLOCK)])

    def _nearest(self, item: Tensor, allowed: Tensor | None) -> Tensor:
        """Entries in the order of their coarse distance, compared in full until no other can be nearer.

        Exact: 64 times the squared distance of the coarse items is never above that of the full ones (the mean of squares is at least
        the square of the mean).
        """
        bounds = (self.coarse - _coarse(item[None])).square().sum(1) * COARSE**2
        if allowed is not None:
            bounds = bounds.masked_fill(~allowed, torch.inf)
        bounds, order = bounds.sort(stable=True)
        best, found = torch.inf, order[0]
        for bound, block in zip(bounds.split(BLOCK), order.split(BLOCK), strict=True):
            if not bound[0] * (1 - 1e-5) < best:  # rounding must not end the search early
                break
            distances = (self.items[block].float() - item).square().flatten(1).sum(1).masked_fill(bound.isinf(), torch.inf)
            if distances.min() < best:
                best, found = float(distances.min()), block[distances.argmin()]
        return found


def fit_bank(items: Tensor, entries: int | None = None, seed: int = 0) -> Bank:
    """A bank of the training items (N, C, H, W): all of them, or the means of at most `entries` clusters (k-means of the coarse items).

    Raises AvbenchError where N is below `entries`.
    """
    bank = Bank(items=items)
    if entries is None or entries == len(items):
        return bank
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    cluster = nearest(bank.coarse, kmeans(bank.coarse[order], entries, seed=seed))
    means = torch.stack([items[cluster == entry].float().mean(0) for entry in cluster.unique()])
    return Bank(items=means.round().to(torch.uint8) if items.dtype == torch.uint8 else means.to(items.dtype))


def mean_frames(video: Tensor) -> Tensor:
    """Mean frames: clips (B, T, 3, H, W), uint8, or float in [0, 1] -> float32 (B, 3, H, W) in [0, 1]."""
    return video.float().mean(1) / (255 if video.dtype == torch.uint8 else 1)


def span_frames(video: Tensor, spans: int) -> Tensor:
    """Mean frames of `spans` equal spans of clips (B, T, 3, H, W): float32 (B, spans, 3, H, W) in [0, 1]. One span: the mean frame."""
    if video.shape[1] % spans:
        raise AvbenchError(f"{video.shape[1]} frames are not {spans} equal spans")
    return mean_frames(video.unflatten(1, (spans, -1)).flatten(0, 1)).unflatten(0, (-1, spans))


def over_frames(scenes: Tensor, frames: int) -> Tensor:
    """Scenes (B, spans, 3, H, W), each held for its span: (B, frames, 3, H, W)."""
    return scenes.repeat_interleave(frames // scenes.shape[1], dim=1)


def to_bytes(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] -> uint8, rounded: what a bank keeps."""
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8)


def residual_patches(video: Tensor, scenes: Tensor, patch: VideoPatch) -> Tensor:
    """What scenes leave of clips (B, T, 3, H, W), both uint8: int16 patches (B, L, t*3*h*w) in [-255, 255].

    scenes: (B, 3, H, W), or of equal spans of each clip (B, spans, 3, H, W).
    To `linear_vq.fit` with scale 1/255. Raises AvbenchError where the clip is not whole patches.
    """
    if video.dtype != torch.uint8 or scenes.dtype != torch.uint8:
        raise AvbenchError(f"residual patches are made of uint8 pictures, not {video.dtype} and {scenes.dtype}")
    shown = over_frames(scenes if scenes.ndim == 5 else scenes[:, None], video.shape[1])
    return video_to_patches(video.to(torch.int16) - shown.to(torch.int16), patch)


def _coarse(items: Tensor) -> Tensor:
    """(B, C, H, W) -> the means of 8x8 values, flat."""
    return F.avg_pool2d(items, COARSE).flatten(1)
