"""The pictures of a clip: which, upright, in RGB. No torch: workers import this."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter

from avbench.data import convert
from avbench.data.convert import UInt8
from avbench.data.damage import AWAY_S, MISSING_S, SAME_TIME_S, MediaError, Said, SeekError, opening_damage
from avbench.data.timeline import Window, check_size, choose_video, steps
from avbench.protocol import NATIVE

MAX_FRAMES = 20_000  # decoded for one clip; 4 s at 1,000 fps, or 11 minutes from a distant key frame
# swscale's default rounds down (1.0-1.3 levels darker than exact) and differs by up to 3 between processors; with these flags it
# is within 1 level of the exact matrix, the same on all. As a number: PyAV 17.0 takes combined flags only so.
FLAGS = int(Interpolation.BILINEAR) | 0x40000 | 0x2000 | 0x80000  # ACCURATE_RND | FULL_CHR_H_INT | BITEXACT
PALETTE = "pal8"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A decoded picture: shown from `time` to `end` (s)."""

    time: float
    end: float
    frame: av.VideoFrame


def read(container: InputContainer, said: Said, window: Window, times: Sequence[float], resolution: int, *, back: float | None) -> UInt8:
    """The picture nearest to each of `times` (T, H, W, 3); past the last one, that one. resolution: H and W, or NATIVE.

    back: seconds before the window to seek to; None: read from the beginning. Raises MediaError for a picture that is too far from
    its moment, SeekError where a seek led to too late a picture.
    """
    stream = choose_video(container)
    ratio = stream.sample_aspect_ratio
    aspect = float(ratio) if ratio and 0.2 < ratio < 5 else 1.0
    picked: list[UInt8] = []
    seen: list[float] = []
    away: list[tuple[float, float]] = []  # moment, distance of its picture
    before: Shown | None = None
    for current in _frames(container, said, window, back):
        if current.time > window.start - 1:
            seen.append(current.time)
        while len(picked) < len(times) and current.time >= times[len(picked)]:
            time = times[len(picked)]
            nearest = before if before is not None and time - before.time < current.time - time else current
            picked.append(_picture(nearest.frame, resolution, aspect))
            away.append((time, abs(time - nearest.time)))
        before = current
        if len(picked) == len(times):
            break
    if before is None:
        raise MediaError("has no picture that can be decoded")
    missing = window.expected_end - before.end
    if len(picked) < len(times) and missing > MISSING_S:
        raise MediaError(f"is cut off: its pictures end {missing:.1f} s before the clip does")
    tolerance = max(AWAY_S, 0.75 * _interval(seen, float(stream.average_rate or 25)))
    for time, distance in away:
        if distance > tolerance:
            raise MediaError(
                f"has a hole: the picture nearest to {time:.2f} s is {distance:.2f} s away, at most {tolerance:.2f} s is allowed"
            )
    picked += [_picture(before.frame, resolution, aspect)] * (len(times) - len(picked))
    sizes = sorted({picture.shape[:2] for picture in picked})
    if len(sizes) > 1:
        raise MediaError(f"changes its size inside the clip: {', '.join(f'{width}x{height}' for height, width in sizes)}")
    return np.stack(picked)


def _interval(times: Sequence[float], rate: float) -> float:
    """Seconds from one picture to the next, as a rule: a hole is seldom, and does not move the median."""
    return float(np.median(np.diff(times))) if len(times) > 3 else 1 / rate


def _frames(container: InputContainer, said: Said, window: Window, back: float | None) -> Iterator[Shown]:
    """Pictures from a key frame `back` seconds before the window or from the first on (None), none damaged from the window on.

    Damage lasts until the next key frame: what refers to a damaged picture is damaged. Damage before the last key frame at or
    before the window does not matter.
    """
    stream = choose_video(container)
    stream.thread_type = "NONE"  # one file a process: threads would compete
    seek = back is not None
    if back is not None:
        assert stream.time_base is not None
        container.seek(max(0, int((window.start - back) / stream.time_base)), stream=stream)
    opening = opening_damage(container, said, seek=seek)
    period = float(1 / stream.average_rate) if stream.average_rate else 0.04
    damage: str | None = None
    key_time: float | None = None  # of the last key frame at or before the window
    time, count = None, 0
    for step in steps(container, stream, said, window):
        if step.packet.is_keyframe and step.time is not None and step.time <= window.start:
            damage, key_time = None, step.time
        elif seek and key_time is None:
            if step.packet.is_keyframe or step.time is None or step.time > window.start:
                raise SeekError
            continue
        damage = step.damage or damage
        for frame in step.frames:
            assert isinstance(frame, av.VideoFrame)
            if count > MAX_FRAMES:
                raise MediaError(f"needs more than {MAX_FRAMES} frames decoded for one clip")
            count += 1
            base = float(frame.time_base or stream.time_base or 0.001)
            time = frame.pts * base if frame.pts is not None else 0.0 if time is None else time + period
            if key_time is not None and time < key_time - SAME_TIME_S:
                continue  # its references may be damaged, or before the place that was sought
            if seek and frame.format.name == PALETTE:
                raise SeekError  # a palette may have come with a packet before
            if frame.is_corrupt:
                damage = "its decoder calls a picture corrupt"
            wrong = damage or opening
            if wrong is not None and time >= window.start - AWAY_S:
                raise MediaError(f"is damaged at about {time:.2f} s: {wrong}")
            yield Shown(time=time, end=time + (frame.duration * base if frame.duration else period), frame=frame)
    if damage is not None:
        raise MediaError(f"is damaged: {damage}")


def _picture(frame: av.VideoFrame, resolution: int, aspect: float) -> UInt8:
    """(R, R, 3): short side to R, middle square, upright; NATIVE: the whole of it. aspect: width of a pixel over its height."""
    check_size(frame.width, frame.height)
    rgb = VideoReformatter().reformat(frame, format="rgb24", interpolation=FLAGS, threads=1)
    pixels = np.asarray(rgb.to_ndarray(), dtype=np.uint8)
    fitted = convert.square_pixels(pixels, aspect) if resolution == NATIVE else convert.centre_crop(pixels, resolution, aspect)
    return _upright(fitted, frame)


def _upright(pixels: UInt8, frame: av.VideoFrame) -> UInt8:
    """Turned and mirrored as the frame's display matrix says, to the nearest right angle.

    The matrix takes (x, y) to (a x + c y, b x + d y), y downwards (ISO/IEC 14496-12, 6.2.2): nine int32, a b u c d v x y w.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return pixels
    a, b, _, c, d = np.frombuffer(side_data, dtype=np.int32)[:5].astype(np.int64)  # type: ignore[call-overload]  # a buffer
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
