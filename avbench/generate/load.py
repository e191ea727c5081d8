"""`--task a2v|v2a|av`: which generator stands behind a tokenizer's name, loaded and checked before anything is computed."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from avbench import registry
from avbench.data import splits
from avbench.errors import AvbenchError, UsageError
from avbench.generate.checkpoint import MANIFEST, load_generator, speaks
from avbench.generate.controls import CONTROLS, Control
from avbench.generate.generate import Generation
from avbench.generate.tasks import GenerationTask
from avbench.generate.tokens import check_tokenizer
from avbench.tokenizer import Tokenizer
from avbench.types import ClipBatch, RunSpec

if TYPE_CHECKING:
    from avbench.data.splits import Split


class ClipGenerator(Tokenizer, Protocol):
    """`encode` gives the tokens that it generates from a clip's condition, `decode` what they show and sound like.

    A trained generator (generate.py), or a control of real clips (controls.py).
    """

    def begin(self, split: "Split") -> None:
        """Called once before anything is computed. Raises UsageError where the clips of `split` cannot be generated."""
        ...

    def paired(self, reference: ClipBatch, generated: ClipBatch) -> ClipBatch:
        """What is measured: the generated modality beside the real one that it was made for."""
        ...


TRAINED = Path("out")  # where `avbench train` leaves generators


def load(spec: RunSpec, task: GenerationTask, device: torch.device) -> ClipGenerator:
    """The control that `spec.tokenizer` names, or the tokenizer with its generator.

    Raises UsageError where they do not go together, AvbenchError where there is none or it is damaged.
    """
    if spec.tokenizer in CONTROLS:
        if spec.generator or spec.checkpoint:
            raise UsageError(f"{spec.tokenizer} is made of real clips: it takes neither --generator nor --checkpoint")
        return Control(spec.tokenizer, task)
    protocol = splits.protocol_of(spec.split)
    tokenizer = registry.load_tokenizer(
        spec.tokenizer, checkpoint=spec.checkpoint, device=device, seed=spec.seed, protocol=protocol, args=dict(spec.tokenizer_args)
    )
    check_tokenizer(tokenizer)
    trained = load_generator(_folder(spec, task, tokenizer), device)
    return Generation(tokenizer, trained, task, how=spec.sampling, seed=spec.seed)


def _folder(spec: RunSpec, task: GenerationTask, tokenizer: Tokenizer) -> Path:
    """--generator, or the one folder in out/ that fits, or the one that came with the tokenizer."""
    if spec.generator is not None:
        return Path(spec.generator)
    fitting = [folder for folder in sorted(path.parent for path in TRAINED.glob(f"*/{MANIFEST}")) if speaks(folder, tokenizer, task)]
    if len(fitting) > 1:
        raise UsageError(f"{', '.join(map(str, fitting))} all generate {task} for {tokenizer.info.name}; say which: --generator PATH")
    shipped = tokenizer.info.shipped_generator
    if not fitting and shipped is not None and speaks(shipped, tokenizer, task):
        return shipped
    if not fitting:
        raise AvbenchError(
            f"no generator of {task} for the tokens of {tokenizer.info.name} in {TRAINED}/; train one "
            f"(avbench train ar-mini --tokenizer {spec.tokenizer}) or name one (--generator PATH)"
        )
    return fitting[0]
