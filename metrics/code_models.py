"""How probable a code is, by how often other clips had it: intervals for a range coder.

Three models of a stream, each with escapes as in PPM, method C (Moffat 1990). Of a context that was seen n times with d different codes,
a code seen c times has c of n + d, the escape d of n + d (none where all codes of the vocabulary were seen: then c of n):

    plain      every code alike, 1 of the vocabulary
    static     context: the codebook; what was not seen there escapes to plain
    order-1    context: the codebook and the code before, a start mark at the first position; escapes to static
"""

from dataclasses import dataclass

import numpy as np

from avbench.metrics.range_coder import Intervals, ideal_bits

MODELS = ("plain", "static", "order-1")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How often each code was seen in each context.

    keys: context x vocab + code, sorted, int64 (D + 1,), and one above all that are asked for. before: counts of all earlier keys, summed.
    contexts: int64 (C + 1,), sorted, and one above all. first: where the keys of each begin; of the last one, where all end.
    """

    keys: np.ndarray
    before: np.ndarray
    contexts: np.ndarray
    first: np.ndarray
    vocab: int

    @classmethod
    def of(cls, contexts: np.ndarray, codes: np.ndarray, vocab: int) -> "Counts":
        """contexts, codes: int64 of one shape."""
        keys, counts = np.unique(contexts * vocab + codes, return_counts=True)
        known, first = np.unique(keys // vocab, return_index=True)
        above = np.iinfo(np.int64).max
        before = np.concatenate([[0], np.cumsum(counts)])
        return cls(
            keys=np.append(keys, above), before=before, contexts=np.append(known, above), first=np.append(first, len(keys)), vocab=vocab
        )

    def intervals(self, contexts: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """start, size and total of each code, or of the escape, and whether it was the code: four arrays of the shape of `codes`."""
        key = contexts * self.vocab + codes
        place, number = np.searchsorted(self.keys, key), np.searchsorted(self.contexts, contexts)
        seen, met = self.keys[place] == key, self.contexts[number] == contexts
        first, last = self.first[number], self.first[number + met]
        times, kinds = self.before[last] - self.before[first], last - first
        escapes = np.where(kinds == self.vocab, 0, kinds)
        counts = np.diff(self.before, append=0)
        start = np.where(seen, self.before[place] - self.before[first], times)
        size = np.where(seen, counts[place], np.where(met, escapes, 1))
        return start, size, np.where(met, times + escapes, 1), seen


@dataclass(frozen=True, kw_only=True)
class StreamModel:
    """What is known of a stream from clips that are not the coded ones."""

    vocab: int
    codebook: Counts
    pair: Counts

    @classmethod
    def of(cls, codes: np.ndarray, vocab: int) -> "StreamModel":
        """codes: int64 (clips, K, L)."""
        codebooks, befores = _contexts(codes, vocab)
        return cls(vocab=vocab, codebook=Counts.of(codebooks, codes, vocab), pair=Counts.of(befores, codes, vocab))

    def intervals(self, codes: np.ndarray) -> tuple[np.ndarray, Intervals]:
        """int64 (clips, K, L) -> for each clip the shortest of MODELS, as a number (clips,), and its intervals, choice first."""
        codebooks, befores = _contexts(codes, self.vocab)
        plain = (codes, np.ones_like(codes), np.full_like(codes, self.vocab))
        *static, seen = self.codebook.intervals(codebooks, codes)
        *order1, followed = self.pair.intervals(befores, codes)
        ways = (
            _joined([plain]),
            _joined([static, _unless(seen, plain)]),
            _joined([order1, _unless(followed, static), _unless(followed | seen, plain)]),
        )
        choice = np.argmin([ideal_bits(way) for way in ways], axis=0)
        return choice, _chosen(choice, ways)


def _contexts(codes: np.ndarray, vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each code its codebook, and its codebook with the code before it."""
    codebooks = np.broadcast_to(np.arange(codes.shape[1])[:, None], codes.shape)
    before = np.concatenate([np.full_like(codes[..., :1], vocab), codes[..., :-1]], axis=2)
    return codebooks, codebooks * (vocab + 1) + before


_Triple = tuple[np.ndarray, ...] | list[np.ndarray]


def _unless(known: np.ndarray, parts: _Triple) -> _Triple:
    """Nothing where the code is known already."""
    return [np.where(known, nothing, part) for nothing, part in zip((0, 1, 1), parts, strict=True)]


def _joined(levels: list[_Triple]) -> Intervals:
    """The levels of each code one after the other, code after code: (clips, K, L) each -> (steps, clips)."""
    start, size, total = (np.stack([level[part] for level in levels], axis=-1) for part in range(3))
    return Intervals(start=_steps(start), size=_steps(size), total=_steps(total))


def _steps(part: np.ndarray) -> np.ndarray:
    return part.reshape(len(part), -1).T


def _chosen(choice: np.ndarray, ways: tuple[Intervals, ...]) -> Intervals:
    """Of each clip the way of its choice, after a step that says which."""
    steps = 1 + max(len(way.start) for way in ways)
    start, size, total = (np.full((steps, len(choice)), nothing, dtype=np.int64) for nothing in (0, 1, 1))
    start[0], total[0] = choice, len(ways)
    for number, way in enumerate(ways):
        clips, rows = np.flatnonzero(choice == number), slice(1, 1 + len(way.start))
        start[rows, clips], size[rows, clips], total[rows, clips] = way.start[:, clips], way.size[:, clips], way.total[:, clips]
    return Intervals(start=start, size=size, total=total)
