"""`avbench data overlap A B`: clips of one split that are in the other, encoded again, scaled or cut a little later."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from avbench.data.batches import Split
from avbench.data.fingerprint import Fingerprint, distances, fingerprint
from avbench.errors import UsageError

# Shares of differing bits. `python benchmarks/fingerprints.py` on real clips: copies have at most 0.17 (pictures) and 0.28 (sound), other
# clips at least 0.34 and 0.43, of one speaker in one room 0.01 and 0.42.
BOTH = (0.25, 0.35)  # pictures and sound, where both say something: the same room, or the same music, is no copy
ALONE = (0.10, 0.35)  # where the other says nothing in both: two silent clips of one room are called alike, too


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two clips that are one. pictures, sound: shares of differing bits; NaN: neither clip says anything (black, silent)."""

    first: str
    second: str
    pictures: float
    sound: float

    def __str__(self) -> str:
        told = [f"{what} {share:.2f}" for what, share in (("pictures", self.pictures), ("sound", self.sound)) if np.isfinite(share)]
        return f"{self.first}  {self.second}  {', '.join(told)}"


def overlap(a: Split, b: Split) -> Iterator[Pair]:
    """Pairs of a clip of `a` and one of `b`, in order. Raises UsageError for splits of different protocols."""
    if a.protocol != b.protocol:
        raise UsageError(f"clips of {a.name} are {a.protocol}, those of {b.name} {b.protocol}: compare them at one protocol")
    (names, prints), (others, theirs) = prints_of(a), prints_of(b)
    pictures, sound = distances(prints, theirs, a.protocol)
    for first, second in np.argwhere(alike(pictures, sound)):
        yield Pair(first=names[first], second=others[second], pictures=pictures[first, second], sound=sound[first, second])


def prints_of(split: Split) -> tuple[list[str], list[Fingerprint]]:
    """Ids and fingerprints of the clips that can be read."""
    found: list[tuple[str, Fingerprint]] = []
    for clip, arrays in zip(split.clips, split.arrays(range(len(split.clips))), strict=True):
        if not isinstance(arrays, str):
            found.append((clip.id, fingerprint(*arrays, split.protocol)))
    return [name for name, _ in found], [made for _, made in found]


def alike(pictures: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Which distances are those of a copy; NaN: that part says nothing in either."""
    both = (pictures < BOTH[0]) & (sound < BOTH[1])
    return both | (np.isnan(sound) & (pictures < ALONE[0])) | (np.isnan(pictures) & (sound < ALONE[1]))


def summary(pairs: Sequence[Pair], a: Split, b: Split) -> str:
    """`3 of 101 clips of A are among the 404 of B`"""
    touched = len({pair.first for pair in pairs})
    return f"{touched} of {len(a.clips)} clips of {a.name} are among the {len(b.clips)} of {b.name}"
