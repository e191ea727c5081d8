"""What a clip is: how many pictures of which size, how much sound. It belongs to the split.

    folder:videos                                                 the default, `avtok`
    folder:videos?protocol=sync                                   a named one
    folder:songs?protocol=cd&seconds=5                            a named one, but for its seconds
    folder:videos?fps=25&res=256&seconds=10&rate=44100&channels=2

No torch: the command line and the workers that decode import this.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from avbench.errors import UsageError

SHORT_POLICY = "clips shorter than duration_s: last frame held, audio padded with zeros"
NATIVE = 0  # of `resolution`: as the file has it
MAX_FRAMES, MAX_RESOLUTION, MAX_RATE, MAX_CHANNELS, MAX_SECONDS = 10_000, 4_096, 192_000, 8, 3_600.0
MAX_CLIP_BYTES = 2**31  # of a prepared clip


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a clip is. It belongs to the split; a tokenizer resamples at its own edges.

    num_frames 0: sound only. sample_rate 0: pictures only. resolution NATIVE: every clip has its own height and width.
    start_s: where in a file its clip begins; None: the clip is the middle of it.
    """

    num_frames: int = 16
    duration_s: float = 4.096
    resolution: int = 128
    sample_rate: int = 24_000
    channels: int = 1
    start_s: float | None = None

    @property
    def fps(self) -> float:
        """Frames a second: 3.90625 for 16 frames in 4.096 s; 0 without pictures."""
        return self.num_frames / self.duration_s

    @property
    def num_samples(self) -> int:
        """Samples a channel: 98,304 for 4.096 s at 24 kHz; 0 without sound."""
        return round(self.duration_s * self.sample_rate)

    @property
    def modalities(self) -> frozenset[str]:
        """Of {"video", "audio"}: what clips have."""
        return frozenset([*(["video"] if self.num_frames else []), *(["audio"] if self.sample_rate else [])])

    def facts(self) -> dict[str, Any]:
        """Its fields, for a checksum: what is newer than the first edition only where it differs from what that edition did."""
        first = {"channels": 1, "start_s": None}
        return {key: value for key, value in asdict(self).items() if key not in first or value != first[key]}

    def __str__(self) -> str:
        size = f"x{self.resolution}x{self.resolution} frames" if self.resolution else " frames of native size"
        channels = {1: "mono", 2: "stereo"}.get(self.channels, f"in {self.channels} channels")
        pictures = f"{self.num_frames}{size} over {self.duration_s:g} s" if self.num_frames else f"no pictures, {self.duration_s:g} s"
        sound = f"{self.num_samples} samples at {self.sample_rate} Hz {channels}" if self.sample_rate else "no sound"
        start = "" if self.start_s is None else f", from {self.start_s:g} s on"
        return f"{pictures}, {sound}{start}; {SHORT_POLICY}"


# What published work measures at; the reasons are in docs/protocols.md.
NAMED = {
    "avtok": Protocol(),
    "vidtok": Protocol(num_frames=17, duration_s=17 / 30, resolution=256),
    "sync": Protocol(num_frames=120, duration_s=4.8, resolution=256),
    "cd": Protocol(num_frames=0, duration_s=4.096, sample_rate=44_100, channels=2),
    "native": Protocol(resolution=NATIVE),
}
KEYS = ("protocol", "res", "fps", "seconds", "start", "rate", "channels", "only")


def parse(query: str) -> Protocol:
    """The protocol that `key=value&...` says. Raises UsageError for an unknown key or a value out of its bounds."""
    given: dict[str, str] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key not in KEYS:
            raise UsageError(f"a protocol has no key {key!r}; known: {', '.join(KEYS)} (docs/protocols.md)")
        if key in given:
            raise UsageError(f"{key} is given twice in {query!r}")
        given[key] = value
    base = given.get("protocol", "avtok")
    if base not in NAMED:
        raise UsageError(f"unknown protocol {base!r}; known: {', '.join(NAMED)}")
    protocol = _on_time(NAMED[base], given)
    if "res" in given:
        native = given["res"] == "native"
        protocol = replace(protocol, resolution=NATIVE if native else _whole(given, "res", 16, MAX_RESOLUTION))
    if "rate" in given:
        protocol = replace(protocol, sample_rate=_whole(given, "rate", 1_000, MAX_RATE))
    if "channels" in given:
        protocol = replace(protocol, channels=_whole(given, "channels", 1, MAX_CHANNELS))
    if "start" in given:
        protocol = replace(protocol, start_s=_number(given, "start", 0.0, 86_400.0))
    protocol = _only(protocol, given)
    size = protocol.num_frames * 3 * protocol.resolution**2 + 2 * protocol.num_samples * protocol.channels
    if size > MAX_CLIP_BYTES:
        raise UsageError(f"a clip of {query!r} would have {size / 2**30:.1f} GiB; at most {MAX_CLIP_BYTES // 2**30} GiB")
    return protocol


