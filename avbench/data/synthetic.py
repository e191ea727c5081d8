"""Squares that move and tones that swell, drawn by NumPy alone: clips for trying a machine, in milliseconds and without an emulator.

They mean nothing as a benchmark.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from avbench.data.source import Made
from avbench.errors import UsageError
from avbench.paths import cache_root
from avbench.protocol import Protocol, query
from avbench.types import ClipRef

VERSION = "1"
CLASSES = ("low", "middle", "high")  # of the tone
PROTOCOL = Protocol()


def synthetic_train() -> "Synthetic":
    """Entry point of synthetic-train: 480 clips."""
    return Synthetic(name="synthetic-train", count=480)


def synthetic_val() -> "Synthetic":
    """Entry point of synthetic-val: 24 clips."""
    return Synthetic(name="synthetic-val", count=24)


@dataclass(frozen=True)
class Synthetic:
    """A `Source` of `count` clips; number k is of class k modulo 3."""

    name: str
    count: int
    protocol: Protocol = PROTOCOL
    note: str = "drawn by a program; for trying a machine, not for comparing tokenizers"
    train_split: str | None = "synthetic-train"
    decoder: str = ""  # drawn

    @cached_property
    def clips(self) -> tuple[ClipRef, ...]:
        """One a number."""
        return tuple(ClipRef(id=f"{self.name}/{number:04d}", label=CLASSES[number % len(CLASSES)]) for number in range(self.count))

    @property
    def num_official(self) -> int:
        """All of them."""
        return self.count

    @property
    def root(self) -> Path:
        """Of this split and protocol alone."""
        return cache_root() / "prepared" / re.sub(r"[^\w.-]+", "-", self.name)

    def at(self, protocol: Protocol) -> "Synthetic":
        """See `Source.at`."""
        if len(protocol.modalities) < 2 or protocol.channels != 1 or not protocol.resolution:
            raise UsageError(f"{self.name} has pictures of a size that is asked for, and mono sound")
        return self if protocol == self.protocol else replace(self, name=f"{self.name}?{query(protocol)}", protocol=protocol)

    def file(self, index: int) -> Path | None:
        """None: drawn."""
        return None

    def expected(self, index: int) -> str:
        """Anything."""
        return ""

    def stamp(self, index: int) -> str:
        """The version of this file."""
        return VERSION

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        """In this process."""
        for index in indices:
            video, audio = draw(f"{self.name.partition('?')[0]} {VERSION}", index, self.protocol)
            pin = hashlib.sha256(video.tobytes() + audio.tobytes()).hexdigest()
            yield Made(index=index, pin=pin, video=video.tobytes(), audio=audio.tobytes())


def draw(seed: str, index: int, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (T, R, R, 3) and int16 (N,): a square that crosses a shaded ground, and a tone of the clip's class."""
    random = np.random.Generator(np.random.PCG64([*hashlib.sha256(seed.encode()).digest()[:8], index]))
    size = protocol.resolution
    ground = random.integers(0, 128, 3) + np.linspace(0, 96, size)[:, None, None] * random.random(3)
    video = np.repeat(np.broadcast_to(ground, (size, size, 3)).astype(np.uint8)[None], protocol.num_frames, axis=0).copy()
    side, colour = int(random.integers(size // 8, size // 3)), random.integers(128, 256, 3)
    at, velocity = random.integers(0, size - side, 2).astype(float), random.uniform(-size / 8, size / 8, 2)
    for frame in video:
        y, x = (np.abs((at + size) % (2 * size) - size) * (size - side) / size).astype(int)
        frame[y : y + side, x : x + side] = colour
        at += velocity
    time = np.arange(protocol.num_samples) / protocol.sample_rate
    pitch = 220.0 * 3.0 ** (index % len(CLASSES)) * random.uniform(0.9, 1.1)
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(0.5, 3) * time)
    sound = 0.3 * swell * np.sin(2 * np.pi * pitch * time) + 0.003 * random.standard_normal(len(time))
    return video, (32767 * sound.clip(-1, 1)).astype("<i2")
