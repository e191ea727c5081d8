"""Decode a clip from a video file. Shapes: T frames, H x W pixels, N samples. No torch: workers import this.

A clip is the middle `duration_s` of the file (all of a shorter one). Frames are those shown nearest to `num_frames` evenly spaced
times, so a variable frame rate is no special case; samples are placed by their timestamps, so picture and sound stay together.
Files are untrusted: sizes and counts are limited here, time and memory by the worker process that this runs in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from avbench.data import convert
from avbench.data.convert import Float32, Int16, UInt8

MAX_PIXELS = 8192 * 4352
MAX_FRAMES = 20_000  # decoded for one clip; 4 s at 1,000 fps, or 11 minutes from a distant key frame
MAX_DURATION_S = 24 * 3600.0
MAX_SAMPLE_RATE = 384_000
MAX_CHANNELS = 64
MARGIN_S = 0.2  # sound on both sides of the window for the resampling filter; a whole number of samples at all common rates
PRE_ROLL_S = 0.5  # decoded before the window: a decoder needs some packets to settle
SAME_TIME_S = 0.05  # timestamps off by less are rounding (milliseconds in WebM), not gaps
TRUNCATED_S = 1.0  # pictures that end this much earlier than the header says: a cut-off file
# Containers that are one file. Playlists (hls, concat, dash) would make FFmpeg open other files or addresses.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,ogg,asf"


class MediaError(Exception):
    """Why a file gives no clip: one line, for the clip's row."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The stretch of a file that is the clip, in seconds of the file's own clock. `expected_end`: where its pictures should end."""

    start: float
    duration: float
    expected_end: float
    from_beginning: bool


def read_clip(path: Path, *, num_frames: int, duration_s: float, resolution: int, sample_rate: int) -> tuple[UInt8, Int16]:
    """Video uint8 (T, R, R, 3) and mono audio int16 (N,) of the middle of `path`.

    Shorter files: last frame held, sound padded with zeros. Raises MediaError, or an FFmpeg error for a damaged file.
    """
    if path.stat().st_size == 0:
        raise MediaError("is empty (0 bytes)")
    with _open(path) as container:
        _check_streams(container)
        window = _window(path, container, duration_s)
    video = _read_video(path, window, num_frames, resolution)
    audio = _read_audio(path, window, sample_rate)
    return video, convert.to_int16(convert.to_length(audio, round(duration_s * sample_rate)))


@contextmanager
def _open(path: Path) -> Iterator[InputContainer]:
    options = {"format_whitelist": FORMATS, "max_streams": "64"}
    with path.open("rb") as file, av.open(file, container_options=options, io_open=_refuse) as container:
        assert isinstance(container, InputContainer)
        yield container


def _refuse(url: str, flags: int, options: dict[str, Any]) -> Any:
    raise MediaError(f"refers to another file ({url[:100]}), which is not opened")


def _check_streams(container: InputContainer) -> None:
    if not container.streams.video:
        raise MediaError("has no video stream")
    if not container.streams.audio:
        raise MediaError("has no audio stream")
    video, audio = container.streams.video[0].codec_context, container.streams.audio[0].codec_context
    if video is None or audio is None:
        raise MediaError("is in a codec that this FFmpeg cannot decode")
    _check_size(video.width, video.height)
    if not 0 < audio.sample_rate <= MAX_SAMPLE_RATE or audio.channels > MAX_CHANNELS:
        raise MediaError(f"claims audio at {audio.sample_rate} Hz in {audio.channels} channels")


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise MediaError(f"claims pictures of {width}x{height}; at most {MAX_PIXELS} pixels are read")


def _window(path: Path, container: InputContainer, duration_s: float) -> Window:
    stream = container.streams.video[0]
    start = float(stream.start_time * stream.time_base) if stream.start_time is not None and stream.time_base else 0.0
    duration = _duration(path, container)
    if not 0 < duration <= MAX_DURATION_S:
        raise MediaError(f"claims a duration of {duration:g} s")
    offset = max(0.0, (duration - duration_s) / 2)
    end = start + min(duration, offset + duration_s)
    return Window(start=start + offset, duration=duration_s, expected_end=end, from_beginning=offset == 0)


def _duration(path: Path, container: InputContainer) -> float:
    """Seconds of video: what the stream says, else the container, else its packets."""
    stream = container.streams.video[0]
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    times = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.pts is not None and packet.time_base]
    return max(times, default=0.0) - min(times, default=0.0)


def _read_video(path: Path, window: Window, num_frames: int, resolution: int) -> UInt8:
    times = [window.start + window.duration * number / num_frames for number in range(num_frames)]
    if not window.from_beginning:
        try:
            return _pick_frames(path, window, times, resolution, seek=True)
        except (_LateSeekError, av.error.InvalidDataError):
            pass  # damaged, or the key frame needs pictures before it (open GOP): the way from the beginning tells
    return _pick_frames(path, window, times, resolution, seek=False)


class _LateSeekError(Exception):
    """Seeking landed behind the window (a poor index): read from the beginning."""


def _frames_from(container: InputContainer, start: float | None) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Time, end and picture of frames from the key frame at or before `start` (None: the first) on."""
    stream = container.streams.video[0]
    stream.thread_type = "NONE"  # one file a process: threads would compete
    # Without it the H.264 decoder paints over what it cannot read: of 3 files with one wrong byte, 3 gave a clip; with it, 1.
    stream.codec_context.options = {"err_detect": "explode"}
    time_base = stream.time_base or Fraction(1, 1000)
    if start is not None:
        container.seek(max(0, int(start / time_base)), stream=stream)
    period = 1 / float(stream.average_rate) if stream.average_rate else 0.04
    time = None
    for count, frame in enumerate(container.decode(stream)):
        if count > MAX_FRAMES:
            raise MediaError(f"needs more than {MAX_FRAMES} frames decoded for one clip")
        time = float(frame.pts * time_base) if frame.pts is not None else (time or 0.0) + (period if count else 0.0)
        if count == 0 and start is not None and time > start + SAME_TIME_S:
            raise _LateSeekError
        yield time, time + (float(frame.duration * time_base) if frame.duration else period), frame


