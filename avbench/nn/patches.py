"""Clips and mels cut into equal blocks, and put together again. Blocks are flattened; their order is time, then rows, then columns.

A block's values are in the order (t, c, h, w), or with `channels_last` (t, h, w, c).
"""

import torch
from torch import Tensor

from avbench.errors import AvbenchError

VideoPatch = tuple[int, int, int]  # frames, height, width
MelPatch = tuple[int, int]  # bands, frames


def unit_range(x: Tensor) -> Tensor:
    """float32 in [0, 1] of uint8, or of floats in [0, 1]."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


def video_to_patches(video: Tensor, patch: VideoPatch, *, channels_last: bool = False) -> Tensor:
    """(B, T, C, H, W) of any dtype (uint8 is quickest) -> (B, L, t*C*h*w). Raises AvbenchError where the clip is not whole patches."""
    b, frames, c, height, width = video.shape
    t, h, w = patch
    if frames % t or height % h or width % w:
        raise AvbenchError(f"clips of {frames}x{height}x{width} are not whole patches of {t}x{h}x{w}")
    blocks = video.reshape(b, frames // t, t, c, height // h, h, width // w, w)
    inside = (2, 5, 7, 3) if channels_last else (2, 3, 5, 7)
    return blocks.permute(0, 1, 4, 6, *inside).reshape(b, -1, t * c * h * w)


def patches_to_video(patches: Tensor, patch: VideoPatch, shape: tuple[int, int, int], *, channels_last: bool = False) -> Tensor:
    """The inverse of `video_to_patches`; shape: frames, height and width of the clip."""
    (t, h, w), (frames, height, width) = patch, shape
    c = patches.shape[-1] // (t * h * w)
    grid = (frames // t, height // h, width // w)
    if channels_last:
        blocks = patches.reshape(-1, *grid, t, h, w, c).permute(0, 1, 4, 7, 2, 5, 3, 6)
    else:
        blocks = patches.reshape(-1, *grid, t, c, h, w).permute(0, 1, 4, 5, 2, 6, 3, 7)
    return blocks.reshape(-1, frames, c, height, width)


def mel_to_patches(mel: Tensor, patch: MelPatch) -> Tensor:
    """(B, bands, F) -> (B, L, bands*frames of a patch). Raises AvbenchError where the mel is not whole patches."""
    b, bands, frames = mel.shape
    h, w = patch
    if bands % h or frames % w:
        raise AvbenchError(f"a mel of {bands}x{frames} is not whole patches of {h}x{w}")
    return mel.reshape(b, bands // h, h, frames // w, w).permute(0, 3, 1, 2, 4).reshape(b, -1, h * w)


def patches_to_mel(patches: Tensor, patch: MelPatch, bands: int) -> Tensor:
    """The inverse of `mel_to_patches` for a mel of so many bands."""
    h, w = patch
    blocks = patches.reshape(patches.shape[0], -1, bands // h, h, w)
    return blocks.permute(0, 2, 3, 1, 4).reshape(patches.shape[0], bands, -1)
