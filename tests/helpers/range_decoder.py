"""Reads what avbench/metrics/range_coder.py wrote: one message, Python's integers, statistics in Counters. Shares no code with it."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence

Codes = list[list[int]]  # of a stream of a clip: K codebooks of L codes
PLAIN, STATIC, ORDER_1 = range(3)


class Decoder:
    """A message of `bits`, followed by what happens to follow."""

    def __init__(self, data: bytes, bits: int, seed: int = 0) -> None:
        self.bits = self._all(data, bits, random.Random(seed))
        self.offset, self.range = 0, 2**56
        for _ in range(56):
            self.offset = 2 * self.offset + next(self.bits)

    @staticmethod
    def _all(data: bytes, bits: int, noise: random.Random) -> Iterator[int]:
        for number in range(bits):
            yield data[number // 8] >> (7 - number % 8) & 1
        while True:
            yield noise.randrange(2)

    def target(self, total: int) -> int:
        """A number in [0, total): the interval that holds it is the one that was coded."""
        return self.offset // (self.range // total)

    def take(self, start: int, size: int, total: int) -> None:
        step = self.range // total
        self.offset -= step * start
        self.range = step * size
        while self.range <= 2**48:
            self.range *= 256
            for _ in range(8):
                self.offset = 2 * self.offset + next(self.bits)


def decode(message: bytes, bits: int, others: Sequence[Sequence[Codes]], vocabs: Sequence[int], seed: int = 0) -> list[Codes]:
    """The streams of a clip. others: the clips whose statistics were used, each all streams."""
    decoder = Decoder(message, bits, seed)
    return [_stream(decoder, [clip[number] for clip in others], vocab) for number, vocab in enumerate(vocabs)]


def _stream(decoder: Decoder, others: list[Codes], vocab: int) -> Codes:
    model = decoder.target(3)
    decoder.take(model, 1, 3)
    shape = others[0]
    found: Codes = []
    for codebook in range(len(shape)):
        seen = Counter(code for clip in others for code in clip[codebook])
        pairs: dict[int | None, Counter[int]] = {}
        for clip in others:
            for before, code in zip([None, *clip[codebook]], clip[codebook], strict=False):
                pairs.setdefault(before, Counter())[code] += 1
        row: list[int] = []
        for _ in shape[codebook]:
            follows = pairs.get(row[-1] if row else None, Counter())
            row.append(_code(decoder, {PLAIN: [], STATIC: [seen], ORDER_1: [follows, seen]}[model], vocab))
        found.append(row)
    return found


def _code(decoder: Decoder, contexts: list[Counter[int]], vocab: int) -> int:
    for counts in contexts:
        if not counts:
            continue
        times = sum(counts.values())
        total = times + (0 if len(counts) == vocab else len(counts))
        target, start = decoder.target(total), 0
        for code in sorted(counts):
            if start <= target < start + counts[code]:
                decoder.take(start, counts[code], total)
                return code
            start += counts[code]
        decoder.take(times, total - times, total)
    code = decoder.target(vocab)
    decoder.take(code, 1, vocab)
    return code
