"""Tokens <-> bytes: the only thing that reaches the decoder. One payload is one clip.

Layout, big-endian: magic "AVT1", duration in seconds (f64), number of streams (u8); for each stream its name (u8 length, ASCII),
whether its clips differ in length (u8), K (u16), L in use (u32) and vocab (u64); then for each stream the K x L codes, row by row,
ceil(log2 vocab) bits each, most significant bit first, filled up with zero bits to a whole byte.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from avbench.errors import AvbenchError
from avbench.run.bits import bits_per_code, pack, unpack
from avbench.types import Tokens

if TYPE_CHECKING:
    import torch

MAGIC = b"AVT1"
MAX_STREAMS = 16
MAX_NAME = 64  # bytes
MAX_VOCAB = 2**32
MAX_CODES = 2**27  # a stream of a clip: raw RGB of 250 frames of 256x256 are 49 M
MAX_BATCH_CODES = 2**28  # a padded stream of a batch: 2 GiB as int64
MAX_DURATION_S = 86_400.0
LENGTH_BITS = 32  # of a length that differs from clip to clip (metrics/tokens.py counts the same)
_HEAD = struct.Struct(">4sdB")
_STREAM = struct.Struct(">BHIQ")


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """What the header says of one stream of one clip."""

    name: str
    variable: bool
    num_codebooks: int
    length: int
    vocab: int

    @property
    def num_codes(self) -> int:
        return self.num_codebooks * self.length

    @property
    def num_bytes(self) -> int:
        return (self.num_codes * bits_per_code(self.vocab) + 7) // 8


def to_bytes(tokens: Tokens, clip: int) -> bytes:
    """The payload of clip number `clip`; positions beyond its length are left out.

    Raises AvbenchError that names stream, clip, position and value where a code is out of range, or what else is wrong.
    """
    _check_structure(tokens)
    streams = [_describe(tokens, name, clip) for name in tokens.codes]
    header = _HEAD.pack(MAGIC, tokens.duration_s, len(streams))
    for stream in streams:
        name = stream.name.encode("ascii")
        header += bytes([len(name)]) + name + _STREAM.pack(stream.variable, stream.num_codebooks, stream.length, stream.vocab)
    return header + b"".join(pack(_codes_in_use(tokens, stream, clip), bits_per_code(stream.vocab)) for stream in streams)


def from_bytes(payloads: Sequence[bytes]) -> Tokens:
    """The batch that `to_bytes` made `payloads` of: streams padded with zeros to their longest clip, lengths kept.

    Raises AvbenchError for anything but payloads of `to_bytes` that agree in streams, codebooks, vocabs and duration.
    """
    import torch

    if not payloads:
        raise AvbenchError("no payloads to read: a batch has at least one clip")
    clips = [_read(payload, clip) for clip, payload in enumerate(payloads)]
    duration_s, first, _ = clips[0]
    for clip, (other_s, streams, _) in enumerate(clips):
        if other_s != duration_s or [_kind(s) for s in streams] != [_kind(s) for s in first]:
            raise AvbenchError(f"payload of clip {clip} differs from clip 0 in streams, codebooks, vocabs or duration: not of one batch")
    codes, lengths = {}, {}
    for index, stream in enumerate(first):
        in_use = [streams[index].length for _, streams, _ in clips]
        codes[stream.name] = _pad([parts[index] for _, _, parts in clips], max(in_use), stream)
        if stream.variable:
            lengths[stream.name] = torch.tensor(in_use, dtype=torch.int64)
    vocab_sizes = {stream.name: stream.vocab for stream in first}
    return Tokens(codes=codes, vocab_sizes=vocab_sizes, duration_s=duration_s, lengths=lengths or None)


def format_of(payload: bytes) -> bytes:
    """What a payload says of its streams but for variable lengths: names, order, codebooks, fixed lengths, vocab sizes, duration.

    Its codes are not looked at.
    """
    duration_s, streams = _read_head(_Reader(payload, "payload of clip 0"))
    return repr((duration_s, [_kind(stream) for stream in streams])).encode()


def rates_of(payload: bytes) -> tuple[float, float, float]:
    """Codes a second, bits a second (as the metrics tokens_per_s and bits_per_s count them) and seconds of one clip's payload."""
    duration_s, streams, _ = _read(payload, 0)
    bits = sum(stream.num_codes * math.log2(stream.vocab) + LENGTH_BITS * stream.variable for stream in streams)
    return sum(stream.num_codes for stream in streams) / duration_s, bits / duration_s, duration_s


