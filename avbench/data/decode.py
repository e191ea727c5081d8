"""Decode a clip from a video file. Shapes: T frames, H x W pixels, N samples. No torch: workers import this.

A clip is the middle `duration_s` of the file's pictures (all of a shorter one). Frames are those shown nearest to `num_frames`
evenly spaced times, so a variable frame rate is no special case; samples are placed by their timestamps, so picture and sound stay
together. A file with a hole in the clip, or one that its decoder calls damaged there, gives no clip.
Files are untrusted: sizes and counts are limited here, time and memory by the worker process that this runs in.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.container import InputContainer

from avbench.data import convert, pictures, sound, timeline
from avbench.data.convert import Int16, UInt8
from avbench.data.damage import MediaError, Said, SeekError, listening
from avbench.data.timeline import Window
from avbench.files import NotRegularError, open_regular
from avbench.protocol import Protocol

__all__ = ["MediaError", "identity", "open_file", "read_clip"]

VERSION = "3"  # of what is made of a file; part of the identity
MAX_FILE_BYTES = 32 * 2**30  # hashed and read in about a minute; a sparse file may claim any size
# Containers that are one file. Playlists (hls, concat, dash) would make FFmpeg open other files or addresses.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,ogg,asf,wav,w64,flac,mp3,aiff,aac"
SEEKS_S = (0.0, 15.0)  # a transport stream is sought by time, not by key frame: a second try lands before the last one
Result = TypeVar("Result")


def identity() -> str:
    """What turns files into pixels and samples: this code, PyAV, FFmpeg's libraries and the flags of the colour conversion."""
    libraries = (f"{name} {'.'.join(map(str, version))}" for name, version in sorted(av.library_versions.items()))
    return f"decoder {VERSION}, PyAV {av.__version__}, {', '.join(libraries)}, swscale flags {pictures.FLAGS:#x}"


def read_clip(
    path: Path,
    *,
    num_frames: int,
    duration_s: float,
    resolution: int,
    sample_rate: int,
    channels: int = 1,
    offset_s: float | None = None,
) -> tuple[UInt8, Int16]:
    """Video uint8 (T, H, W, 3) and audio int16 (N,), of more than one channel (C, N), of the middle of `path`; empty where the
    protocol has none. offset_s: the clip begins so many seconds after the file's own beginning.

    Shorter files: last frame held, sound padded with zeros. Raises MediaError, or an FFmpeg error for a damaged file.
    """
    protocol = Protocol(
        num_frames=num_frames, duration_s=duration_s, resolution=resolution, sample_rate=sample_rate, channels=channels
    )  # fmt: skip
    with _open(path) as (container, _):
        window = timeline.find_window(container, duration_s, protocol.modalities, offset_s)
    video, audio = np.empty(0, np.uint8), np.empty(0, np.int16)
    if num_frames:
        times = [window.start + duration_s * number / num_frames for number in range(num_frames)]
        video = _read(path, window, lambda file, said, back: pictures.read(file, said, window, times, resolution, back=back))
    if sample_rate:
        samples = _read(path, window, lambda file, said, back: sound.read(file, said, window, sample_rate, channels=channels, back=back))
        audio = convert.to_int16(convert.to_length(samples, protocol.num_samples))
        audio = audio[0] if channels == 1 else audio
    return video, audio


def read_protocol(path: Path, protocol: Protocol, *, offset_s: float | None = None) -> tuple[UInt8, Int16]:
    """`read_clip` at a protocol; its own beginning, where it states one."""
    return read_clip(
        path,
        num_frames=protocol.num_frames,
        duration_s=protocol.duration_s,
        resolution=protocol.resolution,
        sample_rate=protocol.sample_rate,
        channels=protocol.channels,
        offset_s=protocol.start_s if offset_s is None else offset_s,
    )


def measure(path: Path, kinds: frozenset[str]) -> tuple[float, float | None]:
    """Seconds that a file's pictures (its sound, where pictures are not of `kinds`) last, and width over height, None without pictures."""
    with _open(path) as (container, _):
        _, duration, _ = timeline.extent(container, kinds)
        if "video" not in kinds:
            return duration, None
        stream = timeline.choose_video(container)
        ratio = float(stream.sample_aspect_ratio or 1) or 1.0
        return duration, stream.codec_context.width * ratio / stream.codec_context.height


def _read(path: Path, window: Window, read: Callable[[InputContainer, Said, float | None], Result]) -> Result:
    """What `read` gives after a seek to so many seconds before the window. Any error then may be the seek's own (a poor index, a
    key frame that needs pictures before it, a format that cannot seek): at last from the beginning (None), and that one's error is
    the file's."""
    for back in SEEKS_S if window.may_seek else ():
        try:
            with _open(path) as (container, said):
                return read(container, said, back)
        except (SeekError, MediaError, av.error.FFmpegError):
            pass
    with _open(path) as (container, said):
        return read(container, said, None)


def open_file(path: Path) -> BufferedReader:
    """`path` for reading. Raises MediaError for what is no file, is empty, or is too large."""
    try:
        file = open_regular(path)
    except NotRegularError as error:
        raise MediaError(error.strerror) from error
    size = os.fstat(file.fileno()).st_size
    if 0 < size <= MAX_FILE_BYTES:
        return file
    file.close()
    if size == 0:
        raise MediaError("is empty (0 bytes)")
    raise MediaError(f"has {size / 2**30:,.0f} GiB; at most {MAX_FILE_BYTES // 2**30} GiB are read")


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, Said]]:
    options = {"format_whitelist": FORMATS, "max_streams": "64", "err_detect": "crccheck"}
    with open_file(path) as file, listening() as said, av.open(file, container_options=options, io_open=_refuse) as container:
        assert isinstance(container, InputContainer)
        yield container, said


def _refuse(url: str, flags: int, options: dict[str, Any]) -> Any:
    raise MediaError(f"refers to another file ({url[:100]}), which is not opened")
