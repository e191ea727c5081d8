"""Video codecs at a byte budget, elementary streams in memory: H.264, H.265 and VP9 through PyAV, AV1 and VVC through ffmpeg.

Frame count and size travel in the stream; settings that an encoder writes into it (SEI) are removed. H.264, H.265 and VVC are Annex B
with parameter sets and start codes, AV1 is its low-overhead stream of OBUs, and of VP9 each packet stands after its length.
Pixels go in as full-range BT.709 4:4:4 (VVC: 4:2:0 of ten bits, all that vvenc takes): at 20 kbit/s on 6 arcade and 6 VGGSound clips
H.264 gave 31.9 and 34.2 dB in 4:2:0, 51.0 and 34.9 in 4:4:4.

Presets: the slowest that searches a clip of 16 frames of 128x128 in about 10 s of a core. One thread, since threads change the bits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch
from av.video.codeccontext import VideoCodecContext
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.tokenizers import ffmpeg
from avbench.tokenizers.ycbcr import from_420, to_420, to_planes, to_rgb

MAX_PIXELS = 2**22  # a frame of 2048 x 2048
MAX_VIDEO_PIXELS = 2**28
FULL_COLOUR = ("yuv444p", "yuvj444p")
HALF_COLOUR = "yuv420p10le"


@dataclass(frozen=True, kw_only=True)
class Units:
    """Where a unit of an Annex B stream says its kind, and the kinds that are left out: settings, hashes and delimiters."""

    byte: int
    shift: int
    mask: int
    left_out: frozenset[int]

    def kept(self, stream: bytes) -> bytes:
        """The stream less those units, with three-byte start codes."""
        units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1")[1:]]  # a unit never ends in a zero byte
        return b"".join(b"\0\0\1" + unit for unit in units if self.kind(unit) not in self.left_out)

    def kind(self, unit: bytes) -> int:
        return unit[self.byte] >> self.shift & self.mask


@dataclass(frozen=True, kw_only=True)
class VideoCodec:
    """One encoder with its settings. Quality runs from 0, the best, to `worst`, in steps of `step`.

    version: raise it when the numbers change. format: of `ffmpeg -f` where it encodes; None: PyAV does. units: of Annex B; None: others.
    framed: packets after their lengths. intra: the option that says after how many seconds another intra frame comes: after the clip.
    """

    title: str
    library: str
    encoder: str
    decoder: str
    options: Mapping[str, str]
    version: int = 1
    quality: str = "crf"
    worst: float
    step: float
    format: str | None = None
    pixels: str = "yuv444p"
    units: Units | None = None
    framed: bool = False
    intra: str | None = None


H264 = VideoCodec(
    title="H.264", library="libx264", encoder="libx264", decoder="h264", version=2, worst=51.0, step=1 / 16,
    # cpu-independent: no shortcuts that only some processors take. One intra frame a clip.
    # tune psnr: psychovisual options off, +0.6 dB on VGGSound at the same rate.
    options={"preset": "veryslow", "tune": "psnr", "x264-params": "keyint=infinite:scenecut=0:cpu-independent=1"},
    units=Units(byte=0, shift=0, mask=31, left_out=frozenset({6})),
)  # fmt: skip
H265 = VideoCodec(
    title="H.265", library="libx265", encoder="libx265", decoder="hevc", worst=51.0, step=1 / 4,
    options={
        "preset": "veryslow", "tune": "psnr",
        "x265-params": "log-level=none:keyint=-1:scenecut=0:pools=none:frame-threads=1:wpp=0:pmode=0:pme=0:info=0",
    },
    units=Units(byte=0, shift=1, mask=63, left_out=frozenset({35, 39, 40})),
)  # fmt: skip
VP9 = VideoCodec(
    title="VP9", library="libvpx", encoder="libvpx-vp9", decoder="vp9", worst=63, step=1, framed=True,
    options={"b": "0", "deadline": "good", "cpu-used": "0", "row-mt": "0", "g": "9999", "auto-alt-ref": "1", "lag-in-frames": "25"},
)  # fmt: skip
AV1 = VideoCodec(
    title="AV1", library="libaom", encoder="libaom-av1", decoder="libdav1d", worst=63, step=1, format="obu",
    options={"b:v": "0", "cpu-used": "4", "row-mt": "0", "g": "9999"},
)  # fmt: skip
VVC = VideoCodec(
    title="VVC", library="libvvenc", encoder="libvvenc", decoder="vvc", quality="qp", worst=63, step=1, format="vvc", pixels=HALF_COLOUR,
    intra="period", options={"preset": "fast", "qpa": "0", "vvenc-params": "AccessUnitDelimiter=0"},
    units=Units(byte=1, shift=3, mask=31, left_out=frozenset({20, 23, 24})),
)  # fmt: skip


def encode_within(codec: VideoCodec, frames: Tensor, fps: float, num_bytes: int) -> bytes:
    """The best stream of at most `num_bytes`: bisection over the encoder's quality.

    Args:
        frames: uint8 (T, 3, H, W).
        fps: frames a second; only the encoder's idea of quality depends on it.
        num_bytes: the budget. Where even the worst quality is over it, that stream is returned all the same.
    """
    planes = to_planes(frames.cpu().numpy())
    best = b""
    good, bad = codec.worst, 0.0
    while good - bad > codec.step:
        middle = round((good + bad) / (2 * codec.step)) * codec.step
        data = encode(codec, planes, fps, middle, most=num_bytes)
        if data is not None:
            good = middle
            best = max(best, data, key=len)
        else:
            bad = middle
    return best or encode(codec, planes, fps, codec.worst) or b""


def encode(codec: VideoCodec, planes: np.ndarray, fps: float, quality: float, *, most: int | None = None) -> bytes | None:
    """The stream of uint8 YUV planes (T, 3, H, W) at one quality.

    most: None as soon as it is longer than that; a long clip is over its budget after a few frames, and they are the slowest ones.
    """
    stream = b""
    for part in _by_ffmpeg(codec, planes, fps, quality) if codec.format else _by_pyav(codec, planes, fps, quality):
        stream += part
        if most is not None and len(stream) > most:
            return None
    return stream


def _by_pyav(codec: VideoCodec, planes: np.ndarray, fps: float, quality: float) -> Iterator[bytes]:
    encoder = av.CodecContext.create(codec.encoder, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = planes.shape[-2:]
    encoder.pix_fmt = codec.pixels
    encoder.framerate = Fraction(fps).limit_denominator(100_000)
    encoder.time_base = 1 / encoder.framerate
    encoder.thread_count = 1
    encoder.options = {**codec.options, codec.quality: _text(quality, codec)}
    for index in range(len(planes) + 1):
        frame = None
        if index < len(planes):
            frame = av.VideoFrame.from_ndarray(planes[index], format=codec.pixels)
            frame.pts = index
        for packet in encoder.encode(frame):  # a packet is whole units
            data = bytes(packet)
            yield codec.units.kept(data) if codec.units else _length(len(data)) + data


def _by_ffmpeg(codec: VideoCodec, planes: np.ndarray, fps: float, quality: float) -> Iterator[bytes]:
    height, width = planes.shape[-2:]
    if codec.pixels == HALF_COLOUR and (height % 2 or width % 2):
        raise AvbenchError(f"{codec.title} is 4:2:0 here and takes frames of even sides, not {width}x{height}")
    pixels = b"".join(to_420(planes)) if codec.pixels == HALF_COLOUR else planes.tobytes()
    options = {**codec.options, codec.quality: _text(quality, codec)}
    if codec.intra:
        options[codec.intra] = str(int(len(planes) / fps) + 1)
    rate = Fraction(fps).limit_denominator(100_000)
    data = ffmpeg.encode(pixels, codec.encoder, options, pixel_format=codec.pixels, size=(width, height), rate=rate, to=str(codec.format))
    yield codec.units.kept(data) if codec.units else data


def _text(quality: float, codec: VideoCodec) -> str:
    return str(quality if codec.step < 1 else int(quality))


def decode(codec: VideoCodec, data: bytes) -> Tensor:
    """uint8 (T, 3, H, W) of a stream. Raises AvbenchError where it is damaged or larger than any clip."""
    decoder = av.CodecContext.create(codec.decoder, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
    what = f"{codec.title} payload of {len(data)} bytes"
    frames: list[np.ndarray] = []
    try:
        for packet in [*_packets(codec, decoder, data), None]:
            for frame in decoder.decode(packet):
                frames.append(_planes_of(frame, codec))
                if len(frames) * frame.width * frame.height > MAX_VIDEO_PIXELS:
                    raise AvbenchError(f"{what} decodes to over {MAX_VIDEO_PIXELS} pixels")
    except (av.FFmpegError, ValueError) as error:
        raise AvbenchError(f"{what} is damaged: {error}") from error
    if not frames or len({frame.shape for frame in frames}) != 1:
        raise AvbenchError(f"{what} is damaged: {len(frames)} frames, {len({f.shape for f in frames})} sizes")
    return torch.from_numpy(to_rgb(np.stack(frames)))


def _packets(codec: VideoCodec, decoder: VideoCodecContext, data: bytes) -> list[av.Packet]:
    if codec.units:
        return [*decoder.parse(data), *decoder.parse(None)]
    if codec.framed:
        return [av.Packet(part) for part in _parts(data)]
    return [av.Packet(data)] if data else []


def _length(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the high bit where more follow."""
    return bytes([number]) if number < 128 else bytes([128 | number & 127]) + _length(number >> 7)


