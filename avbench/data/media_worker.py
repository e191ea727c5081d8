"""Decodes untrusted video files in a process of its own: `python -m avbench.data.media_worker`, started by avbench.data.files."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2

from avbench.data import beside, frames, wire
from avbench.data.decode import MediaError, open_file, read_protocol
from avbench.protocol import Protocol

MAX_MEMORY = 4 * 2**30  # bytes of address space: two 35-megapixel pictures in RGB are 0.2 GB


def decode(request: wire.Header) -> Iterator[wire.Message]:
    """One file. request: path, protocol; of an output what `beside.read` needs too.

    Replies: header pin (sha256 of the file); then payloads video, audio, or header failure.

    The pin goes first: it is known then whatever the file does to the decoder.
    """
    path = Path(request["path"])
    try:
        if path.is_dir():
            yield {"pin": frames.pin(path)}, []
        else:
            with open_file(path) as file:
                yield {"pin": hashlib.file_digest(file, "sha256").hexdigest()}, []
        protocol = Protocol(**request["protocol"])
        video, audio = beside.read(request, protocol) if "like" in request else read_protocol(path, protocol)
        yield {"shape": list(video.shape)}, [video.tobytes(), audio.tobytes()]
    except MediaError as error:
        yield {"failure": str(error)}, []
    except av.error.InvalidDataError:
        yield {"failure": "is not a video that can be decoded (invalid data)"}, []
    except FileNotFoundError:
        yield {"failure": "is a link to nowhere" if path.is_symlink() else "is gone"}, []
    except MemoryError:
        yield {"failure": f"needs more than {MAX_MEMORY // 2**30} GiB to decode"}, []
    except Exception as error:  # PyAV passes on whatever FFmpeg says; a file must not end the others
        yield {"failure": wire.reason(error).replace(f": '{path}'", "")}, []


def limit_memory() -> None:
    """An allocation beyond MAX_MEMORY fails instead of filling the machine (Linux; elsewhere the sizes' limits have to do)."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


if __name__ == "__main__":
    limit_memory()
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)
    wire.serve(decode)
