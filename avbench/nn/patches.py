"""Clips and mels cut into equal blocks, and put together again. Blocks are flattened; their order is time, then rows, then columns."""

from torch import Tensor

from avbench.errors import AvbenchError

VideoPatch = tuple[int, int, int]  # frames, height, width
MelPatch = tuple[int, int]  # bands, frames


def video_to_patches(video: Tensor, patch: VideoPatch) -> Tensor:
    """(B, T, 3, H, W) -> (B, L, t*3*h*w). Raises AvbenchError where the clip is not whole patches."""
    b, frames, c, height, width = video.shape
    t, h, w = patch
    if frames % t or height % h or width % w:
        raise AvbenchError(f"clips of {frames}x{height}x{width} are not whole patches of {t}x{h}x{w}")
    blocks = video.reshape(b, frames // t, t, c, height // h, h, width // w, w)
    return blocks.permute(0, 1, 4, 6, 2, 3, 5, 7).reshape(b, -1, t * c * h * w)


def patches_to_video(patches: Tensor, patch: VideoPatch, shape: tuple[int, int, int]) -> Tensor:
    """The inverse of `video_to_patches`; shape: frames, height and width of the clip."""
    (t, h, w), (frames, height, width) = patch, shape
    blocks = patches.reshape(-1, frames // t, height // h, width // w, t, 3, h, w)
    return blocks.permute(0, 1, 4, 5, 2, 6, 3, 7).reshape(-1, frames, 3, height, width)


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
