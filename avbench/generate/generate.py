"""Condition of a clip -> tokens -> clip: a trained generator in front of its tokenizer's decoder, behind the tokenizer's interface."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from avbench.artifact import trained_on
from avbench.data.splits import Split
from avbench.errors import AvbenchError, UsageError
from avbench.generate.checkpoint import Trained, check_match
from avbench.generate.sampling import prepare, sample, uniforms
from avbench.generate.tasks import CONDITION, TARGETS, GenerationTask, Layout, Plan
from avbench.generate.tokens import blanked, space_of
from avbench.run import payload
from avbench.tokenizer import Tokenizer
from avbench.types import ClipBatch, Sampling, Tokens

ROUND = {"cpu": 8, "cuda": 64}  # clips that are sampled together


class Generation:
    """`encode` gives generated tokens (with those of the condition), `decode` the clips: what a run evaluates in a tokenizer's place.

    A clip's tokens follow from the generator, the tokenizer, `how`, the seed, its id and its condition. Matrix products of another batch
    size round differently, so clips are always sampled in rounds of ROUND, short ones filled up: the same clips whatever the batch size.
    """

    def __init__(self, tokenizer: Tokenizer, trained: Trained, task: GenerationTask, *, how: Sampling, seed: int = 0) -> None:
        """Raises UsageError where generator, tokenizer, task and `how` do not go together, before anything is computed."""
        check_match(trained, tokenizer, task)
        _check_chain(how, task, trained.layout)
        self.tokenizer, self.layout, self.task, self.how, self.seed = tokenizer, trained.layout, task, how, seed
        self.plan = trained.layout.plan(task)
        self.device = trained.model.head.weight.device
        self.rows = ROUND.get(self.device.type, 8)
        self.model = prepare(trained.model, self.rows * (1 if how.guidance == 1 else 2))
        sampled = hashlib.sha256(json.dumps([trained.revision, task, asdict(how), seed], sort_keys=True).encode()).hexdigest()[:16]
        self.info = replace(
            tokenizer.info,
            name=f"{tokenizer.info.name}/{trained.model.config.name}{_other_than_default(how)}",
            revision=f"{tokenizer.info.revision}-{sampled}",
            modalities=frozenset(TARGETS[task]),
            parameters=tokenizer.info.parameters + sum(part.numel() for part in trained.model.parameters()),
            trained_on=trained_on(trained.provenance),
        )

    def begin(self, split: Split) -> None:
        """See `interface.ClipGenerator`."""
        self.check([clip.label for clip in split.clips])

    def check(self, labels: Sequence[str | None]) -> None:
        """Raises UsageError for class-conditional generation of clips without a label, or of a class that was not trained."""
        if CONDITION[self.task] is None:
            self.layout.class_ids(labels)

    def encode(self, batch: ClipBatch) -> Tokens:
        """Tokens of both modalities: the condition's as encoded, the others sampled. `batch` must name its clips.

        Raises UsageError as `check` does, AvbenchError where the tokenizer's tokens do not fit the generator.
        """
        rounds = [list(range(first, min(first + self.rows, len(batch)))) for first in range(0, len(batch), self.rows)]
        made = [self._generate(batch.select(numbers)) for numbers in rounds]
        return payload.from_bytes([payload.to_bytes(tokens, row) for tokens in made for row in range(len(tokens))])

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The generated modalities; the condition's own reconstruction is left out."""
        clips = self.tokenizer.decode(tokens)
        made = TARGETS[self.task]
        return replace(clips, video=clips.video if "video" in made else None, audio=clips.audio if "audio" in made else None)

    def paired(self, reference: ClipBatch, generated: ClipBatch) -> ClipBatch:
        """The generated modality beside the real one that it was made for: what metrics of both modalities look at."""
        condition = CONDITION[self.task]
        if condition == "video":
            return replace(generated, video=reference.video)
        return generated if condition is None else replace(generated, audio=reference.audio)

    def _generate(self, clips: ClipBatch) -> Tokens:
        """All of them at once."""
        condition = self._condition(clips)
        prompt = self.layout.prompt(self.task, condition or self.layout.class_ids(clips.labels))
        noise = uniforms(self.seed, clips.ids, self.plan.length - self.plan.prompt)
        if not self.how.chain:
            return self.layout.space.to_tokens(condition | self._parts(self._sample(self.plan, prompt, noise)))
        video = self._sample(self.plan.up_to("video"), prompt, noise)
        prompt = self.layout.prompt("v2a", {"video": video})
        audio = self._sample(self.layout.plan("v2a"), prompt, noise[:, video.shape[1] :])
        return self.layout.space.to_tokens({"video": video, "audio": audio})

    def _sample(self, plan: Plan, prompt_BP: Tensor, noise_BN: Tensor) -> Tensor:
        """What follows the prompts, int64 on the CPU; sampled in a round that is filled up with the first clip."""
        filled, noise = (
            torch.cat([part, part[:1].expand(self.rows - len(part), -1)]).to(self.device) for part in (prompt_BP, noise_BN)
        )  # fmt: skip
        sampled = sample(self.model, plan, filled, noise, self.how, dropped_BP=self.layout.dropped(plan.task, filled))
        return sampled[: len(prompt_BP)].cpu()

    def _condition(self, clips: ClipBatch) -> dict[str, Tensor]:
        """Ids of the condition, encoded from clips that hold nothing else; {} for av."""
        modality = CONDITION[self.task]
        if modality is None:
            return {}
        alone = replace(blanked(clips, modality), labels=(None,) * len(clips))
        tokens = self.tokenizer.encode(alone)
        if space_of(self.tokenizer, tokens) != self.layout.space:
            raise AvbenchError(f"{self.info.name} gives tokens of another shape than those that the generator learned")
        return {modality: self.layout.space.to_ids(tokens.codes)[modality].cpu()}

    def _parts(self, sampled_BN: Tensor) -> dict[str, Tensor]:
        targets = TARGETS[self.task]
        sizes = [self.layout.space.stream(modality).positions for modality in targets]
        return dict(zip(targets, sampled_BN.split(sizes, dim=1), strict=True))


def _check_chain(how: Sampling, task: GenerationTask, layout: Layout) -> None:
    if how.chain and task != "av":
        raise UsageError(f"--chain is for task av (class to video, video to audio), not for {task}")
    if how.chain and "v2a" not in layout.tasks:
        raise UsageError(f"--chain samples the sound as v2a does, and this generator learned {', '.join(layout.tasks)}; train one with v2a")


def _other_than_default(how: Sampling) -> str:
    """ " (top-k 50, guidance 1.5, chain)": what a row must say of how its clips were sampled."""
    default = Sampling()
    changed = {key.replace("_", "-"): value for key, value in asdict(how).items() if value != getattr(default, key)}
    shown = [key if value is True else f"{key} {value:g}" for key, value in changed.items()]
    return f" ({', '.join(shown)})" if shown else ""
