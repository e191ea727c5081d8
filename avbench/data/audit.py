"""What is odd about a split's clips: still or black pictures, bars, silence, and clips that are there twice, in training data too.

A finding is no fault: many of VGGSound's clips are a still picture with music. It says what a number averages over, and gives a list to
leave out (`avbench data import-list SPLIT LIST.csv --exclude`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from avbench.data.batches import Split
from avbench.data.convert import Int16, UInt8
from avbench.data.fingerprint import Fingerprint, distances, fingerprint
from avbench.data.overlap import alike, overlap

STILL = 2.0  # levels of 255: the largest mean difference between two frames in a row
BLACK = 12.0  # levels: a row or column is black if it never shows more, on average over its pixels
BAR = 0.06  # of the height or width, on one side
MUTE = 10 ** (-60 / 20) * 32767  # peak: -60 dB of full scale


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`kind`: still, black, bars, mute, duplicate, in-training; `detail`: how much, or of which clip."""

    clip: str
    kind: str
    detail: str


def audit(split: Split, training: Split | None = None) -> Iterator[Finding]:
    """What is odd, clip by clip; duplicates by the file's sha256, then by fingerprint (avbench/data/fingerprint.py).

    training: a split whose clips should not be among these. Raises UsageError where it is of another protocol.
    """
    names: list[str] = []
    pins: list[str] = []
    prints: list[Fingerprint] = []
    for clip, video, audio, pin in _clips(split):
        yield from _of_pictures(clip, video)
        if audio.size and np.abs(audio.astype(np.int32)).max() < MUTE:
            yield Finding(clip=clip, kind="mute", detail="below -60 dB throughout")
        names.append(clip)
        pins.append(pin)
        prints.append(fingerprint(video, audio, split.protocol))
    same = alike(*distances(prints, prints, split.protocol))
    for number, clip in enumerate(names):
        twin = next((first for first in range(number) if pins[first] == pins[number] or same[first, number]), None)
        if twin is not None:
            yield Finding(clip=clip, kind="duplicate", detail=f"of {names[twin]}")
    if training is not None:
        for pair in overlap(split, training):
            yield Finding(clip=pair.first, kind="in-training", detail=f"as {pair.second} of {training.name}")


def _clips(split: Split) -> Iterator[tuple[str, UInt8, Int16, str]]:
    indices = range(len(split.clips))
    for clip, entry, arrays in zip(split.clips, split.entries, split.arrays(indices), strict=True):
        if not isinstance(arrays, str):
            yield clip.id, *arrays, entry.pin


def _of_pictures(clip: str, video: UInt8) -> Iterator[Finding]:
    if not video.size:
        return
    levels = video.astype(np.float32).mean(axis=3)
    if levels.max() < BLACK:
        yield Finding(clip=clip, kind="black", detail=f"never above level {levels.max():.0f}")
        return
    changes = np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2))
    if len(changes) and changes.max() < STILL:
        yield Finding(clip=clip, kind="still", detail=f"frames differ by at most {changes.max():.2f} levels")
    for axis, name in ((1, "above and below"), (2, "left and right")):
        lines = levels.max(axis=0).mean(axis=2 - axis) > BLACK
        first, last = int(lines.argmax()), int(lines[::-1].argmax())
        if first / len(lines) > BAR and last / len(lines) > BAR:
            yield Finding(clip=clip, kind="bars", detail=f"{name}: {first} and {last} of {len(lines)} lines are black")
