"""Clips from video files: a `Source` over a list of (clip, file). What the vggsound, tavgbench and folder splits share."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from avbench.data import wire, workers
from avbench.data.source import Made
from avbench.errors import AvbenchError
from avbench.protocol import Protocol, query
from avbench.types import ClipRef

PROTOCOL = Protocol()
WORKER = "avbench.data.media_worker"
MAX_NAMED = 3  # links, missing clips, bad rows: how many are named
EXTENSIONS = frozenset([".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".ogv", ".wmv", ".3gp"])
SOUND_EXTENSIONS = frozenset([".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".aif", ".w64"])


@dataclass(frozen=True, kw_only=True)
class Files:
    """A split of video files: clip k is the middle of `paths[k]`."""

    name: str
    clips: tuple[ClipRef, ...]
    paths: tuple[Path, ...] = field(repr=False)
    num_official: int
    note: str
    train_split: str | None
    root: Path
    protocol: Protocol = PROTOCOL

    def at(self, protocol: Protocol) -> "Files":
        """See `Source.at`."""
        if protocol == self.protocol:
            return self
        digest = hashlib.sha256(json.dumps(protocol.facts(), sort_keys=True).encode()).hexdigest()[:12]
        return replace(
            self, name=f"{self.name}?{query(protocol)}", protocol=protocol, root=self.root.with_name(f"{self.root.name}-{digest}")
        )

    @cached_property
    def decoder(self) -> str:
        """What decodes the files here."""
        from avbench.data.decode import identity  # loads FFmpeg

        return identity()

    @cached_property
    def _decoder_digest(self) -> str:
        return hashlib.sha256(self.decoder.encode()).hexdigest()[:12]

    def file(self, index: int) -> Path | None:
        """Its path."""
        return self.paths[index]

    def expected(self, index: int) -> str:
        """Anything: no list says what the files hold."""
        return ""

    def stamp(self, index: int) -> str:
        """The file's size and times of change, and what decodes it. The time of the inode's change cannot be set back by copying."""
        try:
            facts = self.paths[index].stat()
        except OSError:
            return f"{self._decoder_digest}:gone"
        return f"{self._decoder_digest}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}"

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        """Decodes in worker processes: a file that crashes the decoder is a failed clip."""
        requests = [{"path": os.fspath(self.paths[index]), "protocol": asdict(self.protocol)} for index in indices]
        return decoded(requests, indices, jobs)


def decoded(requests: Sequence[wire.Header], indices: Sequence[int], jobs: int) -> Iterator[Made]:
    """What workers make of requests, one for each clip of `indices`. A file that crashes its decoder is a failed clip."""
    pins: dict[int, str] = {}
    for reply in workers.run(WORKER, requests, jobs):
        index = indices[reply.request]
        if "pin" in reply.header:
            pins[index] = reply.header["pin"]
        elif reply.failure is not None:
            yield Made(index=index, pin=pins.get(index, ""), failure=reply.failure)
        else:
            video, audio = reply.payloads
            yield Made(index=index, pin=pins[index], video=video, audio=audio, shape=tuple(reply.header["shape"]))


def extensions(protocol: Protocol) -> frozenset[str]:
    """Of the files that can be clips: videos, and where no pictures are asked for, sound files."""
    return EXTENSIONS if protocol.num_frames else EXTENSIONS | SOUND_EXTENSIONS


def find_videos(folder: Path, suffixes: frozenset[str] = EXTENSIONS) -> tuple[list[Path], str]:
    """Everything below `folder` that ends in one of `suffixes`, by path, and a note about links that were not followed, or "".

    Each folder is read once: where it lies first, then where links lead to it. Hidden files and folders are not looked at. What is
    no regular file, or a link to nowhere, is found too: it becomes a clip that failed.
    """
    seen: set[tuple[int, int]] = set()
    found: list[Path] = []
    again: list[str] = []
    waiting = [folder]  # and then links to folders, in the order in which they were found
    while waiting:
        start = waiting.pop(0)
        if start != folder and folder.resolve().is_relative_to(start.resolve()):
            again.append(start.relative_to(folder).as_posix())
            continue
        for place, folders, files in os.walk(start, onerror=unreadable):
            facts = os.stat(place)
            if (facts.st_dev, facts.st_ino) in seen:
                again.append(Path(place).relative_to(folder).as_posix())
                folders[:] = []
                continue
            seen.add((facts.st_dev, facts.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting += [Path(place, name) for name in folders if os.path.islink(os.path.join(place, name))]
            found += [Path(place, name) for name in files if Path(name).suffix.lower() in suffixes and not name.startswith(".")]
    found.sort(key=os.fspath)
    if not again:
        return found, ""
    named = ", ".join(again[:MAX_NAMED]) + (", ..." if len(again) > MAX_NAMED else "")
    return found, f"links to folders that are read already, not followed: {named}"


def unreadable(error: OSError) -> None:
    """For os.walk: a folder that cannot be read is an error, not an empty folder."""
    raise AvbenchError(f"cannot read {error.filename}: {error.strerror}; make it readable or move it away") from error
