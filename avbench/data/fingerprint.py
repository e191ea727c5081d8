"""A clip's fingerprint: what stays when it is encoded again, scaled, or shifted a little in time. Audits and overlaps share it.

Pictures: of each frame, the signs of the low frequencies of a 32 x 32 grey picture's cosine transform against their median (Zauner 2010,
"Implementation and benchmarking of perceptual image hash functions", sec. 3.2.1), 63 bits. Sound: of stretches of 0.37 s every 0.08 s, the
signs of energy differences between neighbouring bands and stretches, 32 bits (Haitsma and Kalker 2002, "A highly robust audio
fingerprinting system", sec. 4.2). Two clips are compared at the shift at which they agree best.

What separates copies from other clips is measured: `python benchmarks/fingerprints.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from avbench.data.convert import Int16, UInt8
from avbench.protocol import Protocol

SIDE, LOW = 32, 8  # of the grey picture, and of the corner of its transform that is kept
STEP_S, STRETCH_S = 0.08, 0.37  # of sound
BANDS, LOWEST_HZ, HIGHEST_HZ = 33, 300.0, 2_000.0
FLAT = 2.0  # levels of 255: a frame that varies less (black) says nothing
QUIET = 10 ** (-60 / 20)  # a stretch below -60 dB of full scale says nothing
MAX_SHIFT_S = 0.5
ENOUGH = 0.25  # of the bits of a clip that both must say
CHUNK = 512  # clips compared at once; 512 x 512 pairs hold 1 MB a shift


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """frames: (T, 63) int8, sound: (S, 32) int8, each 1 or -1, and 0 where a frame or stretch says nothing; empty without the modality."""

    frames: np.ndarray
    sound: np.ndarray


def fingerprint(video: UInt8, audio: Int16, protocol: Protocol) -> Fingerprint:
    """Of video uint8 (T, H, W, 3) and audio int16 (N,) or (C, N), either of which may be empty."""
    frames = np.array([_frame(frame) for frame in video], dtype=np.int8) if video.size else np.zeros((0, LOW * LOW - 1), np.int8)
    samples = np.atleast_2d(audio).astype(np.float32).mean(axis=0) / 32767
    return Fingerprint(frames=frames, sound=_sound(samples, protocol.sample_rate))


def distances(a: Sequence[Fingerprint], b: Sequence[Fingerprint], protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """(len(a), len(b)) shares of differing bits of pictures, and of sound: about 0.5 for clips that have nothing to do with each other.

    1 where one of two says nothing (black, silent) and the other does; NaN where neither does, or both lack it. All of one protocol.
    """
    most = round(MAX_SHIFT_S * protocol.fps), round(MAX_SHIFT_S / STEP_S)
    pictures = _matrix([clip.frames for clip in a], [clip.frames for clip in b], most[0])
    return pictures, _matrix([clip.sound for clip in a], [clip.sound for clip in b], most[1])


def _frame(frame: UInt8) -> np.ndarray:
    grey = cv2.resize(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if grey.std() < FLAT:
        return np.zeros(LOW * LOW - 1, np.int8)
    low = cv2.dct(grey.astype(np.float32))[:LOW, :LOW].ravel()[1:]
    return np.where(low > np.median(low), 1, -1).astype(np.int8)


def _sound(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    length, step = round(STRETCH_S * sample_rate), round(STEP_S * sample_rate)
    if not sample_rate or len(samples) < length + step:
        return np.zeros((0, BANDS - 1), np.int8)
    stretches = np.lib.stride_tricks.sliding_window_view(samples, length)[::step]
    power = np.square(np.abs(np.fft.rfft(stretches * np.hanning(length).astype(np.float32), axis=1)))
    edges = np.geomspace(LOWEST_HZ, min(HIGHEST_HZ, 0.45 * sample_rate), BANDS + 1) / sample_rate * length
    bands = np.add.reduceat(power, edges.round().astype(int), axis=1)[:, :BANDS]
    rising = np.diff(bands[:, :-1] - bands[:, 1:], axis=0) > 0
    loud = np.sqrt(np.square(stretches).mean(axis=1)) > QUIET
    return (np.where(rising, 1, -1) * (loud[1:] & loud[:-1])[:, None]).astype(np.int8)


def _matrix(a: list[np.ndarray], b: list[np.ndarray], most: int) -> np.ndarray:
    """Least share of differing bits over shifts of at most `most` steps, chunk by chunk."""
    found = np.full((len(a), len(b)), np.nan, np.float32)
    if not a or not b or 0 in (len(a[0]), len(b[0])):
        return found
    for first in range(0, len(a), CHUNK):
        rows = np.stack(a[first : first + CHUNK]).astype(np.float32)
        for second in range(0, len(b), CHUNK):
            columns = np.stack(b[second : second + CHUNK]).astype(np.float32)
            shares = [_at_shift(rows, columns, shift) for shift in range(-most, most + 1) if abs(shift) < rows.shape[1]]
            part = np.fmin.reduce(shares)
            part[_says(rows)[:, None] != _says(columns)[None, :]] = 1.0
            found[first : first + len(rows), second : second + len(columns)] = part
    return found


def _says(clips: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(clips).mean(axis=(1, 2)) >= ENOUGH)


def _at_shift(a: np.ndarray, b: np.ndarray, shift: int) -> np.ndarray:
    count = a.shape[1] - abs(shift)
    one = a[:, max(0, shift) :][:, :count].reshape(len(a), -1)
    other = b[:, max(0, -shift) :][:, :count].reshape(len(b), -1)
    told = np.abs(one) @ np.abs(other).T
    enough = told >= ENOUGH * a.shape[1] * a.shape[2]
    return np.where(enough, (1 - (one @ other.T) / np.maximum(told, 1)) / 2, np.nan)
