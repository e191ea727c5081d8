"""Token accounting, from the tokens that the decoder received: rates, and how much of the codebooks is used.

A code is one entry of one codebook: a position of a stream with K codebooks counts K times. EnCodec at 6 kbps is 8 codebooks x 75 Hz
x log2(1024) bits = 6000 bits/s, WavTokenizer 75 Hz x log2(4096) = 900.

What else a decoder receives: streams, codebooks and vocab sizes are the same for every clip of a run (the run sees to it) and tell nothing
of a clip; how long a stream of varying length is may tell something, and counts as the 32 bits that it takes in the payload.
"""

import math

import numpy as np
import torch
from torch import Tensor

from avbench.metric import MetricInfo, MetricUnavailable, PerClipMetric
from avbench.types import ClipBatch, Tokens

LENGTH_BITS = 32  # a length of the payload (avbench/run/payload.py)
MAX_ENTRIES = 16_384  # of all codebooks together: a row is a histogram over them
_CODES = "codes of all streams and codebooks, as the decoder received them"
_POOLED = (
    f"over all clips, entries of all codebooks of all streams pooled (at most {MAX_ENTRIES}); grows with the number of tokens: "
    "read it beside tokens_per_s times the clips' seconds"
)


def tokens_per_second(tokens: Tokens) -> Tensor:
    """Codes a second of each clip, over all streams and codebooks: (B,) float64."""
    return sum(_codes_per_clip(tokens).values()) / tokens.duration_s  # type: ignore[return-value]


def bits_per_second(tokens: Tokens) -> Tensor:
    """Bits a second of each clip: codes x log2(vocab), over all streams and codebooks, and LENGTH_BITS a varying length: (B,) float64."""
    bits = [codes * math.log2(tokens.vocab_sizes[name]) for name, codes in _codes_per_clip(tokens).items()]
    return (sum(bits) + LENGTH_BITS * len(tokens.lengths or {})) / tokens.duration_s  # type: ignore[return-value]


def code_histogram(tokens: Tokens) -> Tensor:
    """How often each clip uses each entry: int64 (B, entries), the codebooks of the streams one after another.

    Raises MetricUnavailable where all codebooks have more than MAX_ENTRIES entries together.
    """
    entries = sum(codes.shape[1] * tokens.vocab_sizes[name] for name, codes in tokens.codes.items())
    if entries > MAX_ENTRIES:
        raise MetricUnavailable(f"codebooks of {entries:,} entries in all; counted up to {MAX_ENTRIES:,}")
    return torch.cat([_stream_histogram(tokens, name) for name in tokens.codes], dim=1)


def codebook_use(counts: np.ndarray) -> float:
    """Share of entries that occur at all, for counts (..., entries)."""
    return float((_total(counts) > 0).mean())


def codebook_perplexity(counts: np.ndarray) -> float:
    """2^entropy of the entries' frequencies, from 1 (one entry) to the number of entries (all alike), for counts (..., entries)."""
    total = _total(counts)
    share = total[total > 0] / total.sum()
    return float(2 ** -(share * np.log2(share)).sum())


def _total(counts: np.ndarray) -> np.ndarray:
    return counts.reshape(-1, counts.shape[-1]).sum(axis=0, dtype=np.float64)


def _codes_per_clip(tokens: Tokens) -> dict[str, Tensor]:
    """Stream name -> codes in use of each clip, (B,) float64."""
    clips = range(len(tokens))
    positions = {name: [tokens.length(name, clip) for clip in clips] for name in tokens.codes}
    return {name: tokens.codes[name].shape[1] * torch.tensor(lengths, dtype=torch.float64) for name, lengths in positions.items()}


def _stream_histogram(tokens: Tokens, name: str) -> Tensor:
    """int64 (B, K * vocab); positions beyond a clip's length are not counted."""
    codes, vocab = tokens.codes[name], tokens.vocab_sizes[name]
    num_codebooks = codes.shape[1]
    rows = []
    for clip in range(len(tokens)):
        used = codes[clip, :, : tokens.length(name, clip)]
        offsets = vocab * torch.arange(num_codebooks, device=codes.device)[:, None]
        rows.append(torch.bincount((used + offsets).flatten(), minlength=num_codebooks * vocab))
    return torch.stack(rows)


class TokensPerSecond(PerClipMetric):
    """Codes per second of clip, as the decoder received them."""

    info = MetricInfo(
        name="tokens_per_s",
        unit="1/s",
        higher_is_better=None,
        tolerance=0,
        needs=frozenset({"tokens"}),
        per_clip=True,
        protocol=f"{_CODES}, per second of clip",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return tokens_per_second(tokens)


class BitsPerSecond(PerClipMetric):
    """Bits per second of clip: log2(vocabulary) a code, as received."""

    info = MetricInfo(
        name="bits_per_s",
        unit="bit/s",
        higher_is_better=None,
        tolerance=0,
        needs=frozenset({"tokens"}),
        per_clip=True,
        version=2,
        protocol=(
            f"{_CODES}, log2(vocab) bits each, and {LENGTH_BITS} bits for the length of each stream whose clips differ in it, "
            "per second of clip; no entropy coding, no container"
        ),
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return bits_per_second(tokens)


class CodebookUse:
    """Share of all codebook entries that the clips use. A row is a histogram."""

    info = MetricInfo(
        name="codebook_use",
        unit="share",
        higher_is_better=None,
        tolerance=1e-9,
        needs=frozenset({"tokens"}),
        additive=True,
        protocol=f"share of entries seen {_POOLED}",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return code_histogram(tokens)

    def compute(self, rows: np.ndarray) -> float:
        return codebook_use(rows)


class CodebookPerplexity:
    """2 to the entropy of the codebook entries. A row is a histogram."""

    info = MetricInfo(
        name="codebook_perplexity",
        unit="entries",
        higher_is_better=None,
        tolerance=1e-9,
        needs=frozenset({"tokens"}),
        additive=True,
        protocol=f"2^entropy of entries {_POOLED}",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return code_histogram(tokens)

    def compute(self, rows: np.ndarray) -> float:
        return codebook_perplexity(rows)
