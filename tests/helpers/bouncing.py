"""Clips in which sound comes from motion: a ball that falls, hits the ground and jumps up at once, with a click at every hit."""

import numpy as np
import torch
from torch import Tensor


def bouncing(seconds: float = 4.0, fps: float = 25.0, rate: int = 24_000, *, late_s: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(1, T, 3, 48, 48) and (1, 1, N). Hits at uneven times; the click of each is `late_s` seconds late (negative: early)."""
    rng = np.random.default_rng(seed)
    hits = np.cumsum(rng.uniform(0.35, 0.75, size=40)) + 0.1
    frames = np.full((round(seconds * fps), 48, 48), 0.2, dtype=np.float32)
    y, x = np.mgrid[:48, :48]
    for number, frame in enumerate(frames):
        since = number / fps - hits[hits <= number / fps][-1:]  # since the last hit
        height = 4 + (28 * np.exp(-since[0] / 0.06) if len(since) else 0.0)  # flung up at the hit, sinking after
        frame[np.square(y - height) + np.square(x - 24) < 30] = 0.9
    t = np.arange(round(seconds * rate)) / rate
    sound = np.zeros_like(t)
    for hit in hits + late_s:
        sound += (t >= hit) * np.exp(-np.maximum(t - hit, 0) * 60) * np.sin(2 * np.pi * 900 * t) * 0.5
    video = torch.from_numpy(frames)[None, :, None].expand(-1, -1, 3, -1, -1)
    return video, torch.from_numpy(sound.clip(-1, 1).astype(np.float32))[None, None]
