"""The sound of a clip: samples, each where its timestamp puts it. No torch: workers import this. C channels, N samples."""

from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer

from avbench.data import convert
from avbench.data.convert import Float32
from avbench.data.damage import MISSING_S, SAME_TIME_S, SILENT_S, MediaError, Said, SeekError, opening_damage
from avbench.data.timeline import Window, choose_audio, steps

MARGIN_S = 0.2  # sound on both sides of the window for the resampling filter; a whole number of samples at all common rates
PRE_ROLL_S = 0.5  # decoded before the window: a decoder needs some packets to settle
MAX_PIECES = 200_000
NEIGHBOURS = 4  # pieces on both sides
STEP_S = 0.01  # half of the shortest usual piece; timestamps are rounded to 1 ms


def read(
    container: InputContainer, said: Said, window: Window, sample_rate: int, *, channels: int = 1, back: float | None = None
) -> Float32:
    """Samples (C, about N) from the window's start on. Raises MediaError for a hole, SeekError where a seek led too far."""
    stream = choose_audio(container)
    rate = stream.codec_context.sample_rate
    first_time = window.start - MARGIN_S
    placed = np.zeros((channels, round((window.duration + 2 * MARGIN_S) * rate)), dtype=np.float32)
    known = np.zeros(placed.shape[1], dtype=np.bool_)
    pieces = [
        (time, np.nan_to_num(mix(samples, channels), posinf=1.0, neginf=-1.0))
        for time, samples in _pieces(container, said, window, first_time, back)
    ]
    lengths = [samples.shape[1] for _, samples in pieces]
    follows = np.cumsum([0, *lengths[:-1]])  # the sample at which each begins if nothing is missing
    for position, (_, samples) in zip(_positions([time - first_time for time, _ in pieces], follows, rate), pieces, strict=True):
        begin, end = max(position, 0), min(position + samples.shape[1], len(known))
        if begin < end:
            placed[:, begin:end] = samples[:, begin - position : end - position]
            known[begin:end] = True
    _check_holes(known[round(MARGIN_S * rate) :], rate, window)
    return convert.resample(placed, rate, sample_rate)[:, round(MARGIN_S * sample_rate) :]


def mix(samples: Float32, channels: int) -> Float32:
    """(C, n) -> (channels, n). One channel: the average of all. From one: its copies. From more to fewer: channel k of those wanted is
    the average of those numbered k, k + channels, ... (of 5.1 as FFmpeg orders it: left, centre, rear left; right, bass, rear right).
    Raises MediaError for too few.
    """
    if len(samples) == channels:
        return samples
    if len(samples) == 1:
        return np.repeat(samples, channels, axis=0)
    if len(samples) < channels:
        raise MediaError(f"has {len(samples)} channels; the split wants {channels}")
    return np.stack([samples[channel::channels].mean(axis=0, dtype=np.float32) for channel in range(channels)])


def _positions(times: list[float], follows: np.ndarray, rate: int) -> list[int]:
    """The sample at which each piece begins: right after the one before, unless the timestamps (s) of its neighbours too say that it
    begins STEP_S or more from there. A single timestamp may be rounded, or shared by two pieces; what is missing moves all that follow.
    """
    ahead = np.array(times) - follows / rate
    positions, moved = [], None
    for number, follow in enumerate(follows):
        near = float(np.median(ahead[max(0, number - NEIGHBOURS) : number + NEIGHBOURS + 1]))
        if moved is None or abs(near - moved) > STEP_S:
            moved = near
        positions.append(round(moved * rate) + int(follow))
    return positions


def _check_holes(known: np.ndarray, rate: int, window: Window) -> None:
    """known (N,): which samples from the window's start on the file has."""
    length = window.expected_end - window.start
    places = np.flatnonzero(known[: max(1, round(length * rate))])
    if len(places) == 0:
        raise MediaError(f"has no sound between {window.start:.1f} s and {window.expected_end:.1f} s")
    late, early = places[0] / rate, length - (places[-1] + 1) / rate
    if late > MISSING_S:
        raise MediaError(f"has no sound for the first {late:.1f} s of the clip")
    if early > MISSING_S:
        raise MediaError(f"is cut off: its sound ends {early:.1f} s before the clip does")
    holes = np.diff(places)
    widest = int(holes.argmax()) if len(holes) else 0
    if len(holes) and holes[widest] / rate > SILENT_S:
        at = window.start + places[widest] / rate
        raise MediaError(f"has a hole: no sound for {holes[widest] / rate:.2f} s from {at:.2f} s on, at most {SILENT_S} s is allowed")


def _pieces(
    container: InputContainer, said: Said, window: Window, first_time: float, back: float | None
) -> Iterator[tuple[float, Float32]]:
    """Time and samples (C, n) of decoded sound, none of it damaged from `first_time` on."""
    stream = choose_audio(container)
    rate = stream.codec_context.sample_rate
    seek = back is not None
    if back is not None:
        assert stream.time_base is not None
        container.seek(max(0, int((first_time - PRE_ROLL_S - back) / stream.time_base)), stream=stream)
    opening = opening_damage(container, said, seek=seek)
    end = window.end + MARGIN_S
    time, count, after = 0.0, 0, 0
    for step in steps(container, stream, said, window):
        at = time if step.time is None else step.time
        wrong = step.damage or opening
        if wrong is not None and first_time <= at < end:
            raise MediaError(f"has damaged sound at about {at:.2f} s: {wrong}")
        for frame in step.frames:
            assert isinstance(frame, av.AudioFrame)
            if frame.sample_rate != rate:
                raise MediaError(f"changes its sample rate from {rate} to {frame.sample_rate} Hz")
            time = time if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
            if count == 0 and seek and time > first_time + SAME_TIME_S:
                raise SeekError
            if count > MAX_PIECES:
                raise MediaError("has too many pieces of sound")
            count += 1
            if time + frame.samples / rate > first_time - PRE_ROLL_S:  # from the beginning of a long file there are gigabytes before
                yield time, _samples(frame)
            time += frame.samples / rate
            after += time > end
        if after > NEIGHBOURS:
            return


def _samples(frame: av.AudioFrame) -> Float32:
    """(C, n) in [-1, 1] (floating-point sound may go beyond)."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) / 128 - 1
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float32) / 2.0 ** (8 * samples.dtype.itemsize - 1)
    return samples.astype(np.float32)
