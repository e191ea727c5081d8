"""The tasks that generate: a2v, v2a and av. A generator (or a control of real clips) stands between the condition and the tokens."""

from pathlib import Path
from typing import ClassVar

import torch

from avbench.data import splits
from avbench.data.splits import Split
from avbench.generate.controls import CONTROLS
from avbench.generate.load import load
from avbench.generate.panels import panels
from avbench.generate.tasks import CONDITION, TARGETS, GenerationTask
from avbench.metric import MetricInfo
from avbench.run.samples import write_sample
from avbench.task import Card, DecoderSpec, Task, Words
from avbench.types import ClipBatch, RunSpec, Tokens

SEEN = {"video": "picture", "audio": "sound"}
SHOWN = {
    "real": "another real clip of the class",
    "shuffled": "real clips, paired across classes",
    "copy-train": "a training clip of the class",
}


def _words(task: GenerationTask, title: str) -> Words:
    condition, targets = CONDITION[task], frozenset(TARGETS[task])
    made = " and ".join(SEEN[name] for name in TARGETS[task])
    given = f"each clip's {SEEN[condition]}" if condition else "each clip's class"
    first = (
        Card(key="condition", title=f"condition: the real {SEEN[condition]}", shows=frozenset({condition}))
        if condition
        else Card(key="condition", title="condition: the class", shows=frozenset(), says="label")
    )
    return Words(
        title=title,
        remark=f"Given {given}, a generator makes the {made}; compared with real clips, not against their reconstructions.",
        intro=f"Given is {given}; beside it is the real clip's {made} and what each row made, in step. "
        "The sound is what was measured, the picture H.264 of it.",
        cards=(first, Card(key="reference", title="the real clip", shows=targets)),
        shows=targets,
        generates=True,
        controls=SHOWN,
    )


class _Generate(Task):
    """What the three have in common."""

    name: ClassVar[GenerationTask]

    def load(self, spec: RunSpec, device: torch.device) -> None:
        """The control that `spec.tokenizer` names, or the tokenizer with its generator."""
        self.maker = load(spec, self.name, device)
        self.info = self.maker.info
        if spec.tokenizer not in CONTROLS:
            protocol = splits.protocol_of(spec.split)
            self.decoder = DecoderSpec(
                tokenizer=spec.tokenizer, checkpoint=spec.checkpoint, seed=spec.seed, protocol=protocol, args=dict(spec.tokenizer_args)
            )

    def begin(self, split: Split) -> None:
        """Classes that were learned, clips that a control can show."""
        self.maker.begin(split)

    def produce(self, reference: ClipBatch) -> Tokens:
        """Tokens of the condition and, after it, of what is generated."""
        return self.maker.encode(reference)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The generated modalities."""
        return self.maker.decode(tokens)

    def finish(self, reference: ClipBatch, recon: ClipBatch) -> ClipBatch:
        """The generated modality beside the real one that it was made for."""
        return self.maker.paired(reference, recon)

    def missing(self, metric: MetricInfo) -> str | None:
        """What is generated is measured alone, or with the condition beside it."""
        needs = metric.needs - {"tokens"}
        lacking = needs - set(TARGETS[self.name]) if len(needs) == 1 else frozenset()
        return f"{self.name} generates no {' and no '.join(sorted(lacking))}" if lacking else None

    def write_sample(self, samples: Path, reference: ClipBatch, recon: ClipBatch) -> None:
        """Condition, generated and real clip side by side."""
        write_sample(samples, reference, recon, panels(self.name))


class AudioToVideo(_Generate):
    """Video to a clip's own sound."""

    name = "a2v"
    words = _words("a2v", "Audio to video")


class VideoToAudio(_Generate):
    """Sound to a clip's own video."""

    name = "v2a"
    words = _words("v2a", "Video to audio")


class ClassToBoth(_Generate):
    """Video and sound of a clip's class."""

    name = "av"
    words = _words("av", "Class to both")
