"""What makes the tokens of a generated clip: a trained generator (generate.py), or a control of real clips (controls.py)."""

from typing import TYPE_CHECKING, Protocol

from avbench.tokenizer import Tokenizer
from avbench.types import ClipBatch

if TYPE_CHECKING:
    from avbench.data.splits import Split


class ClipGenerator(Tokenizer, Protocol):
    """`encode` gives the tokens that it generates from a clip's condition, `decode` what they show and sound like."""

    def begin(self, split: "Split") -> None:
        """Called once before anything is computed. Raises UsageError where the clips of `split` cannot be generated."""
        ...

    def paired(self, reference: ClipBatch, generated: ClipBatch) -> ClipBatch:
        """What is measured: the generated modality beside the real one that it was made for."""
        ...
