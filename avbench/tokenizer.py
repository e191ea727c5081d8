"""What a tokenizer is: the one page that a plugin author reads.

    class MyTokenizer:
        info = TokenizerInfo(name="mine", revision="1", modalities=frozenset({"video"}), ...)
        def encode(self, batch: ClipBatch) -> Tokens: ...
        def decode(self, tokens: Tokens) -> ClipBatch: ...

Register the class (or any callable that returns a tokenizer) under the entry-point group `avbench.tokenizers`, or try it with
`avbench run --tokenizer path/to/file.py:MyTokenizer`. `avbench check NAME` tells whether it keeps the rules below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from avbench.protocol import Protocol as ClipProtocol
from avbench.types import ClipBatch, Tokens

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class TokenizerInfo:
    """Facts about a tokenizer, shown beside its row. Numbers that are not known stay None."""

    name: str
    revision: str  # changes whenever the numbers may: a weights sha256, a version, a setting
    modalities: frozenset[str]  # of {"video", "audio"}: what it encodes and gives back
    sample_rate: int | None = None  # Hz, what it works at inside
    fps: float | None = None
    resolution: int | None = None  # pixels a side
    parameters: int = 0  # learned numbers used for encode and decode
    trained_on: str = "nothing"
    kind: str = "learned"  # "learned", "classical", "linear" or "control"
    stream_lengths: Mapping[str, int] | None = None  # where a stream "joint" is cut: {"video": 256, "audio": 120}
    shipped_generator: Path | None = None  # folder of a generator of these tokens that came with it
    entropy_coded: frozenset[str] = frozenset()  # streams whose codes are the bytes of a codec that codes by probability (H.264, Opus)

    def facts(self) -> dict[str, Any]:
        """As manifest.json and result.json have it: what is shown beside the row."""
        hidden = ("stream_lengths", "shipped_generator", "entropy_coded")
        shown = {**{key: value for key, value in asdict(self).items() if key not in hidden}, "modalities": sorted(self.modalities)}
        return shown | ({"entropy_coded": sorted(self.entropy_coded)} if self.entropy_coded else {})


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    """What the command line hands a constructor whose first parameter is annotated so, is called `options`, or has no default."""

    variants: tuple[str, ...] = ()  # "h264@20k-opus@6k" -> ("20k", "6k")
    checkpoint: Path | None = None
    device: torch.device = field(default_factory=_cpu)
    seed: int = 0
    protocol: ClipProtocol | None = None  # of the split, where it is known. A constructor that cannot work at it raises UsageError


@runtime_checkable
class Tokenizer(Protocol):
    """Rules: encode and decode are deterministic, a clip's result does not depend on its batch, and decode uses nothing but `tokens`:
    it runs in another process, on an object that never encoded anything.

    encode takes the split's clips as they are (video (B,T,3,H,W) in [0,1], audio (B,C,N) in [-1,1]) and resamples at its own edges.
    `tokens.duration_s` is the clips' duration. decode returns every modality of `info.modalities` as floats in range, at the fps, size
    and sample rate of the split; longer audio is trimmed. Shorter audio, NaN, integers, or values more than 0.01 beyond the range are a
    failed clip. `ids` and `labels` stay empty; `fps` counts for video, `sample_rate` for audio.

    Every clip of a run has the same streams, codebooks and vocab sizes; a stream whose clips differ in length says so in `lengths`,
    which count as bits. torch's switches (default dtype, autocast, precision, threads) are left as they were found: both parts of an
    "A+B" share them.
    """

    info: TokenizerInfo

    def encode(self, batch: ClipBatch) -> Tokens: ...

    def decode(self, tokens: Tokens) -> ClipBatch: ...