def check(tokens: Tokens, batch_size: int, *, most_codes: int | None = None) -> None:
    """Raise AvbenchError unless `tokens` are what `Tokens` promises, for `batch_size` clips. Names stream, clip, position and value.

    most_codes: of a clip, over all streams; told before the codes are looked at.
    `to_bytes` makes the same checks of one clip, so that a single bad clip can fail without its batch.
    """
    _check_structure(tokens)
    if len(tokens) != batch_size:
        raise AvbenchError(f"tokens hold {len(tokens)} clips, but {batch_size} were encoded")
    found = sum(codes.shape[1] * codes.shape[2] for codes in tokens.codes.values())
    if most_codes is not None and found > most_codes:
        raise AvbenchError(f"tokens are {found:,} codes a clip; {most_codes:,} are as many as can be of use")
    for clip in range(batch_size):
        for name in tokens.codes:
            _codes_in_use(tokens, _describe(tokens, name, clip), clip)


def _check_structure(tokens: Tokens) -> None:
    """Everything that can be said without looking at the codes."""
    if not isinstance(tokens, Tokens):
        raise AvbenchError(f"encode returned {type(tokens).__name__}, not Tokens")
    if not 1 <= len(tokens.codes) <= MAX_STREAMS:
        raise AvbenchError(f"tokens have {len(tokens.codes)} streams; 1 to {MAX_STREAMS} can be stored")
    if not isinstance(tokens.duration_s, int | float):
        raise AvbenchError(f"tokens' duration_s is a {type(tokens.duration_s).__name__}; it is the clips' length in seconds, one float")
    if not (math.isfinite(tokens.duration_s) and 0 < tokens.duration_s <= MAX_DURATION_S):
        raise AvbenchError(f"tokens' duration_s is {tokens.duration_s}; it is the clips' length in seconds, at most {MAX_DURATION_S:g}")
    if set(tokens.vocab_sizes) != set(tokens.codes):
        raise AvbenchError(f"streams of vocab_sizes {sorted(tokens.vocab_sizes)} are not those of codes {sorted(tokens.codes)}")
    for name in tokens.lengths or {}:
        if name not in tokens.codes:
            raise AvbenchError(f'lengths name stream "{name}", which codes lack')
    for name in tokens.codes:
        _check_stream(tokens, name)


def _check_stream(tokens: Tokens, name: str) -> None:
    import torch

    codes, vocab, where = tokens.codes[name], tokens.vocab_sizes[name], f'stream "{name}"'
    if not (type(name) is str and name.isascii() and name.isprintable() and 1 <= len(name) <= MAX_NAME):
        raise AvbenchError(f"{where}: a stream's name is 1 to {MAX_NAME} printable ASCII characters")
    if type(codes) is not torch.Tensor or codes.is_meta:
        kind = "a tensor without data (device meta)" if type(codes) is torch.Tensor else f"a {type(codes).__name__}"
        raise AvbenchError(f"{where}: codes are {kind}; an int64 tensor (B, K, L) is needed")
    if codes.dtype != torch.int64 or codes.dim() != 3:
        raise AvbenchError(f"{where}: codes are {codes.dtype} of shape {tuple(codes.shape)}; int64 (B, K, L) is needed")
    batch_size, num_codebooks, length = codes.shape
    if batch_size != len(tokens):
        raise AvbenchError(f"{where}: {batch_size} clips, but another stream has {len(tokens)}")
    if not 1 <= num_codebooks < 2**16 or num_codebooks * length > MAX_CODES:
        raise AvbenchError(f"{where}: {num_codebooks} codebooks of {length} positions; 1 to 65535, in all at most {MAX_CODES} codes a clip")
    if type(vocab) is not int or not 1 <= vocab <= MAX_VOCAB:
        raise AvbenchError(f"{where}: vocab size is {vocab!r}; an int from 1 to {MAX_VOCAB} is needed")
    lengths = (tokens.lengths or {}).get(name)
    if lengths is not None and type(lengths) is not torch.Tensor:
        raise AvbenchError(f"{where}: lengths are a {type(lengths).__name__}; an int64 tensor ({batch_size},) is needed")
    if lengths is not None and (lengths.dtype != torch.int64 or lengths.shape != (batch_size,)):
        raise AvbenchError(f"{where}: lengths are {lengths.dtype} of shape {tuple(lengths.shape)}; int64 ({batch_size},) is needed")


def _describe(tokens: Tokens, name: str, clip: int) -> _Stream:
    """The header of one stream; raises AvbenchError for a length that its codes do not have."""
    _, num_codebooks, padded = tokens.codes[name].shape
    length = tokens.length(name, clip)
    if not 0 <= length <= padded:
        raise AvbenchError(f'stream "{name}", clip {clip}: length {length} is outside [0, {padded}]')
    variable = tokens.lengths is not None and name in tokens.lengths
    return _Stream(name=name, variable=variable, num_codebooks=num_codebooks, length=length, vocab=tokens.vocab_sizes[name])


