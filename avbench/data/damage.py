"""What a file's demuxer and decoders say is damaged, and how much may be missing. No torch: workers import this.

Tolerances, in seconds. A hole is where the file has nothing to show or to play; its end is held or padded only where it is over.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av.logging
from av.container import InputContainer
from av.frame import Frame
from av.packet import Packet

AWAY_S = 0.25  # from a moment to its picture: two pictures a second; a file that shows fewer may be three quarters of its own interval away
SILENT_S = 0.1  # a stretch inside the clip without sound samples
MISSING_S = 0.5  # pictures or sound that end before the clip does, or sound that begins after it
SAME_TIME_S = 0.05  # timestamps off by less are rounding (milliseconds in WebM), not gaps

# Demuxers that look for the next good place. What they say while a file is opened, when FFmpeg reads up to 5 s of packets ahead, may be
# about any of these packets.
SKIPPING = frozenset(["ogg", "matroska,webm", "asf", "flv"])
# Decoders that mark what they could not read, and say "error" of streams that were only cut (a reference before the cut; mp3 and its
# reservoir of bits). What the others say is all there is.
SELF_MARKING = frozenset(["h264", "hevc", "mp3float", "mp2float", "mp3", "mp2"])
# Codecs of one range coder and no checksum: wrong bytes decode to wrong pictures without a word. What can be told is a run of zeros,
# the hole of a file that was not loaded to its end: no encoder writes one.
UNCHECKED = frozenset(["vp8", "vp9"])
ZEROS = bytes(64)


class MediaError(Exception):
    """Why a file gives no clip: one line, for the clip's row."""


class SeekError(Exception):
    """Seeking did not lead to where everything before the clip is known: read from the beginning."""


@contextmanager
def listening() -> Iterator["Said"]:
    """FFmpeg's errors while this lasts. Some demuxers (Ogg, WebM, ASF) skip what is damaged and tell it nowhere else."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as messages:
            yield Said(messages)
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)


class Said:
    """What FFmpeg has said since it was last asked."""

    def __init__(self, messages: list[tuple[int, str, str]]) -> None:
        self._messages = messages

    def by(self, who: str) -> str | None:
        """The first thing that `who` (a demuxer, a decoder) said, at most 100 characters; all is forgotten."""
        mine = [text for _, name, text in self._messages if name == who]
        self._messages.clear()
        return f"{who} says: {' '.join(mine[0].split())[:100]}" if mine else None


@dataclass(frozen=True, kw_only=True)
class Step:
    """A packet and what came out of its decoder. time: when it is shown (s); None for the last, empty one. damage: what is wrong."""

    packet: Packet
    time: float | None
    frames: list[Frame]
    damage: str | None


def time_of(packet: Packet) -> float | None:
    """When a packet is shown, in seconds; when it is decoded where only that is known; None for the last, empty one."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None or packet.time_base is None else float(ticks * packet.time_base)


def opening_damage(container: InputContainer, said: Said, *, seek: bool) -> str | None:
    """What was said while the file was opened, if its packets are the ones that will be read."""
    heard = said.by(container.format.name)
    return heard if container.format.name in SKIPPING and not seek else None


def decode(packet: Packet, said: Said, demuxer: str, *, at_join: bool) -> Step:
    """The packet's frames. at_join: two recordings meet here, so that its container may call it corrupt though it is not."""
    decoder = packet.stream.codec_context.name
    damage = None if at_join else said.by(demuxer)
    if packet.is_corrupt and not at_join:
        damage = "its container calls a packet corrupt"
    if decoder in UNCHECKED and ZEROS in bytes(packet):
        damage = "a packet holds a run of zeros"
    frames: list[Frame] = []
    try:
        frames = list(packet.decode())  # type: ignore[arg-type]
    except av.error.FFmpegError as error:
        damage = f"its decoder says: {error.strerror}"
    heard = said.by(decoder)
    if heard and not at_join and decoder not in SELF_MARKING:
        damage = heard
    return Step(packet=packet, time=time_of(packet), frames=frames, damage=damage)
