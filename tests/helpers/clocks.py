"""Videos that tell their own time: a picture is its number in black and white fields, the sound is a chirp. Made with PyAV."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS, SIZE, BITS, RATE = 25, 64, 8, 48_000
PROTOCOL = {"num_frames": 16, "duration_s": 4.096, "resolution": 128, "sample_rate": 24_000}
MOMENTS = 0.256 * np.arange(16)


def picture(number: int) -> np.ndarray:
    """(64, 64, 3) uint8: eight columns, white where a bit of the number is 1."""
    bits = [number >> (BITS - 1 - column) & 1 for column in range(BITS)]
    return np.repeat(np.repeat(np.array(bits, np.uint8) * 255, SIZE // BITS)[None, :, None], 3, axis=2).repeat(SIZE, axis=0)


def number_of(frame: np.ndarray) -> int:
    """The number that a picture (R, R, 3) shows."""
    width = frame.shape[1] // BITS
    middles = frame[:, width // 2 :: width].mean(axis=(0, 2)) > 127
    return int("".join(str(int(bit)) for bit in middles), 2)


def times_of(video: np.ndarray) -> np.ndarray:
    """(T,) seconds that the pictures show."""
    return np.array([number_of(frame) for frame in video]) / FPS


def chirp(seconds: float, rate: int = RATE, start: float = 0.0) -> np.ndarray:
    """(N,) float32: f(t) = 500 + 300 t Hz, so that any piece of it tells its own time."""
    t = start + np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (500 * t + 150 * t * t))).astype(np.float32)


def sound_late_by(audio: np.ndarray, start: float, begin: float = 0.2, seconds: float = 1.0) -> float:
    """Seconds by which the sound lags a clip that begins at `start` of the chirp, told from `seconds` of it from `begin` on."""
    rate = PROTOCOL["sample_rate"]
    piece = audio[round(begin * rate) :][: round(seconds * rate)].astype(float)
    wanted = chirp(seconds + 2, int(rate), start + begin - 1)
    match = np.fft.irfft(np.fft.rfft(wanted, 2**17) * np.conj(np.fft.rfft(piece, 2**17)))
    return (rate - int(np.abs(match[: 2 * int(rate)]).argmax())) / rate


def write(
    path: Path,
    *,
    seconds: float = 10.0,
    sound_seconds: float | None = None,
    picture_from: float = 0.0,
    sound_from: float = 0.0,
    codecs: tuple[str, str] = ("libx264", "aac"),
    pix_fmt: str = "yuv420p",
    gop: int = 50,
    shown: Callable[[int], np.ndarray] = picture,
    keep: Callable[[str, float], bool] = lambda kind, time: True,
    options: dict[str, str] | None = None,
) -> Path:
    """A video of `seconds`. picture_from, sound_from: when they begin on the file's clock, showing 0 s. keep: which packets, by time."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(
            codecs[0], rate=FPS, options={"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0", **(options or {})}
        )
        first = shown(0)
        video.height, video.width, video.pix_fmt = first.shape[0], first.shape[1], pix_fmt
        video.codec_context.thread_count = 1
        audio = container.add_stream(codecs[1], rate=RATE, layout="mono")
        samples = chirp(seconds if sound_seconds is None else sound_seconds)
        packets: list[tuple[float, str, av.Packet]] = []
        for number in range(round(seconds * FPS)):
            frame = av.VideoFrame.from_ndarray(shown(number), format="rgb24")
            frame.pts, frame.time_base = number + round(picture_from * FPS), Fraction(1, FPS)
            packets += [(_time(packet), "video", packet) for packet in video.encode(frame)]
        packets += [(_time(packet), "video", packet) for packet in video.encode(None)]
        for start in range(0, len(samples), 1024):
            piece = _audio_frame(samples[start : start + 1024], audio.codec_context.format.name)
            piece.pts = start + round(sound_from * RATE)
            packets += [(_time(packet), "audio", packet) for packet in audio.encode(piece)]
        packets += [(_time(packet), "audio", packet) for packet in audio.encode(None)]
        for time, kind, packet in sorted(packets, key=lambda item: float(item[2].dts * item[2].time_base)):
            if keep(kind, time):
                container.mux(packet)
    return path


def _time(packet: av.Packet) -> float:
    return float(packet.pts * packet.time_base)


def _audio_frame(samples: np.ndarray, sample_format: str) -> av.AudioFrame:
    if sample_format.startswith("s16"):
        frame = av.AudioFrame.from_ndarray((samples * 32767).round().astype(np.int16)[None], format="s16p", layout="mono")
    else:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
    frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
    return frame


def numbers(frames: Sequence[np.ndarray]) -> list[int]:
    """What the pictures show."""
    return [number_of(frame) for frame in frames]
