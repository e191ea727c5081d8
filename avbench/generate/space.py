"""Tokens <-> ids of one vocabulary. B clips, K codebooks, L positions.

A unified tokenizer gives ONE stream "joint": its modalities share a codebook, so they share ids. A tokenizer of two streams "video" and
"audio" has a codebook for each (even where they are of one size), so their ids are disjoint, and so are those of a stream's K codebooks.
K codebooks of L positions are flattened position by position: (l0 k0, l0 k1, ..., l1 k0, ...).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avbench.errors import AvbenchError, UsageError
from avbench.types import Tokens

MODALITIES = ("video", "audio")
JOINT = "joint"
MAX_POSITIONS = 16_384  # of one modality: 10 times LARP + EnCodec at 3 kbit/s
MAX_CODES = 2**20


@dataclass(frozen=True, kw_only=True)
class StreamShape:
    """A modality's codes of one clip: (num_codebooks, length), each in [0, vocab_size); its first id is `offset`."""

    num_codebooks: int
    length: int
    vocab_size: int
    offset: int

    @property
    def positions(self) -> int:
        """Ids of one clip."""
        return self.num_codebooks * self.length

    @property
    def num_ids(self) -> int:
        """Ids that this stream may use."""
        return self.num_codebooks * self.vocab_size

    def legal(self, codebook: int) -> tuple[int, int]:
        """The range of ids that codebook number `codebook` may use."""
        low = self.offset + codebook * self.vocab_size
        return low, low + self.vocab_size


@dataclass(frozen=True, kw_only=True)
class TokenSpace:
    """What a tokenizer's tokens look like. unified: one stream "joint", cut into video, then audio."""

    video: StreamShape
    audio: StreamShape
    unified: bool
    duration_s: float

    @property
    def num_codes(self) -> int:
        """Ids that stand for codes: [0, num_codes)."""
        return max(shape.offset + shape.num_ids for shape in (self.video, self.audio))

    def stream(self, modality: str) -> StreamShape:
        """The shape of "video" or "audio"."""
        return {"video": self.video, "audio": self.audio}[modality]

    def to_ids(self, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Codes by stream, int64 (B, K, L), to ids by modality, (B, K * L). Raises AvbenchError for codes of another space."""
        parts = self._cut(codes)
        for modality, values in parts.items():
            shape = self.stream(modality)
            if values.shape[1:] != (shape.num_codebooks, shape.length):
                expected = f"(clips, {shape.num_codebooks}, {shape.length})"
                raise AvbenchError(f"{modality} tokens of shape {tuple(values.shape)}; the generator was made for {expected}")
            if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < shape.vocab_size:
                raise AvbenchError(f"{modality} codes outside [0, {shape.vocab_size})")
        return {modality: self._shifted(values, self.stream(modality)) for modality, values in parts.items()}

    def to_tokens(self, ids: Mapping[str, Tensor]) -> Tokens:
        """Ids of both modalities, (B, K * L) each, to what the tokenizer decodes."""
        codes = {modality: self._unshifted(ids[modality], self.stream(modality)) for modality in MODALITIES}
        if self.unified:
            codes = {JOINT: torch.cat([codes[modality] for modality in MODALITIES], dim=2)}
        vocab_sizes = {name: self.stream("video" if name == JOINT else name).vocab_size for name in codes}
        return Tokens(codes=codes, vocab_sizes=vocab_sizes, duration_s=self.duration_s)

    def _cut(self, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if set(codes) == {JOINT} and self.unified:
            if codes[JOINT].shape[2] != self.video.length + self.audio.length:
                raise AvbenchError(f"a joint stream of {codes[JOINT].shape[2]} tokens; {self.video.length} + {self.audio.length} expected")
            return dict(zip(MODALITIES, codes[JOINT].split([self.video.length, self.audio.length], dim=2), strict=True))
        if set(codes) != set(MODALITIES):
            raise AvbenchError(f"tokens with the streams {sorted(codes)}; the generator was made for others")
        return dict(codes)

    def _shifted(self, codes_BKL: Tensor, shape: StreamShape) -> Tensor:
        return (codes_BKL.long() + self._offsets(shape, codes_BKL)).transpose(1, 2).flatten(1)

    def _unshifted(self, ids: Tensor, shape: StreamShape) -> Tensor:
        codes = ids.view(len(ids), shape.length, shape.num_codebooks).transpose(1, 2)
        return (codes - self._offsets(shape, ids)).contiguous()

    def _offsets(self, shape: StreamShape, like: Tensor) -> Tensor:
        return shape.offset + shape.vocab_size * torch.arange(shape.num_codebooks, device=like.device)[:, None]


def token_space(tokens: Tokens, stream_lengths: Mapping[str, int] | None) -> TokenSpace:
    """The space of `tokens`, of clips with both modalities. stream_lengths: where a joint stream is cut (`TokenizerInfo.stream_lengths`).

    Raises UsageError for tokens that no generator can be trained on: of one modality, of lengths that differ, or uncut.
    """
    if tokens.lengths:
        raise UsageError(f"clips differ in their number of {', '.join(sorted(tokens.lengths))} tokens; the generator needs a fixed number")
    if set(tokens.codes) == {JOINT}:
        return _unified(tokens, stream_lengths)
    if set(tokens.codes) != set(MODALITIES):
        raise UsageError(f"generation needs video and audio tokens, this tokenizer gives {', '.join(sorted(tokens.codes))}")
    video = _shape(tokens, "video", tokens.codes["video"].shape[2], 0)
    audio = _shape(tokens, "audio", tokens.codes["audio"].shape[2], video.num_ids)
    return _checked(TokenSpace(video=video, audio=audio, unified=False, duration_s=tokens.duration_s))


def _unified(tokens: Tokens, stream_lengths: Mapping[str, int] | None) -> TokenSpace:
    length = tokens.codes[JOINT].shape[2]
    if not stream_lengths or set(stream_lengths) != set(MODALITIES) or sum(stream_lengths.values()) != length:
        raise UsageError(
            f'a "joint" stream of {length} tokens, and the stream_lengths of its tokenizer ({stream_lengths}) do not say where it is cut; '
            'the info of a unified tokenizer states stream_lengths such as {"video": 256, "audio": 120}'
        )
    video, audio = (_shape(tokens, JOINT, stream_lengths[modality], 0) for modality in MODALITIES)
    return _checked(TokenSpace(video=video, audio=audio, unified=True, duration_s=tokens.duration_s))


def _shape(tokens: Tokens, stream: str, length: int, offset: int) -> StreamShape:
    return StreamShape(num_codebooks=tokens.codes[stream].shape[1], length=length, vocab_size=tokens.vocab_sizes[stream], offset=offset)


def _checked(space: TokenSpace) -> TokenSpace:
    for modality in MODALITIES:
        if not 1 <= space.stream(modality).positions <= MAX_POSITIONS:
            raise UsageError(f"{space.stream(modality).positions:,} {modality} tokens a clip; a generator takes 1 to {MAX_POSITIONS:,}")
    if space.num_codes > MAX_CODES:
        raise UsageError(f"a vocabulary of {space.num_codes:,} codes; a generator takes up to {MAX_CODES:,}")
    return space


def space_from_dict(values: Any) -> TokenSpace:
    """The inverse of `dataclasses.asdict`, after JSON. Raises AvbenchError for anything else."""
    try:
        shapes = {modality: StreamShape(**values[modality]) for modality in MODALITIES}
        space = TokenSpace(**{**values, **shapes})
        return _checked(space)
    except (KeyError, TypeError, UsageError) as error:
        raise AvbenchError(f"not a token space: {error}") from error
