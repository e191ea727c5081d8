"""A range coder (Martin 1979): integer intervals, one after another, become bits. Many messages are coded in step.

Exact integers only, so that every machine makes the same bits. A message ends with the bit that fixes it: whatever follows, it decodes to
the same symbols, so that no length needs to be stored. tests/helpers/range_decoder.py, written apart, reads the bits back.
"""

from dataclasses import dataclass

import numpy as np

WINDOW = 56  # bits of `low`; the range stays above 2**48
MAX_TOTAL = 2**32  # of an interval: the range is cut to a multiple of it, which loses less than 1/65,536 of a bit
_BYTE, _FLOOR = np.uint64(8), np.uint64(1) << np.uint64(WINDOW - 8)
_TOP = np.uint64(1) << np.uint64(WINDOW)
_END_BITS = 9  # a range above 2**48 holds a whole multiple of 2**47


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """[start, start + size) of `total` for each step of each message: int64 (steps, M), 0 < total <= MAX_TOTAL. (0, 1, 1) says nothing."""

    start: np.ndarray
    size: np.ndarray
    total: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Messages:
    """Bits of each message, most significant first: uint8 (M, longest), of which `bits` (M,) count; the rest is zero."""

    data: np.ndarray
    bits: np.ndarray


def ideal_bits(intervals: Intervals) -> np.ndarray:
    """-log2 of each message's probability, summed over its steps: float64 (M,)."""
    return np.asarray(np.log2(intervals.total / intervals.size).sum(axis=0))


def encode(intervals: Intervals) -> Messages:
    """The messages: each less than 2 bits longer than ideal, but for the coder's own rounding."""
    num_messages = intervals.start.shape[1]
    coder = _Coder(num_messages, int(ideal_bits(intervals).max(initial=0)) // 8 + 16)
    columns = (part.astype(np.uint64) for part in (intervals.start, intervals.size, intervals.total))
    for start, size, total in zip(*columns, strict=True):
        coder.narrow(start, size, total)
    return coder.finish()


class _Coder:
    """low and range of each message, and the bytes that are out already; a carry out of `low` runs back through them."""

    def __init__(self, num_messages: int, capacity: int) -> None:
        self.low = np.zeros(num_messages, dtype=np.uint64)
        self.range = np.full(num_messages, _TOP)
        self.data = np.zeros((num_messages, capacity), dtype=np.uint8)
        self.end = np.zeros(num_messages, dtype=np.int64)

    def narrow(self, start: np.ndarray, size: np.ndarray, total: np.ndarray) -> None:
        step = self.range // total
        self.low += step * start
        self.range = step * size
        self._carry()
        while len(rows := np.flatnonzero(self.range <= _FLOOR)):
            self.data[rows, self.end[rows]] = (self.low[rows] >> np.uint64(WINDOW - 8)).astype(np.uint8)
            self.end[rows] += 1
            self.low[rows] = (self.low[rows] & (_FLOOR - np.uint64(1))) << _BYTE
            self.range[rows] <<= _BYTE

    def finish(self) -> Messages:
        """The fewest bits whose every continuation lies in the range."""
        extra = np.full(len(self.low), -1)
        value = self.low.copy()
        for bits in range(_END_BITS + 1):
            grain = np.uint64(1) << np.uint64(WINDOW - bits)
            first = (self.low + grain - np.uint64(1)) // grain * grain
            fits = (extra < 0) & (first + grain <= self.low + self.range)
            value[fits], extra[fits] = first[fits], bits
        self.low = value
        self._carry()
        rows = np.arange(len(value))
        for byte in range(2):
            shifted = self.low >> np.uint64(WINDOW - 8 - 8 * byte)
            self.data[rows, self.end + byte] = (shifted & np.uint64(255)).astype(np.uint8)
        return Messages(data=self.data, bits=8 * self.end + extra)

    def _carry(self) -> None:
        rows = np.flatnonzero(self.low >= _TOP)
        self.low[rows] -= _TOP
        at = self.end[rows] - 1
        while len(rows):  # a message's value stays below 1, so that its first byte never overflows
            self.data[rows, at] += np.uint8(1)
            over = self.data[rows, at] == 0
            rows, at = rows[over], at[over] - 1
