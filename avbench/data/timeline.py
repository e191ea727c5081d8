"""Where a file's pictures begin and end, and which of its streams are read. No torch: workers import this.

A header is believed where it is a table of the stream's own pictures (mp4, avi). Elsewhere it says how long the file is, which may be
the sound's length, or guesses: there the packets are counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import av
from av.audio import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video import VideoStream

from avbench.data.damage import MISSING_S, SILENT_S, MediaError, Said, Step, decode, time_of

MAX_PIXELS = 8192 * 4352
MAX_DURATION_S = 24 * 3600.0
MAX_SAMPLE_RATE = 384_000
MAX_CHANNELS = 64
MAX_PACKETS = 10_000_000  # of one file: a day of 60 pictures and 50 pieces of sound a second
TABLE = frozenset(["mov", "avi"])  # formats whose header counts the pictures
CLAIM = frozenset(["matroska", "flv", "asf"])  # formats whose header says how long the file was when it was whole
JOINABLE = frozenset(["mpeg", "mpegts"])  # formats in which two recordings one after the other are one file
JOIN_S = 0.25  # around a join
BOTH = frozenset(["video", "audio"])
# Decoding times that jump so far back, or so far ahead (a clock of 26.5 hours that FFmpeg takes to have turned over), are another
# recording's. A smaller jump ahead is a hole.
BACK_S, AHEAD_S = 1.0, 12 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Window:
    """The stretch of a file that is the clip, in seconds of the file's own clock.

    expected_end: where its pictures (without pictures: its sound) should end. joins: where another recording goes on.
    kinds: of {"video", "audio"}, the streams that are read.
    """

    start: float
    duration: float
    expected_end: float
    may_seek: bool
    joins: tuple[float, ...] = ()
    kinds: frozenset[str] = BOTH

    @property
    def end(self) -> float:
        """Seconds."""
        return self.start + self.duration

    def is_join(self, time: float) -> bool:
        """Whether a packet of that time is next to a join: what a container calls corrupt there is the join itself."""
        return any(abs(time - join) < JOIN_S for join in self.joins)


class Clock:
    """Makes the times of a file's packets one clock. Recordings joined with `cat` start over in the middle: all that follows moves.

    To be asked about every packet from the file's first on. Both streams move by as much, so picture and sound stay together.
    """

    def __init__(self, container: InputContainer, joins: list[float] | None = None) -> None:
        self._joins = [] if joins is None else joins
        self._active = _format(container) in JOINABLE
        self._newest = 0.0  # seconds that the latest recording is moved by
        self._moved: dict[int, float] = {}  # the same for each stream: one stream's packets arrive a little after the other's
        self._last: dict[int, float] = {}

    def correct(self, packet: Packet) -> None:
        """Move the packet's times."""
        if not self._active or packet.dts is None or packet.time_base is None:
            return
        index, base = packet.stream.index, packet.time_base
        time, moved = float(packet.dts * base), self._moved.get(index, 0.0)
        last = self._last.get(index)
        if last is not None and not -BACK_S < time + moved - last < AHEAD_S:
            if abs(time + self._newest - last) > BACK_S:
                self._newest = last - time
                self._joins.append(last)
            moved = self._moved[index] = self._newest
        self._last[index] = time + moved + (float(packet.duration * base) if packet.duration else 0.0)
        if moved:
            ticks = round(moved / base)
            packet.dts += ticks
            packet.pts = None if packet.pts is None else packet.pts + ticks


def find_window(container: InputContainer, duration_s: float, kinds: frozenset[str] = BOTH, offset_s: float | None = None) -> Window:
    """The middle `duration_s` of the pictures, or of the sound where pictures are not of `kinds`; from `offset_s` on where it is given.

    Raises MediaError for a file that lacks one of `kinds`, or is beyond the limits.
    """
    start, duration, joins = extent(container, kinds)
    offset = max(0.0, (duration - duration_s) / 2) if offset_s is None else offset_s
    end = start + min(duration, offset + duration_s)
    may_seek = offset > 0 and not joins
    return Window(start=start + offset, duration=duration_s, expected_end=end, may_seek=may_seek, joins=tuple(joins), kinds=kinds)


def extent(container: InputContainer, kinds: frozenset[str] = BOTH) -> tuple[float, float, list[float]]:
    """Where the pictures (or the sound, where pictures are not of `kinds`) begin, how long they last (s), and where recordings join."""
    streams = choose(container, kinds)
    first = streams[0]
    joins: list[float] = []
    for stream in streams:
        _check(stream)
    if _format(container) in TABLE and first.duration and first.time_base:
        start = float((first.start_time or 0) * first.time_base)
        duration = float(first.duration * first.time_base)
        if _format(container) == "avi":
            _check_counted(container, kinds)
    else:
        start, duration, joins = _count(container, first, kinds)
    if not 0 < duration <= MAX_DURATION_S:
        raise MediaError(f"claims a duration of {duration:g} s")
    return start, duration, joins


