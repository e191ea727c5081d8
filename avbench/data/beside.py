"""An output beside the reference that it stands for: the same stretch of time of both, or the reason why there is none. No torch.

The clip begins as many seconds after the output's beginning as the reference's clip does after its own.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from avbench.data import frames
from avbench.data.convert import Int16, UInt8
from avbench.data.damage import MediaError
from avbench.data.decode import measure, read_protocol
from avbench.protocol import Protocol

LENGTH_S = 0.1  # by which an output may be longer or shorter than its reference: codecs pad by up to two of their frames
ASPECT = 0.02  # by which its width over its height may differ, of one


def read(request: dict[str, Any], protocol: Protocol) -> tuple[UInt8, Int16]:
    """Video and audio of an output, as `decode.read_clip`. Raises MediaError.

    request: path; like, the reference's file, None where it has none (an emulator's clip: of the protocol's length); like_kinds, what
    the reference's protocol has; fps, of a folder of frames; paired, False where it stands for no reference and only its own middle counts.
    """
    path, fps = Path(request["path"]), request["fps"]
    length, aspect = protocol.duration_s, None
    if request["like"] is not None:
        like = Path(request["like"])
        if os.path.samefile(path, like):
            raise MediaError("is its reference itself (the same file)")
        length, aspect = measure(like, frozenset(request["like_kinds"]))
    if path.is_dir():
        if protocol.sample_rate:
            raise MediaError("is a folder of frames, which has no sound; --only video scores pictures alone")
        own_length, own_aspect = len(frames.listed(path)) / fps, None
    else:
        own_length, own_aspect = measure(path, protocol.modalities)
    offset_s = _offset(length if request["paired"] else own_length, own_length, protocol)
    if aspect is not None and own_aspect is not None and abs(own_aspect / aspect - 1) > ASPECT:
        raise MediaError(f"is {own_aspect:.3f} times as wide as high, its reference {aspect:.3f} times; crop it as its reference is")
    if not path.is_dir():
        return read_protocol(path, protocol, offset_s=offset_s)
    size = {"num_frames": protocol.num_frames, "duration_s": protocol.duration_s, "resolution": protocol.resolution}
    return frames.read(path, fps=fps, offset_s=offset_s, **size), np.empty(0, np.int16)  # type: ignore[arg-type]  # of mixed numbers


def _offset(length: float, own_length: float, protocol: Protocol) -> float:
    """Where the clip begins in both (s). Raises MediaError where their lengths differ."""
    if protocol.start_s is not None:
        end = protocol.start_s + protocol.duration_s
        if abs(min(length, end) - min(own_length, end)) > LENGTH_S:
            raise MediaError(f"ends at {own_length:.2f} s, its reference at {length:.2f} s; the clip at {end:g} s")
        return protocol.start_s
    if abs(length - own_length) > LENGTH_S:
        raise MediaError(
            f"lasts {own_length:.2f} s, its reference {length:.2f} s; at most {LENGTH_S} s may differ. Cut one of them, "
            "or compare from their beginnings on: REFERENCE?start=0&seconds=N"
        )
    return max(0.0, (length - protocol.duration_s) / 2)
