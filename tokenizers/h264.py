"""H.264 at a byte budget: libx264 through PyAV, elementary stream in memory.

The stream is Annex B (start codes, SPS and PPS counted; x264's SEI text removed), so frame count and size travel in it. Pixels go in as
full-range BT.709 4:4:4: at 20 kbit/s on 6 arcade and 6 VGGSound clips 4:2:0 gave 31.9 and 34.2 dB, 4:4:4 51.0 and 34.9. The conversion
is ours because swscale's rounding depends on the processor's vector unit.
"""

from fractions import Fraction

import av
import numpy as np
import torch
from torch import Tensor

from avbench.errors import AvbenchError

MAX_PIXELS = 2**22  # a frame of 2048 x 2048
MAX_VIDEO_PIXELS = 2**28
WORST_CRF = 51.0
# One thread: x264's frame threads change the bits. cpu-independent: no shortcuts that only some processors take.
# tune psnr: psychovisual options off, +0.6 dB on VGGSound at the same rate. One intra frame a clip.
OPTIONS = {"preset": "veryslow", "tune": "psnr", "x264-params": "keyint=infinite:scenecut=0:cpu-independent=1"}
_SEI = 6
# BT.709's weights of red, green and blue in luma, in 1/10,000; 2 (1 - weight) is the range of a colour less luma.
_UNIT = 10_000
_KR, _KG, _KB = 2126, 7152, 722
_RED_RANGE, _BLUE_RANGE = 2 * (_UNIT - _KR), 2 * (_UNIT - _KB)


def encode_within(frames: Tensor, fps: float, num_bytes: int) -> bytes:
    """The best stream of at most `num_bytes`: bisection over x264's constant rate factor, to 1/16 of a step.

    Args:
        frames: uint8 (T, 3, H, W).
        fps: frames a second; only x264's rate factor depends on it.
        num_bytes: the budget. Where even the worst quality is over it, that stream is returned all the same.
    """
    planes = _to_planes(frames.cpu().numpy())
    best = b""
    good, bad = WORST_CRF, 0.0
    while good - bad > 1 / 16:
        middle = round(8 * (good + bad)) / 16
        data = encode(planes, fps, middle, most=num_bytes)
        if data is not None:
            good = middle
            best = max(best, data, key=len)
        else:
            bad = middle
    return best or encode(planes, fps, WORST_CRF) or b""


def encode(planes: np.ndarray, fps: float, crf: float, *, most: int | None = None) -> bytes | None:
    """Annex B stream of uint8 YUV planes (T, 3, H, W) at a constant rate factor in [0, 51], without SEI.

    most: None as soon as it is longer than that; a long clip is over its budget after a few frames, and they are the slowest ones.
    """
    codec = av.CodecContext.create("libx264", "w")
    codec.height, codec.width = planes.shape[-2:]
    codec.pix_fmt = "yuv444p"
    codec.framerate = Fraction(fps).limit_denominator(100_000)
    codec.time_base = 1 / codec.framerate
    codec.thread_count = 1
    codec.options = {**OPTIONS, "crf": str(crf)}
    stream = b""
    for index in range(len(planes) + 1):
        frame = None
        if index < len(planes):
            frame = av.VideoFrame.from_ndarray(planes[index], format="yuv444p")
            frame.pts = index
        for packet in codec.encode(frame):  # a packet is whole units
            stream += _without_sei(bytes(packet))
            if most is not None and len(stream) > most:
                return None
    return stream


def decode(data: bytes) -> Tensor:
    """uint8 (T, 3, H, W) of an Annex B stream. Raises AvbenchError where it is damaged or larger than any clip."""
    codec = av.CodecContext.create("h264", "r")
    codec.thread_count = 1
    codec.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
    frames: list[np.ndarray] = []
    try:
        for packet in [*codec.parse(data), *codec.parse(None), None]:
            for frame in codec.decode(packet):
                frames.append(_planes_of(frame))
                if len(frames) * frame.width * frame.height > MAX_VIDEO_PIXELS:
                    raise AvbenchError(f"H.264 payload of {len(data)} bytes decodes to over {MAX_VIDEO_PIXELS} pixels")
    except (av.FFmpegError, ValueError) as error:
        raise AvbenchError(f"H.264 payload of {len(data)} bytes is damaged: {error}") from error
    if not frames or len({frame.shape for frame in frames}) != 1:
        raise AvbenchError(f"H.264 payload of {len(data)} bytes is damaged: {len(frames)} frames, {len({f.shape for f in frames})} sizes")
    return torch.from_numpy(_to_rgb(np.stack(frames)))


def _planes_of(frame: av.VideoFrame) -> np.ndarray:
    """uint8 (3, H, W). Raises ValueError for a frame that the decoder concealed or that `encode` does not write."""
    if frame.is_corrupt or frame.format.name not in ("yuv444p", "yuvj444p"):
        raise ValueError(f"a {'corrupt' if frame.is_corrupt else frame.format.name} frame")
    return frame.to_ndarray()


def _without_sei(stream: bytes) -> bytes:
    """The stream less its SEI units (x264 writes 600 bytes of settings into the first frame), with three-byte start codes."""
    units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1")[1:]]  # an H.264 unit never ends in a zero byte
    return b"".join(b"\0\0\1" + unit for unit in units if unit[0] & 31 != _SEI)


def _to_planes(rgb: np.ndarray) -> np.ndarray:
    """uint8 RGB (T, 3, H, W) -> full-range BT.709 YCbCr, uint8. Integers: floating-point sums depend on their order, and a half on them."""
    red, green, blue = (rgb[:, channel].astype(np.int64) for channel in range(3))
    luma = _KR * red + _KG * green + _KB * blue
    to_blue, to_red = (_UNIT * blue - luma, _BLUE_RANGE), (_UNIT * red - luma, _RED_RANGE)
    return _to_uint8(_divided(luma, _UNIT), _divided(*to_blue) + 128, _divided(*to_red) + 128)


def _to_rgb(planes: np.ndarray) -> np.ndarray:
    """The inverse of `_to_planes`, to a step."""
    luma, to_blue, to_red = planes[:, 0].astype(np.int64), planes[:, 1].astype(np.int64) - 128, planes[:, 2].astype(np.int64) - 128
    green = _UNIT * _KG * luma - _KR * _RED_RANGE * to_red - _KB * _BLUE_RANGE * to_blue
    red, blue = _divided(_RED_RANGE * to_red, _UNIT), _divided(_BLUE_RANGE * to_blue, _UNIT)
    return _to_uint8(luma + red, _divided(green, _UNIT * _KG), luma + blue)


def _divided(values: np.ndarray, by: int) -> np.ndarray:
    """To the nearest integer, halves to the even one, as `np.rint` does: palettes of games lie on halves often."""
    nearest, rest = np.divmod(2 * values + by, 2 * by)
    return nearest - ((rest == 0) & (nearest % 2 == 1))


def _to_uint8(*channels: np.ndarray) -> np.ndarray:
    """Three of (T, H, W) -> uint8 (T, 3, H, W), contiguous."""
    return np.stack([channel.clip(0, 255).astype(np.uint8) for channel in channels], axis=1)
