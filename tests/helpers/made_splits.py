"""A split of made-up clips, and folders of small videos: what tests of preparing and reading are about."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.data import splits
from avbench.data.media import write_mp4
from avbench.data.source import Made
from avbench.types import ClipRef, Protocol

SMALL = Protocol(num_frames=2, duration_s=1.0, resolution=8, sample_rate=100)


class Numbers:
    """A split of made-up clips: clip k is filled with k. `fails` lists the ones that fail."""

    name, num_official, note, train_split, protocol, decoder = "numbers", 10, "", None, SMALL, ""

    def __init__(self, root: Path, count: int = 10, fails: Sequence[int] = ()) -> None:
        self.root = root
        self.fails = fails
        self.clips = tuple(ClipRef(id=f"n/{k}", label=str(k % 2)) for k in range(count))
        self.made: list[int] = []
        self.wanted: dict[int, str] = {}

    def at(self, protocol: Protocol) -> "Numbers":
        return self

    def file(self, index: int) -> None:
        return None

    def expected(self, index: int) -> str:
        return self.wanted.get(index, "")

    def stamp(self, index: int) -> str:
        return "1"

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        for k in indices:
            self.made.append(k)
            if k in self.fails:
                yield Made(index=k, pin=f"pin{k}", failure="is broken")
            else:
                audio = np.full(100, 100 * k, dtype="<i2").tobytes()
                yield Made(index=k, pin=f"pin{k}", video=bytes([k]) * (2 * 8 * 8 * 3), audio=audio)


def use(monkeypatch: pytest.MonkeyPatch, source: Numbers) -> Numbers:
    monkeypatch.setattr(splits, "find", lambda name: source)
    return source


def load(limit: int | None = None) -> splits.Split:
    return splits.load("numbers", limit=limit, progress=False)


def video_files(folder: Path, names: Sequence[str]) -> Path:
    """Up to two different one-second videos under those names."""
    generator = torch.Generator().manual_seed(0)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if number < 2:
            sound = 0.2 * torch.rand(1, 24_000, generator=generator)
            write_mp4(folder / name, torch.rand(10, 3, 32, 32, generator=generator), 10.0, sound, 24_000)
        else:
            shutil.copy(folder / names[0], folder / name)
    return folder