def _codes_in_use(tokens: Tokens, stream: _Stream, clip: int) -> np.ndarray:
    """int64 (K, L in use), every code in [0, vocab)."""
    codes = tokens.codes[stream.name][clip, :, : stream.length].cpu().numpy()
    if codes.size and (codes.min() < 0 or codes.max() >= stream.vocab):
        codebook, position = np.argwhere((codes < 0) | (codes >= stream.vocab))[0]
        where = f'stream "{stream.name}", clip {clip}, codebook {codebook}, position {position}'
        raise AvbenchError(f"{where}: code {codes[codebook, position]} is outside [0, {stream.vocab})")
    return codes


def _read(payload: bytes, clip: int) -> tuple[float, list[_Stream], list[np.ndarray]]:
    """Duration, headers and codes (K, L) of one payload; nothing in it is trusted."""
    reader = _Reader(payload, f"payload of clip {clip}")
    duration_s, streams = _read_head(reader)
    codes = [_read_codes(reader, stream) for stream in streams]
    if reader.left:
        raise AvbenchError(f"{reader.where} goes on for {reader.left} bytes after its last code")
    return duration_s, streams, codes


def _read_head(reader: _Reader) -> tuple[float, list[_Stream]]:
    """Duration and headers; what follows are the codes."""
    magic, duration_s, num_streams = _HEAD.unpack(reader.take(_HEAD.size))
    if magic != MAGIC or not 1 <= num_streams <= MAX_STREAMS:
        raise AvbenchError(f"{reader.where} does not begin as avbench writes it ({magic!r}, {num_streams} streams)")
    if not (math.isfinite(duration_s) and 0 < duration_s <= MAX_DURATION_S):
        raise AvbenchError(f"{reader.where}: duration {duration_s} s")
    streams = [_read_stream(reader) for _ in range(num_streams)]
    if len({stream.name for stream in streams}) != num_streams:
        raise AvbenchError(f"{reader.where} names a stream twice")
    return duration_s, streams


def _read_stream(reader: _Reader) -> _Stream:
    name = reader.take(reader.take(1)[0])
    variable, num_codebooks, length, vocab = _STREAM.unpack(reader.take(_STREAM.size))
    sizes_fit = num_codebooks >= 1 and num_codebooks * length <= MAX_CODES and 1 <= vocab <= MAX_VOCAB
    if not (
        1 <= len(name) <= MAX_NAME and name.isascii() and name.decode("ascii", "replace").isprintable() and variable <= 1 and sizes_fit
    ):
        raise AvbenchError(
            f"{reader.where}: stream {name!r} with {num_codebooks} codebooks of {length} positions, vocab {vocab}: over the limits"
        )
    return _Stream(name=name.decode("ascii"), variable=bool(variable), num_codebooks=num_codebooks, length=length, vocab=vocab)


def _read_codes(reader: _Reader, stream: _Stream) -> np.ndarray:
    width, data = bits_per_code(stream.vocab), reader.take(stream.num_bytes)
    codes = unpack(data, width, stream.num_codes)
    if codes.size and codes.max() >= stream.vocab:
        raise AvbenchError(f'{reader.where}: stream "{stream.name}" has code {codes.max()}, outside [0, {stream.vocab})')
    spare = 8 * stream.num_bytes - stream.num_codes * width
    if spare and data[-1] & ((1 << spare) - 1):
        raise AvbenchError(f'{reader.where}: stream "{stream.name}" hides data in the bits that fill up its last byte')
    return codes.reshape(stream.num_codebooks, stream.length)


def _kind(stream: _Stream) -> tuple[str, bool, int, int, int]:
    """What the clips of a batch agree in: everything but a variable length."""
    return stream.name, stream.variable, stream.num_codebooks, stream.vocab, -1 if stream.variable else stream.length


def _pad(parts: list[np.ndarray], length: int, stream: _Stream) -> torch.Tensor:
    import torch

    if len(parts) * stream.num_codebooks * length > MAX_BATCH_CODES:
        raise AvbenchError(
            f'stream "{stream.name}": {len(parts)} clips of {length} positions are over {MAX_BATCH_CODES} codes; smaller batches'
        )
    codes = torch.zeros(len(parts), stream.num_codebooks, length, dtype=torch.int64)
    for row, part in zip(codes, parts, strict=True):
        row[:, : part.shape[1]] = torch.from_numpy(part)
    return codes


class _Reader:
    """Takes bytes from the front of a payload; raises AvbenchError where it ends too soon."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data, self._at, self.where = data, 0, where

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise AvbenchError(f"{self.where} ends after {len(self._data)} bytes, {count - self.left} too soon")
        self._at += count
        return self._data[self._at - count : self._at]