def _pick_frames(path: Path, window: Window, times: list[float], resolution: int, *, seek: bool) -> UInt8:
    """The picture nearest to each of `times` (T, R, R, 3); past the last one, that one."""
    picked: list[UInt8] = []
    before: tuple[float, float, av.VideoFrame] | None = None
    with _open(path) as container:
        aspect = _pixel_aspect(container)
        for current in _frames_from(container, window.start if seek else None):
            while len(picked) < len(times) and current[0] >= times[len(picked)]:
                time = times[len(picked)]
                nearest = before if before is not None and time - before[0] < current[0] - time else current
                picked.append(_picture(nearest[2], resolution, aspect))
            before = current
            if len(picked) == len(times):
                return np.stack(picked)
    if before is None:
        raise MediaError("has no picture that can be decoded")
    if before[1] < window.expected_end - TRUNCATED_S:
        raise MediaError(f"is cut off: its pictures end {window.expected_end - before[1]:.1f} s before the clip does")
    return np.stack(picked + [_picture(before[2], resolution, aspect)] * (len(times) - len(picked)))


def _picture(frame: av.VideoFrame, resolution: int, aspect: float) -> UInt8:
    """(R, R, 3): upright, short side to R, middle square. aspect: width of a pixel over its height."""
    _check_size(frame.width, frame.height)
    if frame.is_corrupt:
        raise MediaError(f"has a damaged picture at {frame.time} s")
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    return np.rot90(convert.centre_crop(pixels, resolution, aspect), frame.rotation // 90 % 4)


def _pixel_aspect(container: InputContainer) -> float:
    aspect = container.streams.video[0].sample_aspect_ratio
    return float(aspect) if aspect and 0.2 < aspect < 5 else 1.0


def _read_audio(path: Path, window: Window, sample_rate: int) -> Float32:
    """Mono samples (about N,) from the window's start on."""
    if window.start > MARGIN_S + PRE_ROLL_S:
        try:
            with _open(path) as container:
                samples, rate = _place_samples(container, window, seek=True)
        except _LateSeekError:
            with _open(path) as container:
                samples, rate = _place_samples(container, window, seek=False)
    else:
        with _open(path) as container:
            samples, rate = _place_samples(container, window, seek=False)
    return convert.resample(samples, rate, sample_rate)[round(MARGIN_S * sample_rate) :]


def _place_samples(container: InputContainer, window: Window, *, seek: bool) -> tuple[Float32, int]:
    """Mono samples of the window and a margin on both sides, each where its timestamp puts it, and their rate."""
    stream = container.streams.audio[0]
    rate = stream.codec_context.sample_rate
    first_time = window.start - MARGIN_S
    placed = np.zeros(round((window.duration + 2 * MARGIN_S) * rate), dtype=np.float32)
    if seek:
        container.seek(int((first_time - PRE_ROLL_S) / (stream.time_base or Fraction(1, rate))), stream=stream)
    expected, covered = None, 0
    for time, samples in _sound_from(container, first_time if seek else None):
        position = round((time - first_time) * rate)
        if expected is not None and abs(position - expected) < SAME_TIME_S * rate:
            position = expected
        expected = position + len(samples)
        begin, end = max(position, 0), min(expected, len(placed))
        if begin < end:
            placed[begin:end] = samples[begin - position : end - position]
            covered += end - begin
        if expected >= len(placed):
            break
    if covered == 0:
        raise MediaError(f"has no sound between {window.start:.1f} s and {window.start + window.duration:.1f} s")
    return placed, rate


def _sound_from(container: InputContainer, start: float | None) -> Iterator[tuple[float, Float32]]:
    """Time and mono samples (n,) of decoded sound: all channels averaged."""
    stream = container.streams.audio[0]
    rate = stream.codec_context.sample_rate
    time = 0.0
    for count, frame in enumerate(container.decode(stream)):
        if frame.sample_rate != rate:
            raise MediaError(f"changes its sample rate from {rate} to {frame.sample_rate} Hz")
        time = time if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
        if count == 0 and start is not None and time > start + SAME_TIME_S:
            raise _LateSeekError
        if count > MAX_FRAMES * 10:
            raise MediaError("has too many pieces of sound")
        yield time, _mono(frame)
        time += frame.samples / rate


def _mono(frame: av.AudioFrame) -> Float32:
    """(n,) in [-1, 1] (floating-point sound may go beyond)."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) / 128 - 1
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float32) / 2.0 ** (8 * samples.dtype.itemsize - 1)
    return np.nan_to_num(samples.mean(axis=0, dtype=np.float32), posinf=1.0, neginf=-1.0)
