"""What stands in a tokenizer's place where `avbench run --task a2v|v2a|av` generates: a trained generator, or a control of real clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from avbench.tokenizer import Tokenizer
from avbench.types import ClipBatch

if TYPE_CHECKING:
    from avbench.data.splits import Split


@runtime_checkable
class ClipGenerator(Tokenizer, Protocol):
    """`encode` gives the tokens that it generates from a clip's condition, `decode` what they show and sound like."""

    def begin(self, split: "Split") -> None:
        """Called once before anything is computed. Raises UsageError where the clips of `split` cannot be generated."""
        ...

    def keep_in(self, folder: Path) -> None:
        """Tokens of finished clips may be kept in `folder`, which belongs to one generator, one way to draw and one split."""
        ...

    def paired(self, reference: ClipBatch, generated: ClipBatch) -> ClipBatch:
        """What is measured: the generated modality beside the real one that it was made for."""
        ...
