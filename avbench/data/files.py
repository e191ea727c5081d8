"""Clips from video files: a `Source` over a list of (clip, file). What the vggsound, tavgbench and folder splits share."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from avbench.data import workers
from avbench.data.source import Made
from avbench.errors import AvbenchError
from avbench.types import ClipRef, Protocol

VERSION = "1"  # of the decoding: part of every stamp
PROTOCOL = Protocol()
WORKER = "avbench.data.media_worker"
EXTENSIONS = frozenset([".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".ogv", ".wmv", ".3gp"])


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

    def stamp(self, index: int) -> str:
        """Size and time of change of the file, and the version of the decoding."""
        try:
            facts = self.paths[index].stat()
        except OSError:
            return f"{VERSION}:gone"
        return f"{VERSION}:{facts.st_size}:{facts.st_mtime_ns}"

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        """Decodes in worker processes: a file that crashes the decoder is a failed clip."""
        requests = [{"path": os.fspath(self.paths[index]), "protocol": asdict(self.protocol)} for index in indices]
        for reply in workers.run(WORKER, requests, jobs):
            index = indices[reply.request]
            pin = reply.header.get("pin") or _checksum(self.paths[index])
            if reply.failure is not None:
                yield Made(index=index, pin=pin, failure=reply.failure)
            else:
                yield Made(index=index, pin=pin, video=reply.payloads[0], audio=reply.payloads[1])


def unreadable(error: OSError) -> None:
    """For os.walk: a folder that cannot be read is an error, not an empty folder."""
    raise AvbenchError(f"cannot read {error.filename}: {error.strerror}; make it readable or move it away") from error


def _checksum(path: Path) -> str:
    """sha256 of a file whose worker crashed; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