def query(protocol: Protocol) -> str:
    """The inverse of `parse`: "" for the default, a name where there is one, else what differs from the default."""
    if protocol in NAMED.values():
        name = next(name for name, known in NAMED.items() if known == protocol)
        return "" if name == "avtok" else f"protocol={name}"
    default, said = NAMED["avtok"], []
    if protocol.num_frames and protocol.resolution != default.resolution:
        said.append(f"res={protocol.resolution or 'native'}")
    if protocol.num_frames and (protocol.num_frames, protocol.duration_s) != (default.num_frames, default.duration_s):
        said.append(f"fps={protocol.fps:.10g}")
    if protocol.duration_s != default.duration_s:
        said.append(f"seconds={protocol.duration_s:.10g}")
    if protocol.start_s is not None:
        said.append(f"start={protocol.start_s:.10g}")
    if protocol.sample_rate and protocol.sample_rate != default.sample_rate:
        said.append(f"rate={protocol.sample_rate}")
    if protocol.sample_rate and protocol.channels != 1:
        said.append(f"channels={protocol.channels}")
    if len(protocol.modalities) == 1:
        said.append(f"only={next(iter(protocol.modalities))}")
    return "&".join(said)


def require(protocol: Protocol | None, name: str, **values: float) -> None:
    """For a constructor of what works at these values of a protocol's fields alone. Raises UsageError where `protocol` has others.

    None is no split's: nothing is asked.
    """
    if protocol is None:
        return
    found = {field: getattr(protocol, field) for field in values}
    wrong = [field for field, value in values.items() if abs(found[field] - value) > 1e-6 * max(1.0, abs(value))]
    if wrong:
        wanted = ", ".join(f"{field} {values[field]:g} (not {found[field]:g})" for field in wrong)
        raise UsageError(f"{name} works at {wanted} alone; clips of this split are {protocol}")


def _on_time(base: Protocol, given: dict[str, str]) -> Protocol:
    """With the frame rate and the seconds that are asked for. One of them alone is kept exactly, the other moves to a whole frame."""
    if "fps" not in given and "seconds" not in given:
        return base
    seconds = _number(given, "seconds", 1e-3, MAX_SECONDS) if "seconds" in given else base.duration_s
    if not base.num_frames and "fps" not in given:
        return replace(base, duration_s=seconds)
    fps = _number(given, "fps", 1e-3, 1_000.0) if "fps" in given else base.fps
    frames = max(1, round(fps * seconds))
    if frames > MAX_FRAMES:
        raise UsageError(f"{fps:g} frames a second for {seconds:g} s are {frames:,} frames; at most {MAX_FRAMES:,}")
    if "fps" not in given:
        return replace(base, num_frames=frames, duration_s=seconds)
    if "seconds" in given and abs(frames - fps * seconds) > 1e-6:
        raise UsageError(
            f"{fps:g} frames a second for {seconds:g} s are {fps * seconds:.3f} frames; take seconds={frames / fps:.6g}, which are {frames}"
        )
    return replace(base, num_frames=frames, duration_s=frames / fps)


def _only(protocol: Protocol, given: dict[str, str]) -> Protocol:
    """Without the modality that is not asked for."""
    only = given.get("only")
    if only is None:
        return protocol
    if only not in ("video", "audio"):
        raise UsageError(f"only={only}: it is video or audio")
    if only not in protocol.modalities:
        raise UsageError(f"only={only}, but protocol={given['protocol']} has none")
    return replace(protocol, sample_rate=0, channels=1) if only == "video" else replace(protocol, num_frames=0)


def _number(given: dict[str, str], key: str, lowest: float, highest: float) -> float:
    try:
        value = float(given[key])
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise UsageError(f"{key}={given[key]}: a number from {lowest:g} to {highest:g}")
    return value


def _whole(given: dict[str, str], key: str, lowest: int, highest: int) -> int:
    value = _number(given, key, lowest, highest)
    if value != int(value):
        raise UsageError(f"{key}={given[key]}: a whole number from {lowest} to {highest}")
    return int(value)
