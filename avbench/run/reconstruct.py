"""Task `reconstruct`: a tokenizer encodes a clip, its decoder makes the clip again from the bytes alone."""

import torch

from avbench import registry
from avbench.data import splits
from avbench.errors import UsageError
from avbench.task import Card, DecoderSpec, Task, Words
from avbench.tokenizer import Tokenizer
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

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        """tokenizer: an object instead of the one that a run's spec names; no other process could load it."""
        self.given = tokenizer

    def load(self, spec: RunSpec, device: torch.device) -> None:
        """The tokenizer."""
        if spec.generator is not None:
            raise UsageError("--generator goes with --task a2v, v2a or av; a reconstruction needs none")
        if self.given is not None:
            self.tokenizer, self.info = self.given, self.given.info
            self.code = f"an object of {type(self.given).__module__}.{type(self.given).__qualname__}"  # nothing of it is ever reused
            return
        protocol = splits.protocol_of(spec.split)
        self.tokenizer = registry.load_tokenizer(
            spec.tokenizer, checkpoint=spec.checkpoint, device=device, seed=spec.seed, protocol=protocol, args=dict(spec.tokenizer_args)
        )  # fmt: skip
        self.info = self.tokenizer.info
        self.decoder = DecoderSpec(
            tokenizer=spec.tokenizer, checkpoint=spec.checkpoint, seed=spec.seed, protocol=protocol, args=dict(spec.tokenizer_args)
        )

    def produce(self, reference: ClipBatch) -> Tokens:
        """The tokenizer's `encode`."""
        return self.tokenizer.encode(reference)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The tokenizer's `decode`."""
        return self.tokenizer.decode(tokens)
