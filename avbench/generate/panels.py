"""One mp4 that shows a generated clip: condition | generated | real, and plays it.

A sound is shown as its mel spectrogram with a cursor that moves with the picture. Heard are: for a2v the condition; for v2a and av the
generated sound in the left ear, the real one in the right. For av the condition is the class, written on a card.
"""

import textwrap
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.data.media import write_mp4
from avbench.generate.tasks import CONDITION, TARGETS, GenerationTask
from avbench.run.samples import loudest, spectrogram
from avbench.types import ClipBatch

SIDE = 256  # pixels of a panel
STRIP = 64  # height of a spectrogram below a picture
CURSOR = 2
LINE = 22  # characters of a class's name on a line of the card


def panels(task: GenerationTask) -> Callable[[Path, ClipBatch, ClipBatch], None]:
    """`write_panels` of a task, as `run.samples.write_sample` calls it."""
    return lambda path, reference, shown: write_panels(path, task, reference, shown)


def write_panels(path: Path, task: GenerationTask, reference: ClipBatch, shown: ClipBatch) -> None:
    """`shown`: what was generated, beside its condition; both batches of one clip with video and audio."""
    condition = CONDITION[task]
    top = loudest(reference)
    parts = [_panel(reference, (condition,), top) if condition else _card(reference)]
    parts += [_panel(clip, TARGETS[task], top) for clip in (shown, reference)]
    assert reference.audio is not None
    assert shown.audio is not None
    ears = [reference.audio] if task == "a2v" else [shown.audio, reference.audio]
    sound = torch.cat([audio[0, :1].cpu() for audio in ears])
    write_mp4(path, torch.cat(parts, dim=3), reference.fps, sound, reference.sample_rate)


def _panel(clip: ClipBatch, modalities: tuple[str, ...], top: float) -> Tensor:
    """(T, 3, H, SIDE): the picture, the spectrogram, or one above the other."""
    assert clip.video is not None
    parts = []
    if "video" in modalities:
        parts.append(F.interpolate(clip.video[0].float().cpu(), size=(SIDE, SIDE), mode="nearest"))
    if "audio" in modalities:
        parts.append(_spectrogram(clip, STRIP if parts else SIDE, clip.video.shape[1], top))
    return torch.cat(parts, dim=2)


def _spectrogram(clip: ClipBatch, height: int, frames: int, top: float) -> Tensor:
    """(frames, 3, height, SIDE) with the cursor at each frame's time."""
    assert clip.audio is not None
    pixels = torch.from_numpy(spectrogram(clip.audio[0, :1].float().cpu(), clip.sample_rate, top)).permute(2, 0, 1) / 255
    picture = F.interpolate(pixels[None], size=(height, SIDE), mode="bilinear", align_corners=False)
    movie = picture.repeat(frames, 1, 1, 1)
    for frame in range(frames):
        left = frame * SIDE // frames
        movie[frame, :, :, left : left + CURSOR] = 1.0
    return movie


def _card(reference: ClipBatch) -> Tensor:
    """(T, 3, SIDE + STRIP, SIDE): the class in white on black."""
    import numpy as np
    from PIL import Image, ImageDraw

    assert reference.video is not None
    image = Image.new("RGB", (SIDE, SIDE + STRIP))
    draw, text = ImageDraw.Draw(image), textwrap.fill(str(reference.labels[0])[:200], LINE)
    left, above, right, below = draw.textbbox((0, 0), text, font_size=20)
    draw.text(((SIDE - right + left) / 2, (SIDE + STRIP - below + above) / 2), text, fill="white", font_size=20, align="center")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    return pixels.repeat(reference.video.shape[1], 1, 1, 1)
