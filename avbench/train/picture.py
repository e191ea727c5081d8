"""Held-out clips as a PNG: a row of frames and mel of the reference, and under it that of the reconstruction."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.files import atomic

FRAMES = 6  # of each clip's 16, evenly spread
GAP = 4  # white pixels between clips


def sheet(references: list[Tensor], recons: list[Tensor]) -> Tensor:
    """Rows (3, H, W) in [0, 1], one of each a clip -> uint8 (3, H', W): each reference above its reconstruction."""
    pairs = [F.pad(torch.cat(pair, dim=1), (0, 0, 0, GAP), value=1.0) for pair in zip(references, recons, strict=True)]
    return (torch.cat(pairs, dim=1).clamp(0, 1) * 255).round().to(torch.uint8)


def frame_row(video: Tensor) -> Tensor:
    """(T, 3, H, W) -> (3, H, W'): some frames side by side."""
    picks = torch.linspace(0, len(video) - 1, min(FRAMES, len(video))).round().long()
    return torch.cat(list(video[picks]), dim=2).float()


def spectrogram(mel: Tensor, height: int) -> Tensor:
    """(bands, F) in [0, 1] -> (3, height, F), low bands at the bottom."""
    from matplotlib import colormaps

    coloured = torch.from_numpy(colormaps["magma"](mel.flip(0).numpy())[..., :3]).permute(2, 0, 1).float()
    return F.interpolate(coloured[None], size=(height, mel.shape[1]), mode="nearest")[0]


def write_picture(path: Path, pixels: Tensor) -> None:
    """uint8 (3, H, W) as PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(file, format="png")
