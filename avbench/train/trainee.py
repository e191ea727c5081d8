"""What is trained: the one page that somebody who adds a trainee reads.

The loop (loop.py, stages.py) knows clips, steps, stages, clocks and files. What is trained on what, and under which losses, is a
`Trainee`'s business. To add one:

1. a config: a frozen dataclass over `config.TrainConfig` (and, where a stage decides more than its length, over `config.StageConfig`),
   whose `trainee()` returns the trainee;
2. an `Objective`: one stage's forward pass and its losses, as a module;
3. a `Data`: examples of training in an order that only (seed, step) decides (`data.Order`, `data.micro_batches`), and held-out ones;
4. a `Trainee` that puts them together, evaluates held-out examples and writes the folder that `--checkpoint` takes;
5. a recipe, a function that returns the config, as an entry point of the group `avbench.recipes`.

`avbench train RECIPE` then pauses, resumes after a kill, averages weights, shares batches among processes, logs and keeps time for it.
Smallest example: waveform/ (audio codecs). tokenizers/avtok/train/ has stages, freezes, discriminators and a start fitted to data.

Rules that the loop relies on: all chance in a step follows from torch's generators, which are seeded anew for each step; everything
that a later step depends on is a parameter or buffer of the models or of `Objective.losses`, or an optimiser's; `forward` never
waits for the device.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from avbench.train.config import StageConfig, TrainConfig
from avbench.train.data import Clips, Share
from avbench.train.optimizers import adamw


class Batch(Protocol):
    """Some examples. What is in them is between the trainee's data and its objective."""

    def to(self, device: torch.device) -> Self: ...


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where examples come from. A run resumes only on data of the same origin."""

    split: str
    checksum: str  # changes with everything that an example depends on: the split's, with the tokenizer's revision where tokens are cached
    split_clips: int
    num_clips: int  # trained on; `Order` permutes so many

    @staticmethod
    def of(clips: Clips) -> "Origin":
        """Of clips of a split."""
        split = clips.split
        return Origin(split=split.name, checksum=split.checksum, split_clips=len(split.clips), num_clips=len(clips.indices))


class Data(Protocol):
    """Examples to train on and some held out. One example is called a clip, whatever it is."""

    origin: Origin

    def batches(self, stage: int, steps: Iterable[int], share: Share, device: torch.device) -> Iterator[Batch]:
        """`share.accumulate` batches for each of the run's optimiser steps `steps` (counted over all stages, without end perhaps)."""
        ...

    def hold_on(self, device: torch.device) -> None:
        """All examples of training in the device's memory, from where `batches` takes them. Called once, if at all."""
        ...


@dataclass(frozen=True, kw_only=True)
class Losses:
    """total: what to call backward on. terms: name -> unweighted value, detached, on the device. recons: detached, for discriminators."""

    total: Tensor
    terms: dict[str, Tensor]
    recons: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """values: numbers by name, for the log, the manifest and the progress bar. picture: uint8 (3, H, W) to look at, if any."""

    values: dict[str, float]
    picture: Tensor | None = None


B = TypeVar("B", bound=Batch)


class Objective(nn.Module, ABC, Generic[B]):
    """One stage's forward pass: what DDP wraps.

    models: those of the trainee's models that this stage passes through, under their names; `requires_grad` says what it trains.
    losses: what is learned beside them and never published (discriminators, a prior); its weights go on from stage to stage by name.
    """

    models: nn.ModuleDict
    losses: nn.ModuleDict

    @abstractmethod
    def forward(self, batch: B, progress: float) -> Losses:
        """progress: share of the whole run that is done."""

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Weights of the models that this stage changes, by name."""
        return [(name, p) for name, p in self.models.named_parameters() if p.requires_grad]

    def auxiliary(self) -> list[nn.Parameter]:
        """Weights beside the models that are trained with them."""
        discriminators = {id(p) for p in self.discriminators()}
        return [p for p in self.losses.parameters() if id(p) not in discriminators]

    def discriminators(self) -> list[nn.Parameter]:
        """Weights of all discriminators, trained by `discriminator_losses` alone: `forward` must leave them without a gradient."""
        return []

    def discriminator_losses(self, batch: B, losses: Losses) -> dict[str, Tensor]:
        """Name -> loss, every `discriminator_every` steps, on what `forward` gave for this batch."""
        return {}

    def own_tables(self) -> list[Tensor]:
        """Tensors that a process changes by itself, as revived codebook entries: after each step, the first process's are everybody's."""
        return []

    def compilable(self) -> list[nn.Module]:
        """Modules worth torch.compile on a CUDA device."""
        return []


C = TypeVar("C", bound=TrainConfig)
D = TypeVar("D", bound=Data)


class Trainee(ABC, Generic[C, D]):
    """Models, and how they are trained. `models` below is name -> module throughout; the same names in every method."""

    def __init__(self, config: C) -> None:
        self.config = config

    @abstractmethod
    def load_data(self, split: str, limit: int | None) -> D:
        """Examples of `split` (its first `limit` clips). Called by the first process before the others."""

    @abstractmethod
    def build_models(self) -> dict[str, nn.Module]:
        """Models with random weights on the CPU. The same seed gives the same weights."""

    def start(self, models: dict[str, nn.Module], data: D) -> None:
        """Better weights than random ones for step 0, fitted to training examples."""

    def begin_stage(self, models: dict[str, nn.Module], stage: int) -> None:
        """Change weights between two stages, after the moving average has become the models'. Not called for the first stage."""

    @abstractmethod
    def objective(self, models: dict[str, nn.Module], stage: int, device: torch.device) -> Objective[Any]:
        """Stage number `stage`'s objective, with the freezes of that stage. torch's generator was seeded."""

    def optimizers(self, objective: Objective[Any], stage: StageConfig) -> list[Optimizer]:
        """Optimisers of `objective.trainable()` and `.auxiliary()`, at their peak rates."""
        return [adamw(objective.trainable(), objective.auxiliary(), stage.optim)]

    @abstractmethod
    def evaluate(self, models: dict[str, nn.Module], data: D, device: torch.device) -> HeldOut:
        """Held-out numbers of the moving average, which is on `device` in eval mode; without gradients, by the first process alone."""

    @abstractmethod
    def export(self, out: Path, models: dict[str, nn.Module], provenance: dict[str, Any]) -> None:
        """Write what `--checkpoint` takes into `out`, replacing what is there. provenance: JSON values on how the weights came to be."""

    @abstractmethod
    def load(self, folder: Path, models: dict[str, nn.Module]) -> None:
        """The weights of a folder that `export` wrote, of this recipe or another of the same shape, into `models`.

        Raises AvbenchError where it is damaged, or its model is another one.
        """

    @abstractmethod
    def flops_per_clip(self, stage: int) -> float:
        """Floating-point operations of the models' own matrix products in one clip's training step."""
