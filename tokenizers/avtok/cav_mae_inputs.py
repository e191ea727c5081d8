"""What CAV-MAE Sync looks at and listens to, made as its authors make it, for whole batches on any device.

B clips, N samples, F filter-bank frames, T pictures of a clip.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.nn.filter_bank import SAMPLE_RATE, filter_bank

# Mean and deviation of a filter bank in the authors' retrieval code.
LOG_MEAN, LOG_STD = -5.081, 4.4849
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def sound_picture(audio_BN: Tensor, bands: int, frames: int) -> Tensor:
    """(B, 1, bands, frames), normalised, of 16 kHz samples. Frames beyond the sound's end are log 0 = 0 before normalisation, as the
    authors pad. Raises ValueError for more sound than `frames`."""
    found = filter_bank(audio_BN, bands)
    if found.shape[1] > frames:
        raise ValueError(f"{audio_BN.shape[-1]} samples at {SAMPLE_RATE} Hz are {found.shape[1]} frames; the teacher takes {frames}")
    padded = F.pad(found, (0, 0, 0, frames - found.shape[1]))
    return ((padded - LOG_MEAN) / LOG_STD).transpose(1, 2)[:, None]


def pictures(frames_N3HW: Tensor, resolution: int) -> Tensor:
    """ImageNet-normalised (N, 3, resolution, resolution) of frames in [0, 1]; bicubic with PIL's kernel, as the authors resize."""
    x = frames_N3HW
    if x.shape[-2:] != (resolution, resolution):
        x = F.interpolate(x, (resolution, resolution), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (_channels(values, x.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


@lru_cache(maxsize=8)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(-1, 1, 1)
