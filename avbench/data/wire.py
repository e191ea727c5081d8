"""Messages between avbench and its worker processes: a JSON header and raw bytes, over a pipe. No pickles: a worker reads untrusted files.

This module is also the worker's main loop, so it imports nothing heavy (no torch: a worker starts in 0.3 s instead of 2 s).
"""

import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

Header = dict[str, Any]
Message = tuple[Header, list[bytes]]
Handler = Callable[[Header], Iterator[Message]]
MAX_HEADER = 2**20
MAX_PAYLOAD = 2**28  # a prepared clip has 1 MB


def send(pipe: BinaryIO, header: Header, payloads: list[bytes] | None = None) -> None:
    """Write one message. Raises OSError where the other side is gone."""
    parts = payloads or []
    text = json.dumps({**header, "sizes": [len(part) for part in parts]}).encode()
    pipe.write(struct.pack("<I", len(text)) + text)
    for part in parts:
        pipe.write(part)
    pipe.flush()


def receive(pipe: BinaryIO) -> Message | None:
    """Read one message; None where the other side has closed the pipe or sends what is no message."""
    length = pipe.read(4)
    if len(length) < 4 or (size := struct.unpack("<I", length)[0]) > MAX_HEADER:
        return None
    text = pipe.read(size)
    if len(text) < size:
        return None
    header = json.loads(text)
    sizes = header.pop("sizes")
    if sum(sizes) > MAX_PAYLOAD:
        return None
    payloads = [pipe.read(size) for size in sizes]
    return (header, payloads) if [len(part) for part in payloads] == sizes else None


def serve(handle: Handler) -> None:
    """A worker's main loop: requests on stdin, `handle`'s messages on what was stdout, `{"done": true}` after each request.

    Whatever a library prints goes to stderr. An exception of `handle` becomes a message `{"failure": reason}`. Ends with stdin.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (request := receive(sys.stdin.buffer)) is not None:
        try:
            for header, payloads in handle(request[0]):
                send(out, header, payloads)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                return
            send(out, {"failure": reason(error)})
        except Exception as error:
            send(out, {"failure": reason(error)})
        send(out, {"done": True})


def reason(error: BaseException) -> str:
    """One line of at most 300 characters that says what went wrong."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
