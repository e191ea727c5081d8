"""Held-out clips as a PNG: frames and mel of the reference, and under them those of the reconstruction."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.tokenizers.avtok.config import StreamName

FRAMES = 6  # of each clip's 16, evenly spread
GAP = 4  # white pixels between clips


def write_picture(path: Path, reference: dict[StreamName, Tensor], recon: dict[StreamName, Tensor]) -> None:
    """Both: "video" (B, T, 3, H, W) and "audio" (B, 1, 1, bands, F), in [0, 1]. One pair of rows a clip."""
    from PIL import Image

    rows = []
    for clip in range(len(reference["video"])):
        pair = [_row(side["video"][clip], side["audio"][clip, 0, 0]) for side in (reference, recon)]
        rows.append(F.pad(torch.cat(pair, dim=1), (0, 0, 0, GAP), value=1.0))
    pixels = (torch.cat(rows, dim=1).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    Image.fromarray(pixels.numpy()).save(temporary, format="png")
    temporary.replace(path)


def _row(video: Tensor, mel: Tensor) -> Tensor:
    """(T, 3, H, W) and (bands, F) -> (3, H, W'): some frames side by side, then the mel, low bands at the bottom."""
    from matplotlib import colormaps

    picks = torch.linspace(0, len(video) - 1, min(FRAMES, len(video))).round().long()
    frames = torch.cat(list(video[picks]), dim=2)
    coloured = torch.from_numpy(colormaps["magma"](mel.flip(0).numpy())[..., :3]).permute(2, 0, 1).float()
    stretched = F.interpolate(coloured[None], size=(frames.shape[1], mel.shape[1]), mode="nearest")[0]
    return torch.cat([frames.float(), stretched], dim=2)
