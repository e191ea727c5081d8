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
from av.container import InputContainer

from avbench.data import convert, pictures, sound, timeline
from avbench.data.convert import Int16, UInt8
from avbench.data.damage import MediaError, Said, SeekError, listening
from avbench.data.timeline import Window
from avbench.files import NotRegularError, open_regular

__all__ = ["MediaError", "identity", "open_file", "read_clip"]

VERSION = "3"  # of what is made of a file; part of the identity
MAX_FILE_BYTES = 32 * 2**30  # hashed and read in about a minute; a sparse file may claim any size
# Containers that are one file. Playlists (hls, concat, dash) would make FFmpeg open other files or addresses.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,ogg,asf"
SEEKS_S = (0.0, 15.0)  # a transport stream is sought by time, not by key frame: a second try lands before the last one
Result = TypeVar("Result")


def identity() -> str:
    """What turns files into pixels and samples: this code, PyAV, FFmpeg's libraries and the flags of the colour conversion."""
    libraries = (f"{name} {'.'.join(map(str, version))}" for name, version in sorted(av.library_versions.items()))
    return f"decoder {VERSION}, PyAV {av.__version__}, {', '.join(libraries)}, swscale flags {pictures.FLAGS:#x}"


def read_clip(path: Path, *, num_frames: int, duration_s: float, resolution: int, sample_rate: int) -> tuple[UInt8, Int16]:
    """Video uint8 (T, R, R, 3) and mono audio int16 (N,) of the middle of `path`.

    Shorter files: last frame held, sound padded with zeros. Raises MediaError, or an FFmpeg error for a damaged file.
    """
    with _open(path) as (container, _):
        window = timeline.find_window(container, duration_s)
    times = [window.start + duration_s * number / num_frames for number in range(num_frames)]
    video = _read(path, window, lambda container, said, back: pictures.read(container, said, window, times, resolution, back=back))
    audio = _read(path, window, lambda container, said, back: sound.read(container, said, window, sample_rate, back=back))
    return video, convert.to_int16(convert.to_length(audio, round(duration_s * sample_rate)))


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
