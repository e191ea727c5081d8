"""RGB <-> full-range BT.709 YCbCr in integers, and its 4:2:0 form.

Ours, because swscale's rounding depends on the processor's vector unit.
"""

import numpy as np

# BT.709's weights of red, green and blue in luma, in 1/10,000; 2 (1 - weight) is the range of a colour less luma.
_UNIT = 10_000
_KR, _KG, _KB = 2126, 7152, 722
_RED_RANGE, _BLUE_RANGE = 2 * (_UNIT - _KR), 2 * (_UNIT - _KB)


def to_planes(rgb: np.ndarray) -> np.ndarray:
    """uint8 RGB (T, 3, H, W) -> full-range BT.709 YCbCr, uint8. Integers: floating-point sums depend on their order, and a half on them."""
    red, green, blue = (rgb[:, channel].astype(np.int64) for channel in range(3))
    luma = _KR * red + _KG * green + _KB * blue
    to_blue, to_red = (_UNIT * blue - luma, _BLUE_RANGE), (_UNIT * red - luma, _RED_RANGE)
    return _to_uint8(_divided(luma, _UNIT), _divided(*to_blue) + 128, _divided(*to_red) + 128)


def to_rgb(planes: np.ndarray) -> np.ndarray:
    """The inverse of `to_planes`, to a step."""
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


def to_420(planes: np.ndarray) -> list[bytes]:
    """uint8 (T, 3, H, W), sides even -> yuv420p10le of each frame: luma times four, chroma the sum of each 2 x 2."""
    frames, _, height, width = planes.shape
    luma = 4 * planes[:, 0].astype("<u2")
    chroma = planes[:, 1:].astype("<u2").reshape(frames, 2, height // 2, 2, width // 2, 2).sum(axis=(3, 5), dtype="<u2")
    return [luma[frame].tobytes() + chroma[frame].tobytes() for frame in range(frames)]


def from_420(luma: np.ndarray, to_blue: np.ndarray, to_red: np.ndarray) -> np.ndarray:
    """Ten-bit luma (H, W) and chroma (H/2, W/2) -> uint8 (3, H, W); each chroma value stands for its 2 x 2."""
    chroma = [part.repeat(2, axis=0).repeat(2, axis=1) for part in (to_blue, to_red)]
    return np.stack([((part.astype(np.int64) + 2) >> 2).clip(0, 255).astype(np.uint8) for part in (luma, *chroma)])
