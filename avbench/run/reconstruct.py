"""Task `reconstruct`: a tokenizer encodes a clip, its decoder makes the clip again from the bytes alone."""

import torch

from avbench import registry
from avbench.errors import UsageError
from avbench.task import Card, DecoderSpec, Task, Words
from avbench.types import ClipBatch, RunSpec, Tokens


class Reconstruct(Task):
    """Clip -> tokens -> the same clip."""

    name = "reconstruct"
    words = Words(
        title="Reconstruction",
        remark="",
        intro="The reference and what each tokenizer made of it, in step. The sound is what was measured, the picture H.264 of it.",
        cards=(Card(key="reference", title="reference"),),
    )

    def load(self, spec: RunSpec, device: torch.device) -> None:
        """The tokenizer."""
        if spec.generator is not None:
            raise UsageError("--generator goes with --task a2v, v2a or av; a reconstruction needs none")
        self.tokenizer = registry.load_tokenizer(spec.tokenizer, checkpoint=spec.checkpoint, device=device, seed=spec.seed)
        self.info = self.tokenizer.info
        self.decoder = DecoderSpec(tokenizer=spec.tokenizer, checkpoint=spec.checkpoint, seed=spec.seed)

    def produce(self, reference: ClipBatch) -> Tokens:
        """The tokenizer's `encode`."""
        return self.tokenizer.encode(reference)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The tokenizer's `decode`."""
        return self.tokenizer.decode(tokens)