def packets(container: InputContainer, kinds: frozenset[str] = BOTH, joins: list[float] | None = None) -> Iterator[Packet]:
    """The packets of the streams that are read, in the file's order, and an empty one of each. Their times are one clock's.

    joins: gets the times at which another recording begins.
    """
    clock = Clock(container, joins)
    try:
        for number, packet in enumerate(container.demux(*choose(container, kinds))):
            if number > MAX_PACKETS:
                raise MediaError(f"has more than {MAX_PACKETS:,} packets")
            clock.correct(packet)
            yield packet
    except IndexError as error:  # PyAV's, at the end of a file in which streams turned up late
        raise MediaError("is damaged: it shows new streams in the middle") from error


def steps(container: InputContainer, stream: VideoStream | AudioStream, said: Said, window: Window) -> Iterator[Step]:
    """Every packet of `stream` from here on, decoded strictly, with what is said to be damaged since the one before."""
    # Without it decoders paint over what they cannot read.
    stream.codec_context.options = {"err_detect": "crccheck+explode"}
    waiting: str | None = None
    for packet in packets(container, window.kinds):
        if packet.stream_index != stream.index:
            waiting = said.by(container.format.name) or waiting
            continue
        time = time_of(packet)
        step = decode(packet, said, container.format.name, at_join=time is not None and window.is_join(time))
        yield replace(step, damage=step.damage or waiting)
        waiting = None


def choose(container: InputContainer, kinds: frozenset[str] = BOTH) -> list[VideoStream | AudioStream]:
    """The streams of `kinds` that are read, pictures first: the default one of each kind, else the first. A cover is no video."""
    found: dict[str, list[VideoStream] | list[AudioStream]] = {}
    if "video" in kinds:
        found["video"] = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if "audio" in kinds:
        found["audio"] = list(container.streams.audio)
    for kind, streams in found.items():
        if not streams:
            covers = "; a cover picture is none" if kind == "video" and container.streams.video else ""
            raise MediaError(f"has no {kind} stream{covers}")
    usable = [[stream for stream in streams if stream.codec_context is not None] for streams in found.values()]
    if not all(usable):
        raise MediaError("is in a codec that this FFmpeg cannot decode")
    return [min(streams, key=lambda stream: not stream.disposition & Disposition.default) for streams in usable]


def choose_video(container: InputContainer) -> VideoStream:
    """The stream of pictures."""
    stream = choose(container, frozenset(["video"]))[0]
    assert isinstance(stream, VideoStream)
    return stream


def choose_audio(container: InputContainer) -> AudioStream:
    """The stream of sound."""
    stream = choose(container, frozenset(["audio"]))[0]
    assert isinstance(stream, AudioStream)
    return stream


def check_size(width: int, height: int) -> None:
    """Raises MediaError for pictures that are too large to decode."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise MediaError(f"claims pictures of {width}x{height}; at most {MAX_PIXELS} pixels are read")


def _check_counted(container: InputContainer, kinds: frozenset[str]) -> None:
    """Raises MediaError where packets are missing: AVI has no timestamps, a lost packet moves all that follows."""
    ends = {stream.index: 0.0 for stream in choose(container, kinds)}
    for packet in packets(container, kinds):
        if packet.dts is not None and packet.time_base is not None:
            end = float((packet.dts + (packet.duration or 0)) * packet.time_base)
            ends[packet.stream_index] = max(ends[packet.stream_index], end)
    for stream in choose(container, kinds):
        missing = float((stream.duration or 0) * (stream.time_base or 0)) - ends[stream.index]
        if missing > (SILENT_S if stream.type == "video" else MISSING_S):  # the lengths of sound are often rough
            raise MediaError(f"is cut off or damaged: {missing:.2f} s of its {stream.type} are missing somewhere")


def _check(stream: VideoStream | AudioStream) -> None:
    if isinstance(stream, VideoStream):
        check_size(stream.codec_context.width, stream.codec_context.height)
        return
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    if not 0 < rate <= MAX_SAMPLE_RATE or channels > MAX_CHANNELS:
        raise MediaError(f"claims audio at {rate} Hz in {channels} channels")


def _format(container: InputContainer) -> str:
    """FFmpeg's name of the container, the first where it has several (mov,mp4,...; matroska,webm)."""
    return container.format.name.partition(",")[0]


def _count(container: InputContainer, first: VideoStream | AudioStream, kinds: frozenset[str]) -> tuple[float, float, list[float]]:
    """Start and duration of the stream `first` (s), and where the file's clock starts over, as the packets say.

    A file that ends more than MISSING_S before its header says is cut off: the stream is taken to go on to the header's end.
    """
    period = float(1 / first.average_rate) if isinstance(first, VideoStream) and first.average_rate else 0.04
    start, end, file_end = None, 0.0, 0.0
    joins: list[float] = []
    for packet in packets(container, kinds, joins):
        time = time_of(packet)
        if time is None:
            continue
        length = float(packet.duration * packet.time_base) if packet.duration else period
        file_end = max(file_end, time + length)
        if packet.stream_index != first.index or packet.is_discard:
            continue
        if start is None and packet.is_keyframe:
            start = time  # what comes before cannot be decoded
        if start is not None:
            start, end = min(start, time) if time > start - period / 2 else start, max(end, time + length)
    if start is None:
        raise MediaError(f"has no {'picture' if isinstance(first, VideoStream) else 'sound'} that can be decoded")
    claimed = (container.duration or 0) / av.time_base if _format(container) in CLAIM else 0.0
    if claimed > file_end + MISSING_S:
        end = max(end, claimed)
    return start, end - start, joins
