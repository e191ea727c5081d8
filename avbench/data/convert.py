"""Pictures and samples to the protocol's size and rate. Shapes: T frames, H x W pixels, N samples. No torch: workers import this."""

import cv2
import numpy as np
import soxr
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Int16 = NDArray[np.int16]
Float32 = NDArray[np.float32]


def whole_picture(frame: UInt8, resolution: int) -> UInt8:
    """(H, W, 3) -> (resolution, resolution, 3), antialiased, nothing cut off; the aspect ratio is not kept."""
    return _resize(frame, resolution, resolution)


def centre_crop(frame: UInt8, resolution: int, pixel_aspect: float = 1.0) -> UInt8:
    """(H, W, 3) -> (resolution, resolution, 3): short side to `resolution`, antialiased, then the middle square.

    pixel_aspect: width of a pixel over its height (1 for nearly every file).
    """
    height, width = frame.shape[0], frame.shape[1] * pixel_aspect
    scale = resolution / min(height, width)
    new_height, new_width = max(resolution, round(height * scale)), max(resolution, round(width * scale))
    # Crop before resizing what a wide picture would lose anyway: a 10,000:1 strip must not become a huge picture.
    keep_h, keep_w = _kept(frame.shape[0], new_height, resolution), _kept(frame.shape[1], new_width, resolution)
    top, left = (frame.shape[0] - keep_h) // 2, (frame.shape[1] - keep_w) // 2
    return _resize(frame[top : top + keep_h, left : left + keep_w], resolution, resolution)


def square_pixels(frame: UInt8, pixel_aspect: float) -> UInt8:
    """(H, W, 3) -> (H, W * pixel_aspect, 3): what is shown, nothing cut off."""
    width = max(1, round(frame.shape[1] * pixel_aspect))
    return frame if width == frame.shape[1] else _resize(frame, frame.shape[0], width)


def _kept(size: int, new_size: int, resolution: int) -> int:
    return max(1, round(size * resolution / new_size))


def _resize(frame: UInt8, height: int, width: int) -> UInt8:
    smaller = height <= frame.shape[0] and width <= frame.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(frame), (width, height), interpolation=method), dtype=np.uint8)


def resample(samples: Float32, rate: float, new_rate: int) -> Float32:
    """(N,) or (C, N) at `rate` Hz -> about N * new_rate / rate samples at `new_rate` Hz, band-limited, without delay (soxr, HQ)."""
    if rate == new_rate:
        return samples
    if samples.ndim == 2:
        return np.stack([resample(channel, rate, new_rate) for channel in samples])
    return np.asarray(soxr.resample(samples, rate, new_rate, quality="HQ"), dtype=np.float32)


def to_length(samples: Float32, length: int) -> Float32:
    """(..., N): cut, or padded with zeros at the end, to `length` samples."""
    missing = max(0, length - samples.shape[-1])
    return np.pad(samples[..., :length], [*[(0, 0)] * (samples.ndim - 1), (0, missing)])


def to_int16(samples: Float32) -> Int16:
    """[-1, 1] -> [-32767, 32767], rounded; what is beyond is clipped."""
    return np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)


def block_dc(samples: Float32, rate: float, corner: float = 20.0) -> Float32:
    """First-order high-pass at `corner` Hz, settled at the first sample: what the capacitor at a sound output does."""
    from scipy.signal import lfilter  # type: ignore[attr-defined]  # takes 0.5 s, and a video worker has no use for it

    keep = 1 / (1 + 2 * np.pi * corner / rate)
    filtered, _ = lfilter([keep, -keep], [1, -keep], samples, zi=[-keep * samples[0]])
    return np.asarray(filtered, dtype=np.float32)
