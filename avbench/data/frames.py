"""A clip from a folder of PNGs: frame k is shown from k / fps on. No torch: workers import this."""

import hashlib
import os
import re
from pathlib import Path

import cv2
import numpy as np

from avbench.data import convert
from avbench.data.convert import UInt8
from avbench.data.damage import MediaError
from avbench.data.timeline import check_size
from avbench.files import NotRegularError, open_regular
from avbench.protocol import NATIVE

MAX_FRAMES = 100_000
MAX_FRAME_BYTES = 2**28


def listed(folder: Path) -> list[Path]:
    """The frames in the order of the numbers in their names. Raises MediaError where there are none, or too many."""
    names = [entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(".png") and not entry.name.startswith(".")]
    if not 0 < len(names) <= MAX_FRAMES:
        raise MediaError(f"has {len(names):,} frames; from 1 to {MAX_FRAMES:,} are read")
    return [folder / name for name in sorted(names, key=_order)]


def pin(folder: Path) -> str:
    """sha256 (hex) over every frame's bytes, in order."""
    digest = hashlib.sha256()
    for path in listed(folder):
        digest.update(_bytes(path))
    return digest.hexdigest()


def read(folder: Path, *, fps: float, offset_s: float, num_frames: int, duration_s: float, resolution: int) -> UInt8:
    """Video uint8 (T, H, W, 3): the frames shown at `num_frames` evenly spaced times from `offset_s` on; past the last one, that one."""
    paths = listed(folder)
    times = [offset_s + duration_s * number / num_frames for number in range(num_frames)]
    numbers = [min(len(paths) - 1, round(time * fps)) for time in times]
    pictures = {number: _picture(paths[number], resolution) for number in sorted(set(numbers))}
    if len({picture.shape for picture in pictures.values()}) > 1:
        raise MediaError("has frames of several sizes")
    return np.stack([pictures[number] for number in numbers])


def _picture(path: Path, resolution: int) -> UInt8:
    data = np.frombuffer(_bytes(path), np.uint8)
    if data[:8].tobytes() != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        raise MediaError(f"has a frame that is no PNG: {path.name}")
    check_size(*(int.from_bytes(data[at : at + 4].tobytes(), "big") for at in (16, 20)))
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if pixels is None:
        raise MediaError(f"has a damaged frame: {path.name}")
    rgb = np.asarray(pixels[..., ::-1], np.uint8)
    return np.ascontiguousarray(rgb) if resolution == NATIVE else convert.centre_crop(rgb, resolution)


def _bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_FRAME_BYTES + 1)
    except NotRegularError as error:
        raise MediaError(f"has a frame that {error.strerror}: {path.name}") from error
    if len(data) > MAX_FRAME_BYTES:
        raise MediaError(f"has a frame of more than {MAX_FRAME_BYTES // 2**20} MiB: {path.name}")
    return data


def _order(name: str) -> list[tuple[int, str]]:
    """ "frame2" before "frame10"."""
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
