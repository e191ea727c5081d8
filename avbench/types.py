"""Every dataclass that crosses a module boundary. Shapes: B clips, T frames, C channels, N samples, K codebooks, L positions.

Imports no torch: the command line and the leaderboards read this page, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from avbench.errors import UsageError
from avbench.protocol import Protocol as Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DEFAULT_TASK = "reconstruct"
SIDES = ("reference/", "output/")  # what a clip's id begins with where two sets are compared that have no pairs


@dataclass(frozen=True, kw_only=True)
class ClipRef:
    """A clip of a split, not yet decoded. `id` is unique in the split; `label` is None where the class is not known."""

    id: str
    label: str | None


@dataclass(frozen=True, kw_only=True)
class ClipFailure:
    """A clip that could not be evaluated: becomes a row with status "failed", never a substitute."""

    id: str
    label: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """Decoded clips. A reference names its clips; a reconstruction may leave `ids` and `labels` empty."""

    ids: tuple[str, ...] = ()
    labels: tuple[str | None, ...] = ()
    video: Tensor | None = None  # (B, T, 3, H, W) float32 in [0, 1]
    audio: Tensor | None = None  # (B, C, N) float32 in [-1, 1]
    fps: float
    sample_rate: int

    def __len__(self) -> int:
        for part in (self.video, self.audio):
            if part is not None:
                return part.shape[0]
        return len(self.ids)

    def to(self, device: torch.device | str) -> ClipBatch:
        """The same batch on another device."""
        return self._map(lambda x: x.to(device))

    def copy(self) -> ClipBatch:
        """The same clips in memory of their own."""
        return self._map(lambda x: x.clone())

    def select(self, indices: list[int]) -> ClipBatch:
        """The clips at `indices`, in that order."""
        picked = self._map(lambda x: x[indices])
        ids = tuple(self.ids[i] for i in indices) if self.ids else ()
        labels = tuple(self.labels[i] for i in indices) if self.labels else ()
        return replace(picked, ids=ids, labels=labels)

    def _map(self, fn: Callable[[Tensor], Tensor]) -> ClipBatch:
        video = None if self.video is None else fn(self.video)
        audio = None if self.audio is None else fn(self.audio)
        return replace(self, video=video, audio=audio)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What a tokenizer makes of a batch: all that its decoder ever sees.

    codes: stream name ("video", "audio" or "joint"; "audio.scale" for what goes along) -> int64 (B, K, L), values in
        [0, vocab_sizes[stream]).
    vocab_sizes: stream name -> number of entries of its codebook.
    duration_s: length of the encoded clips in seconds.
    lengths: stream name -> int64 (B,), how many of the L positions are in use, for tokenizers whose clips differ in
        length (a codec's byte stream). A stream that is absent here uses all L positions.
    """

    codes: dict[str, Tensor]
    vocab_sizes: dict[str, int]
    duration_s: float
    lengths: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return next(iter(self.codes.values())).shape[0]

    def copy(self) -> Tokens:
        """The same tokens in memory of their own."""
        lengths = self.lengths and {name: tensor.clone() for name, tensor in self.lengths.items()}
        codes = {name: tensor.clone() for name, tensor in self.codes.items()}
        return replace(self, codes=codes, vocab_sizes=dict(self.vocab_sizes), lengths=lengths)

    def same_as(self, other: Tokens) -> bool:
        """Whether streams, codes, vocabs and lengths are the same."""
        pairs = [(self.codes, other.codes), (self.lengths or {}, other.lengths or {})]
        same = all(a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a) for a, b in pairs)
        return same and (self.vocab_sizes, self.duration_s) == (other.vocab_sizes, other.duration_s)

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens with their codes on another device."""
        return replace(self, codes={name: codes.to(device) for name, codes in self.codes.items()})

    def length(self, stream: str, clip: int) -> int:
        """Positions in use in `stream` of clip number `clip`."""
        if self.lengths is not None and stream in self.lengths:
            return int(self.lengths[stream][clip])
        return self.codes[stream].shape[2]


@dataclass(frozen=True, kw_only=True)
class MetricValue:
    """One cell of a table. `value` is None where it could not be computed, and `reason` then says why."""

    name: str
    value: float | None
    ci_low: float | None = None  # bootstrap 95 % interval over clips
    ci_high: float | None = None
    num_clips: int = 0
    num_failed: int = 0
    protocol: str = ""
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a generator's tokens are sampled. temperature 0: the likeliest. top_k 0, top_p 1: all. guidance: of u + s (c - u); 1: the
    condition alone.

    chain: of task av, the sound is sampled from the sampled picture as v2a does it, p(video | class) p(audio | video), so that guidance
    of the sound strengthens what the picture says. Else from class and picture, where guidance strengthens only what the class adds.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0
    chain: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100:
            raise UsageError(f"temperature {self.temperature:g}: from 0 (the likeliest token) to 100")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UsageError(f"top-k {self.top_k}, top-p {self.top_p:g}: top-k is 0 (all) or more, top-p in (0, 1]")
        if not 0 <= self.guidance < 100:
            raise UsageError(f"guidance {self.guidance:g}: from 0 (no condition) to 100; 1 is the condition alone")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Finished clips that were made elsewhere, to be scored against a split's.

    folder: where they lie. pairs: a CSV that says which is whose; None: files of one name belong together. bits_per_s: their maker's
    word. only: of "video", "audio", what is scored; None: what both sides have. fps: of folders of PNGs. unpaired: they stand for no
    reference each, and are compared as a set with the set of the references.
    """

    folder: str
    pairs: str | None = None
    bits_per_s: float | None = None
    only: str | None = None
    fps: float | None = None
    unpaired: bool = False

    def __post_init__(self) -> None:
        if self.only not in (None, "video", "audio"):
            raise UsageError(f"--only {self.only}: video or audio")
        if self.bits_per_s is not None and not 0 < self.bits_per_s <= 1e9:
            raise UsageError(f"--bits-per-s {self.bits_per_s:g}: above 0, at most 1e9")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"--fps {self.fps:g}: above 0, at most 1,000")
        if self.unpaired and (self.pairs is not None or self.bits_per_s is not None or self.only is not None):
            raise UsageError("--unpaired goes without --pairs, --bits-per-s and --only (REFERENCE?only=video has pictures alone)")


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """What `avbench run` was asked for. `metrics`: names, and of sets; empty: every default metric of the task.

    generator: folder of a trained generator, for the tasks that generate; None: the one that fits. outputs: what is scored instead of
    what a tokenizer makes; `tokenizer` is then the name of the row.
    """

    tokenizer: str
    split: str
    task: str = DEFAULT_TASK
    metrics: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    batch_size: int = 8
    checkpoint: str | None = None
    generator: str | None = None
    sampling: Sampling = Sampling()
    outputs: Outputs | None = None
    tokenizer_args: tuple[tuple[str, Any], ...] = ()  # of its constructor, by name

    def facts(self) -> dict[str, Any]:
        """As manifest.json and result.json have it: one flat object. Of outputs without the paths: their content is in the revision."""
        facts = asdict(self)
        outputs, args = facts.pop("outputs"), dict(facts.pop("tokenizer_args"))
        keys = ("bits_per_s", "only", "fps", *(["unpaired"] if outputs and outputs["unpaired"] else []))
        scored = {"scored": {key: outputs[key] for key in keys}} if outputs else {}
        return facts | facts.pop("sampling") | scored | ({"tokenizer_args": args} if args else {})
