"""What a task is: the one page for whoever adds one. It says what stands between a reference clip and the clip that is measured.

    class Backwards(Task):
        name = "backwards"
        words = Words(title="Backwards", ...)
        def load(self, spec, device): self.info = ...; self.decoder = DecoderSpec(...)
        def produce(self, reference): return tokens of what is to be shown

Register the class under the entry-point group `avbench.tasks`; `avbench run --task NAME` then does the rest: the tokens become bytes and
are kept, `decoder` makes clips of them in another interpreter, `finish` says what is measured, and every metric gives its rows.
`reconstruct` (avbench/run/reconstruct.py) is the shortest one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from avbench.metric import Metric, MetricInfo
from avbench.protocol import Protocol
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, RunSpec, Tokens

if TYPE_CHECKING:
    import torch

    from avbench.data.batches import Split
    from avbench.switches import Apart

MODALITIES = frozenset({"video", "audio"})


@dataclass(frozen=True, kw_only=True)
class Card:
    """Something of the real clip that a gallery shows once, whatever the rows. says: a text of the clip instead of media ("label")."""

    key: str
    title: str
    shows: frozenset[str] = MODALITIES
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What pages say of a task. title: of its group on the front page. remark: what is measured there. intro: of its gallery.

    shows: modalities that a row makes. generates: what is made is no description of the clip, so more bits need not make it better.
    controls: name of a control's row -> which clips it shows.
    """

    title: str
    remark: str
    intro: str
    cards: tuple[Card, ...]
    shows: frozenset[str] = MODALITIES
    generates: bool = False
    controls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DecoderSpec:
    """Whose `decode` makes clips of the bytes: what another interpreter needs to load it. It is never handed more."""

    tokenizer: str
    checkpoint: str | None
    seed: int
    protocol: Protocol = field(default_factory=Protocol)
    args: Mapping[str, Any] = field(default_factory=dict)


class Task(ABC):
    """A task of one run: made without arguments, then `load`, `begin`, and for each batch `produce` and `finish`."""

    name: ClassVar[str]
    words: ClassVar[Words]
    info: TokenizerInfo  # of the row; from `load` on
    code: str | None = None  # in the run's id; None: the code behind the tokenizer that the run names
    decoder: DecoderSpec | None = None  # None: `decode` of this object, in this process, for clips that no tokenizer makes

    @cached_property
    def switches(self) -> Apart:
        """The default dtype, autocast and so on that its tokenizer's code leaves behind, from call to call."""
        from avbench.switches import Apart

        return Apart()

    @abstractmethod
    def load(self, spec: RunSpec, device: torch.device) -> None:
        """Everything that `spec` names. Raises UsageError or AvbenchError for what cannot be had, before any clip is read."""

    def begin(self, split: Split) -> None:
        """Called once before anything is computed. Raises UsageError where the clips of `split` do not suit the task."""
        return

    def clips(self, split: Split) -> Split:
        """What is evaluated in place of `split`, after `begin`: itself, but where a task puts other clips beside it."""
        return split

    def measured_by(self, metric: Metric) -> Metric:
        """`metric` as it measures this task's clips."""
        return metric

    @abstractmethod
    def produce(self, reference: ClipBatch) -> Tokens:
        """The tokens of what is to be shown for these clips. May write into `reference`: it is a copy."""

    @abstractmethod
    def decode(self, tokens: Tokens) -> ClipBatch:
        """What `decoder` does, in this process: from the tokens, and nothing else, to `info.modalities`."""

    def finish(self, reference: ClipBatch, recon: ClipBatch) -> ClipBatch:
        """What is measured and shown: `recon`, with whatever stands beside it."""
        return recon

    def missing(self, metric: MetricInfo) -> str | None:
        """Why `metric` means nothing here, or None."""
        lacking = metric.needs - self.info.modalities - {"tokens"}
        return f"{self.info.name} has no {' and no '.join(sorted(lacking))}" if lacking else None

    def write_sample(self, samples: Path, reference: ClipBatch, recon: ClipBatch) -> None:
        """What `--save-samples` keeps of a batch of one clip, below the folder `samples` (avbench/run/samples.py)."""
        from avbench.run.samples import write_pair, write_sample

        write_sample(samples, reference, recon, write_pair)
