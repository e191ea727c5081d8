"""What a decoder's process and its main process say to each other, over a socket of their own.

A frame is a length (u32, big-endian), a JSON header of that length, and as many raw bytes as the header says. Nothing is unpickled, and
sizes are bounded before anything is read.
"""

import json
import math
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avbench.types import ClipBatch

MAX_HEADER = 2**16
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8,
          torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)}  # fmt: skip
_LENGTH = struct.Struct(">I")


def send(connection: socket.socket, header: Mapping[str, Any], *bodies: bytes | memoryview) -> None:
    """A header of JSON values, and the bytes that it speaks of."""
    text = json.dumps(header).encode()
    connection.sendall(_LENGTH.pack(len(text)) + text)
    for body in bodies:
        connection.sendall(body)


def receive_header(connection: socket.socket, deadline: float | None = None) -> dict[str, Any]:
    """Raises EOFError where the other end has gone, TimeoutError after `deadline`, ValueError for anything but a small JSON object."""
    (length,) = _LENGTH.unpack(receive(connection, _LENGTH.size, deadline))
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(receive(connection, length, deadline))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header


def receive(connection: socket.socket, size: int, deadline: float | None = None) -> bytes:
    """`size` bytes; raises as `receive_header`."""
    data = bytearray(size)
    _receive_into(connection, memoryview(data), deadline)
    return bytes(data)


def facts_of(clips: ClipBatch, modalities: Sequence[str]) -> tuple[dict[str, Any], list[memoryview]]:
    """What a header says of clips, and their bytes."""
    found = {name: part for name, part in (("video", clips.video), ("audio", clips.audio)) if part is not None and name in modalities}
    tensors = {name: part.detach().cpu().contiguous() for name, part in found.items()}
    parts = {name: {"dtype": str(part.dtype).removeprefix("torch."), "shape": list(part.shape)} for name, part in tensors.items()}
    bodies = [part.reshape(-1).view(torch.uint8).numpy().data for part in tensors.values()]
    return {"parts": parts, "fps": float(clips.fps), "sample_rate": int(clips.sample_rate)}, bodies


def receive_clips(
    connection: socket.socket, header: Mapping[str, Any], most: Mapping[str, int], deadline: float | None = None
) -> ClipBatch:
    """The clips that `header` (`facts_of`) announces. most: modality -> how many numbers are taken; another modality is none.

    Raises ValueError, KeyError or TypeError for what is no clip, and as `receive_header`.
    """
    parts: dict[str, Tensor] = {}
    for name, facts in header["parts"].items():
        dtype, shape = DTYPES[facts["dtype"]], [int(size) for size in facts["shape"]]
        count = math.prod(shape)
        if name not in most or not 1 <= len(shape) <= 8 or min(shape) < 1 or count > most[name]:
            raise ValueError(f"{name} {facts['dtype']} of shape {shape}")
        data = bytearray(count * dtype.itemsize)
        _receive_into(connection, memoryview(data), deadline)
        parts[name] = torch.frombuffer(data, dtype=dtype).reshape(shape)
    return ClipBatch(video=parts.get("video"), audio=parts.get("audio"), fps=float(header["fps"]), sample_rate=int(header["sample_rate"]))


def _receive_into(connection: socket.socket, view: memoryview, deadline: float | None) -> None:
    while view:
        if deadline is not None:
            left = deadline - time.perf_counter()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
