"""The generator as the trainer sees it (avbench/train/trainee.py): cached tokens in, cross-entropy out, bits per held-out clip."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from avbench import registry
from avbench.data.splits import Split
from avbench.errors import AvbenchError, UsageError
from avbench.files import slug
from avbench.generate.checkpoint import build, load_generator, save_generator
from avbench.generate.model import Generator, GeneratorConfig
from avbench.generate.sampling import NATS_TO_BITS, target_nats
from avbench.generate.tasks import CONDITION, TARGETS, TASKS, GenerationTask, Layout, Plan, check_tasks
from avbench.generate.tokens import TokenTable, check_tokenizer, load_tokens
from avbench.tokenizer import Tokenizer
from avbench.train.config import OptimConfig, StageConfig, TrainConfig
from avbench.train.data import Clips, Order, Share, load_clips, micro_batches
from avbench.train.optimizers import adamw_groups, muon
from avbench.train.trainee import HeldOut, Losses, Objective, Origin, Trainee


@dataclass(frozen=True, kw_only=True)
class GeneratorTraining(TrainConfig):
    """What a recipe decides: a run over the cached tokens of one tokenizer. Each step is one task's, the tasks in turn.

    condition_dropout: share of the clips whose condition (class or tokens) is dropped, for classifier-free guidance.
    muon: peak rate of Muon (Jordan et al. 2024, updates scaled to AdamW's RMS) for the blocks' matrices; 0: AdamW, as published.
    """

    stages: tuple[StageConfig, ...]
    model: GeneratorConfig
    tokenizer: str = "avtok"
    tokenizer_checkpoint: str | None = None
    tasks: tuple[GenerationTask, ...] = TASKS
    condition_dropout: float = 0.1
    muon: float = 0.0
    log_steps: int = 30  # whole turns of two or three tasks, so that each task's mean is of as many steps

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tasks(self.tasks)

    def of(self, tokenizer: str, checkpoint: str | None, tasks: tuple[str, ...]) -> Self:
        """The recipe for another tokenizer and tasks, under a name that says so. Raises UsageError for tasks that do not exist."""
        check_tasks(tasks)
        short = "" if tasks == TASKS else f"-{'-'.join(tasks)}"
        return replace(
            self,
            name=f"{self.name}-{slug(tokenizer)}{short}",
            tokenizer=tokenizer,
            tokenizer_checkpoint=checkpoint,
            tasks=tasks,  # type: ignore[arg-type]
        )

    def scaled(self, factor: float) -> Self:
        """Muon's rate too."""
        return replace(super().scaled(factor), muon=factor * self.muon)

    @property
    def digest(self) -> str:
        """Without the path of the tokenizer's checkpoint: the data's checksum holds its revision."""
        return super().digest if self.tokenizer_checkpoint is None else replace(self, tokenizer_checkpoint=None).digest

    def trainee(self) -> "GeneratorTrainee":
        """The generator."""
        return GeneratorTrainee(self)


EVAL_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Whole sequences of one task, int64 (B, L)."""

    task: GenerationTask
    sequences: Tensor

    def to(self, device: torch.device) -> "TokenBatch":
        """On another device; copies from pinned memory do not wait."""
        return replace(self, sequences=self.sequences.to(device, non_blocking=True))

    def pinned(self) -> "TokenBatch":
        """In page-locked memory."""
        return replace(self, sequences=self.sequences.pin_memory())


class TokenData:
    """Sequences of the training clips' tokens; step number s is of task s modulo the number of tasks."""

    def __init__(self, layout: Layout, train: TokenTable, held_out: TokenTable, origin: Origin, config: GeneratorTraining) -> None:
        self.layout, self.train, self.held_out, self.origin = layout, train, held_out, origin
        self.order = Order(num_clips=len(train), batch_size=config.batch_size, seed=config.seed)

    def batches(self, stage: int, steps: Iterable[int], share: Share, device: torch.device) -> Iterator[TokenBatch]:
        """See `trainee.Data`."""
        return micro_batches(self._read, self.order, steps, share, device)

    def hold_on(self, device: torch.device) -> None:
        """Nothing: a clip's tokens are 2 kB, and are copied without waiting."""

    def sequences(self, table: TokenTable, task: GenerationTask, clips: list[int]) -> Tensor:
        """int64 (B, L) of the clips numbered `clips`."""
        ids = {modality: values[clips].long() for modality, values in table.ids.items()}
        classes = self.layout.class_ids([table.labels[clip] for clip in clips]) if CONDITION[task] is None else None
        return self.layout.sequence(task, ids, classes)

    def _read(self, step: int, clips: list[int]) -> TokenBatch:
        task = self.layout.tasks[step % len(self.layout.tasks)]
        return TokenBatch(task=task, sequences=self.sequences(self.train, task, clips))


class GeneratorTrainee(Trainee[GeneratorTraining, TokenData]):
    """models: "generator". Its vocabulary is the tokenizer's, so data come before models."""

    def load_data(self, split: str, limit: int | None) -> TokenData:
        """Tokens of the split, encoded where they are not cached. Raises UsageError for a tokenizer or split that does not suit."""
        config = self.config
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = registry.load_tokenizer(config.tokenizer, checkpoint=config.tokenizer_checkpoint, device=device, seed=0)
        check_tokenizer(tokenizer)
        train, held_out = load_clips(split, limit, config.eval_clips)
        classes = _classes(train.split, held_out.split) if "av" in config.tasks else ()
        tables = {part.split.checksum: load_tokens(tokenizer, part.split, device) for part in (train, held_out)}
        mine, others = (_rows(tables[part.split.checksum], part.indices) for part in (train, held_out))
        _check_independent(mine, tokenizer, config.tasks)
        self.layout = Layout(space=mine.space, tasks=config.tasks, classes=classes)
        self.tokenizer = (tokenizer.info.name, tokenizer.info.revision)
        return TokenData(self.layout, mine, others, _origin(train, tokenizer), config)

    def build_models(self) -> dict[str, nn.Module]:
        """Random weights, and an output of zeros."""
        torch.manual_seed(self.config.seed)
        return {"generator": build(self.config.model, self.layout, getattr(torch, self.config.compute_dtype))}

    def objective(self, models: dict[str, nn.Module], stage: int, device: torch.device) -> "GeneratorObjective":
        """Cross-entropy of the target."""
        return GeneratorObjective(models["generator"], self.layout, self.config.condition_dropout)

    def optimizers(self, objective: Objective[Any], stage: StageConfig) -> list[Optimizer]:
        """Weight decay on the weights of linear layers alone; where the recipe has a rate for it, Muon for those of the blocks."""
        model = objective.models["generator"]
        assert isinstance(model, Generator)
        matrices = block_matrices(model) if self.config.muon else []
        rest = adamw_groups(decay_groups(model, stage.optim, without=matrices), stage.optim)
        return [muon(matrices, self.config.muon, stage.optim), rest] if matrices else [rest]

    def evaluate(self, models: dict[str, nn.Module], data: TokenData, device: torch.device) -> HeldOut:
        """Bits per held-out clip and the perplexity of a token, in float32."""
        model = models["generator"]
        assert isinstance(model, Generator)
        dtype, model.compute_dtype = model.compute_dtype, torch.float32
        try:
            return HeldOut(values=held_out_numbers(model, data, device))
        finally:
            model.compute_dtype = dtype

    def export(self, out: Path, models: dict[str, nn.Module], provenance: dict[str, Any]) -> None:
        """A folder for `avbench run --generator`."""
        model = models["generator"]
        assert isinstance(model, Generator)
        save_generator(out, model, self.layout, self.tokenizer, provenance, getattr(torch, self.config.export_dtype))

    def load(self, folder: Path, models: dict[str, nn.Module]) -> None:
        """A generator of the same size and vocabulary; the tokens may be another tokenizer's."""
        found = load_generator(folder)
        given, wanted = (replace(config, name="", dropout=0.0) for config in (found.model.config, self.config.model))
        if given != wanted or found.layout != self.layout:
            raise AvbenchError(f"{folder} holds a generator of another size, vocabulary, set of tasks or classes than {self.config.name}'s")
        models["generator"].load_state_dict(found.model.state_dict())

    def flops_per_clip(self, stage: int) -> float:
        """Of a training step, mean over the tasks: 6 a weight and token that meet, attention over what a position may see."""
        return sum(training_flops(self.config, self.layout.plan(task)) for task in self.config.tasks) / len(self.config.tasks)


class GeneratorObjective(Objective[TokenBatch]):
    """Mean cross-entropy (nats) of a target token, over the ids that are legal at its position."""

    def __init__(self, model: nn.Module, layout: Layout, condition_dropout: float) -> None:
        super().__init__()
        self.layout, self.condition_dropout = layout, condition_dropout
        self.models = nn.ModuleDict({"generator": model})
        self.losses = nn.ModuleDict()

    def forward(self, batch: TokenBatch, progress: float) -> Losses:
        """Terms "TASK/MODALITY": scaled by the number of tasks, because means are over all steps and each is of one task."""
        model, plan = self.models["generator"], self.layout.plan(batch.task)
        assert isinstance(model, Generator)
        sequences = batch.sequences
        drop = torch.rand(len(sequences), 1, device=sequences.device) < self.condition_dropout
        prompt = sequences[:, : plan.prompt]
        prompt = torch.where(drop, self.layout.dropped(batch.task, prompt), prompt)
        nats = target_nats(model, plan, torch.cat([prompt, sequences[:, plan.prompt :]], dim=1))
        turns = len(self.layout.tasks)
        terms = {f"{batch.task}/{modality}": values.detach().mean() * turns for modality, values in nats.items()}
        return Losses(total=torch.cat(list(nats.values()), dim=1).mean(), terms=terms)

    def compilable(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.models["generator"].blocks)  # type: ignore[arg-type]


@torch.no_grad()
def held_out_numbers(model: Generator, data: TokenData, device: torch.device) -> dict[str, float]:
    """TASK_bits: of a clip's whole target, so that tokenizers of any length compare; for av by modality too. TASK_perplexity: a token's.

    TASK_condition_gain: how many bits more a clip costs under the condition of the next clip; about 0 where the condition is not heeded.
    """
    values: dict[str, float] = {}
    for task in data.layout.tasks:
        plan = data.layout.plan(task)
        bits, wrong = (_bits(model, data, task, device, shift) for shift in (0, 1))
        total = sum(bits.values())
        values |= {f"{task}_bits": total, f"{task}_perplexity": 2 ** (total / (plan.length - plan.prompt))}
        values |= {f"{task}_{modality}_bits": value for modality, value in bits.items() if len(bits) > 1}
        values[f"{task}_condition_gain"] = sum(wrong.values()) - total
    return values


def _bits(model: Generator, data: TokenData, task: GenerationTask, device: torch.device, shift: int) -> dict[str, float]:
    """Modality -> bits of a held-out clip, mean; under the prompt of the clip `shift` positions further."""
    plan, count = data.layout.plan(task), len(data.held_out)
    bits = dict.fromkeys(TARGETS[task], 0.0)
    for first in range(0, count, EVAL_BATCH):
        clips = list(range(first, min(first + EVAL_BATCH, count)))
        sequences = data.sequences(data.held_out, task, clips)
        prompts = data.sequences(data.held_out, task, [(clip + shift) % count for clip in clips])[:, : plan.prompt]
        ids = torch.cat([prompts, sequences[:, plan.prompt :]], dim=1).to(device)
        for modality, nats in target_nats(model, plan, ids).items():
            bits[modality] += float(nats.double().sum()) * NATS_TO_BITS / count
    return bits


def block_matrices(model: Generator) -> list[nn.Parameter]:
    """The weights of the linear layers between embedding and head."""
    return [weight for part in model.blocks.modules() if isinstance(part, nn.Linear) for weight in part.parameters()]


def decay_groups(model: nn.Module, config: OptimConfig, *, without: Sequence[nn.Parameter] = ()) -> list[dict[str, Any]]:
    """AdamW's groups: the weights of linear layers, and everything else (embeddings, positions, norms) without decay.

    without: parameters of another optimiser.
    """
    elsewhere = {id(parameter) for parameter in without}
    linear = {id(part.weight) for part in model.modules() if isinstance(part, nn.Linear)} - elsewhere
    decayed = [p for p in model.parameters() if id(p) in linear]
    others = [p for p in model.parameters() if id(p) not in linear | elsewhere]
    return [
        {"params": decayed, "lr": config.adam, "weight_decay": config.weight_decay},
        {"params": others, "lr": config.adam, "weight_decay": 0.0},
    ]


def training_flops(config: GeneratorTraining, plan: Plan) -> float:
    """Of one clip's forward and backward pass."""
    model, positions, targets = config.model, plan.length - 1, plan.length - plan.prompt
    block = 4 * model.width**2 + 3 * model.width * model.hidden
    head = sum(len(segment.positions) * (segment.high - segment.low) for segment in plan.segments) / targets * model.width
    attention = model.layers * model.width * positions * (positions + 1)  # two products of (positions + 1) / 2 keys a position
    return 6.0 * (positions * model.layers * block + targets * head + attention)


def _classes(*parts: Split) -> tuple[str, ...]:
    """The labels of the clips. Raises UsageError where a clip has none, or a held-out clip one that training lacks."""
    for split in parts:
        unlabelled = next((clip.id for clip in split.clips if clip.label is None), None)
        if unlabelled is not None:
            raise UsageError(f"{split.name} has clips without a label ({unlabelled}): task av is class-conditional; use --tasks a2v,v2a")
    classes = {clip.label for clip in parts[0].clips}
    unknown = sorted({clip.label for split in parts for clip in split.clips if clip.label is not None} - classes)
    if unknown:
        raise UsageError(f"the held-out clips have classes that no training clip has: {', '.join(unknown[:5])}; train on more clips")
    return tuple(sorted(label for label in classes if label is not None))


def _rows(table: TokenTable, indices: range) -> TokenTable:
    chosen = slice(indices.start, indices.stop)
    ids = {modality: values[chosen] for modality, values in table.ids.items()}
    return replace(table, clip_ids=table.clip_ids[chosen], labels=table.labels[chosen], ids=ids)


def _check_independent(table: TokenTable, tokenizer: Tokenizer, tasks: tuple[GenerationTask, ...]) -> None:
    conditioned = [task for task in tasks if CONDITION[task] is not None]
    if conditioned and not table.independent:
        raise UsageError(
            f"{tokenizer.info.name} gives a clip's video other tokens when its sound changes: a condition would tell what is to be "
            f"generated, so {' and '.join(conditioned)} would mean nothing; use --tasks av"
        )


def _origin(clips: Clips, tokenizer: Tokenizer) -> Origin:
    """The split's, with the tokenizer's name and revision in the checksum."""
    origin = Origin.of(clips)
    facts = "\0".join((origin.checksum, tokenizer.info.name, tokenizer.info.revision))
    return replace(origin, checksum=hashlib.sha256(facts.encode()).hexdigest())
