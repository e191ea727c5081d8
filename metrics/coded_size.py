"""Entropy-coded size of a tokenizer's codes: what a real range coder makes of them, beside the nominal bits_per_s.

H.264 and Opus code their symbols by how probable they are; log2(vocabulary) bits a code do not. This does for any tokenizer what they
do: statistics of one half of the split's clips code the other half, and the other way round. The bits are counted, not estimated.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from avbench.metric import MetricInfo, MetricOptions, MetricUnavailable
from avbench.metrics.code_models import MODELS, StreamModel
from avbench.metrics.range_coder import Intervals, Messages, encode
from avbench.metrics.tokens import bits_per_second
from avbench.types import ClipBatch, Tokens

MAX_CODES = 16_384  # of a clip: rows are the codes, 64 kB a clip at most
MAX_VOCAB = 2**24  # whole numbers that float32 rows hold
_AT_ONCE = 2**19  # codes: bounds the memory, some 200 bytes each
_HEAD, _OF_STREAM = 4, 3


@dataclass(frozen=True, kw_only=True)
class CodedStream:
    """codes: int64 (clips, K, L) in [0, vocab)."""

    codes: np.ndarray
    vocab: int


def coded_bits(streams: Sequence[CodedStream], keys: np.ndarray) -> np.ndarray:
    """Bits of each clip, all streams in one message: int64 (N,).

    keys: (N,) number of each clip, any; the half with the smaller ones is coded by the statistics of the other half, and vice versa.
    """
    bits = np.zeros(len(keys), dtype=np.int64)
    for clips, messages in coded(streams, keys):
        bits[clips] = messages.bits
    return bits


def coded(streams: Sequence[CodedStream], keys: np.ndarray) -> Iterator[tuple[np.ndarray, Messages]]:
    """Some clips and their messages, until all are coded."""
    order = np.argsort(keys, kind="stable")
    halves = np.sort(order[: -(-len(order) // 2)]), np.sort(order[-(-len(order) // 2) :])
    codes_each = max(1, sum(stream.codes[0].size for stream in streams) if len(keys) else 1)
    for clips, others in (halves, halves[::-1]):
        models = [StreamModel.of(stream.codes[others], stream.vocab) for stream in streams]
        for some in np.array_split(clips, max(1, -(-len(clips) * codes_each // _AT_ONCE))):
            parts = [model.intervals(stream.codes[some])[1] for model, stream in zip(models, streams, strict=True)]
            if len(some) and parts:
                yield some, encode(_in_line(parts))


def _in_line(parts: list[Intervals]) -> Intervals:
    """Streams one after the other, without the steps that say nothing; messages of fewer steps than the longest are filled up by such."""
    start, size, total = (np.concatenate([getattr(part, name) for part in parts]).T for name in ("start", "size", "total"))
    says = size != total
    clips, steps = np.nonzero(says)
    places = (np.cumsum(says, axis=1) - 1)[clips, steps]
    lines = [np.full((int(says.sum(axis=1).max(initial=0)), len(says)), nothing, dtype=np.int64) for nothing in (0, 1, 1)]
    for line, part in zip(lines, (start, size, total), strict=True):
        line[places, clips] = part[clips, steps]
    return Intervals(start=lines[0], size=lines[1], total=lines[2])


def rows_of(tokens: Tokens, ids: Sequence[str], entropy_coded: frozenset[str]) -> Tensor:
    """A clip's codes with what is needed to read them: float32 (B, D).

    [key of the half, bit/s of the streams that are coded already, seconds, number of other streams; K, L and vocab of each; its codes].
    Raises MetricUnavailable for codes that are too many, too large, or of a number that varies.
    """
    own = [name for name in tokens.codes if name not in entropy_coded and tokens.vocab_sizes[name] > 1]
    for name in own:
        if name in (tokens.lengths or {}):
            raise MetricUnavailable(
                f'stream "{name}" varies in length; a tokenizer whose codes are a codec\'s bytes says so in TokenizerInfo.entropy_coded'
            )
    vocabs, sizes = [tokens.vocab_sizes[name] for name in own], [tokens.codes[name].shape[1:].numel() for name in own]
    if sum(sizes) > MAX_CODES or max(vocabs, default=1) > MAX_VOCAB:
        raise MetricUnavailable(f"{sum(sizes):,} codes a clip of {max(vocabs):,} entries; coded up to {MAX_CODES:,} of {MAX_VOCAB:,}")
    rates = bits_per_second(_without(tokens, own)) if len(own) < len(tokens.codes) else torch.zeros(len(tokens))
    shapes = [side for name, vocab in zip(own, vocabs, strict=True) for side in (*tokens.codes[name].shape[1:], vocab)]
    heads = [[_key(clip), float(rate), tokens.duration_s, len(own), *shapes] for clip, rate in zip(ids, rates, strict=True)]
    codes = [tokens.codes[name].flatten(1).cpu().float() for name in own]
    return torch.cat([torch.tensor(heads, dtype=torch.float32), *codes], dim=1)


def _without(tokens: Tokens, own: list[str]) -> Tokens:
    """The tokens without some streams."""
    lengths = {name: lengths for name, lengths in (tokens.lengths or {}).items() if name not in own}
    return replace(tokens, codes={name: codes for name, codes in tokens.codes.items() if name not in own}, lengths=lengths or None)


def _key(clip: str) -> int:
    """24 bits of a hash of the clip's name: halves are then the same for every tokenizer, and by chance."""
    return int.from_bytes(hashlib.sha256(clip.encode()).digest()[:3], "big")


def streams_of(rows: np.ndarray) -> list[CodedStream]:
    """The codes of rows (N, D) of `rows_of`."""
    count = int(rows[0, _HEAD - 1])
    shapes = rows[0, _HEAD : _HEAD + _OF_STREAM * count].astype(np.int64).reshape(count, _OF_STREAM)
    streams, at = [], _HEAD + _OF_STREAM * count
    for codebooks, length, vocab in shapes.tolist():
        end = at + codebooks * length
        streams.append(CodedStream(codes=rows[:, at:end].astype(np.int64).reshape(-1, codebooks, length), vocab=vocab))
        at = end
    return streams


class CodedBitsPerSecond:
    """Bits a second of entropy-coded codes.

    A row is what `rows_of` says; the value is the mean of `coded_bits` a second, and of the nominal rate of streams that are coded already.
    """

    info = MetricInfo(
        name="coded_bits_per_s",
        unit="bit/s",
        higher_is_better=None,
        default=False,
        min_clips=2,
        needs=frozenset({"tokens"}),
        tolerance=1e-4,
        protocol=(
            f"bits of a range coder for a clip's codes, per second of clip; of {', '.join(MODELS)} (escapes of PPM method C, per codebook, "
            "position-free) the shortest for each clip and stream, log2(3) bits to say which; counts of the half of the clips that the "
            "clip is not of, halves by sha256 of the clips' names; streams declared as entropy-coded at their nominal rate"
        ),
    )

    def __init__(self, options: MetricOptions) -> None:
        self.entropy_coded = options.entropy_coded

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return rows_of(tokens, reference.ids, self.entropy_coded)

    def compute(self, rows: np.ndarray) -> float:
        bits = coded_bits(streams_of(rows), rows[:, 0])
        return float(np.mean(rows[:, 1] + bits / np.float64(rows[0, 2])))