def _parts(data: bytes) -> Iterator[bytes]:
    """What stands after each `_length`. Raises ValueError where the last one is cut."""
    at = 0
    while at < len(data):
        length = shift = 0
        while True:
            if at == len(data) or shift > 28:
                raise ValueError("a packet's length is cut")
            byte, at = data[at], at + 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if not 0 < length <= len(data) - at:
            raise ValueError(f"a packet of {length} bytes where {len(data) - at} are left")
        yield data[at : at + length]
        at += length


def _planes_of(frame: av.VideoFrame, codec: VideoCodec) -> np.ndarray:
    """uint8 (3, H, W). Raises ValueError for a frame that the decoder concealed or that `encode` does not write."""
    known = FULL_COLOUR if codec.pixels == FULL_COLOUR[0] else (HALF_COLOUR,)
    if frame.is_corrupt or frame.format.name not in known:
        raise ValueError(f"a {'corrupt' if frame.is_corrupt else frame.format.name} frame")
    if codec.pixels == HALF_COLOUR:
        if frame.width % 2 or frame.height % 2:
            raise ValueError(f"a frame of {frame.width}x{frame.height}")
        luma, to_blue, to_red = (
            np.frombuffer(bytes(plane), dtype="<u2").reshape(plane.height, plane.line_size // 2)[:, : plane.width] for plane in frame.planes
        )
        return from_420(luma, to_blue, to_red)
    return frame.to_ndarray()
