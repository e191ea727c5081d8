"""What a split's entry point returns: the list of clips and a way to make them. `avbench.data.splits` does everything else."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Interface
from typing import runtime_checkable

from avbench.types import ClipRef, Protocol


@dataclass(frozen=True, kw_only=True)
class Made:
    """One clip, made or failed. `index`: its place in `Source.clips`.

    pin: sha256 (hex) of what it was made from (a file's bytes, an emulator's raw output); "" where that could not be read.
    video: uint8 (T, H, W, 3) bytes, audio: int16 (N,) bytes, of more than one channel (C, N), both as the protocol says; empty where
    it has none, or where `failure` says why. shape: of the video, where the protocol leaves its size to the clip.
    """

    index: int
    pin: str
    video: bytes = b""
    audio: bytes = b""
    failure: str | None = None
    shape: tuple[int, ...] = ()


@runtime_checkable
class Source(Interface):
    """A named list of clips. Written by whoever adds a split: a function without arguments that returns one, as an entry point."""

    @property
    def name(self) -> str:
        """The split's name."""

    @property
    def clips(self) -> tuple[ClipRef, ...]:
        """The clips, in order; ids are unique."""

    @property
    def protocol(self) -> Protocol:
        """What a clip is."""

    @property
    def num_official(self) -> int:
        """Clips that the official list names, whether they were found or not."""

    @property
    def note(self) -> str:
        """What a reader of the numbers must know, e.g. how many clips are missing; or ""."""

    @property
    def train_split(self) -> str | None:
        """The split that something would be fitted on for this one."""

    @property
    def root(self) -> Path:
        """Folder of the prepared clips."""

    @property
    def decoder(self) -> str:
        """What turns files into pixels and samples here (avbench.data.decode.identity), or "" where nothing is decoded.

        Part of the split's checksum: the same files decoded otherwise are other clips.
        """

    def at(self, protocol: Protocol) -> "Source":
        """The same clips at another protocol, under a name and a root of their own (`avbench.protocol.query`).

        Raises UsageError where they cannot be made so.
        """

    def file(self, index: int) -> Path | None:
        """The file that clip `index` is made of; None where it is made of none."""

    def expected(self, index: int) -> str:
        """sha256 (hex) of what clip `index` must have been made from (`Made.pin`); "" where anything will do. Another is a failed clip."""

    def stamp(self, index: int) -> str:
        """Changes whenever clip `index` has to be prepared anew (its file has changed, another version of the code)."""

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        """Make the clips at `indices`, each once, in any order, on `jobs` processes. A clip's failure is a `Made`, not an error."""


def checksum_of(protocol: Protocol, decoder: str, clips: Sequence[ClipRef], pins: Sequence[str]) -> str:
    """sha256 (hex) of what a split's pixels and samples follow from: a result names it, and a board groups by it."""
    digest = hashlib.sha256(json.dumps(protocol.facts(), sort_keys=True).encode())
    digest.update(decoder.encode())
    for clip, pin in zip(clips, pins, strict=True):
        digest.update(json.dumps([clip.id, clip.label, pin]).encode())
    return digest.hexdigest()
