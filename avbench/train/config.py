"""What every recipe decides. Lengths are in clips seen, so that batch size, pauses and processes change nothing about a schedule.

A trainee adds what it decides by subclassing (waveform/config.py); `TrainConfig.trainee` says what is trained.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

UNRELATED = ("eval_clips", "eval_minutes", "save_minutes", "export_dtype", "compile")  # change nothing about a loss curve


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW. Rates are peaks.

    The rate rises linearly over `warmup_clips` (at most a tenth of the stage), then falls by half a cosine to `final` of its peak.
    """

    adam: float = 2e-4
    auxiliary: float = 1e-3  # what is learned beside the models, from nothing
    discriminator: float = 3e-5
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    warmup_clips: int = 1_000
    final: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999

    def scaled(self, factor: float) -> Self:
        """The models' rates times `factor`; those of what is learned beside them stay."""
        return replace(self, adam=factor * self.adam)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of a run: for how many clips, with which optimisers."""

    name: str
    clips: int
    discriminator_every: int = 5  # steps
    optim: OptimConfig = field(default_factory=OptimConfig)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ABC):
    """A run."""

    name: str
    stages: tuple[StageConfig, ...]
    batch_size: int = 8  # clips an optimiser step, over all processes and accumulation steps
    accumulate: int = 1  # backward passes an optimiser step
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    compile: bool = False  # torch.compile of `Objective.compilable`, on CUDA devices
    seed: int = 0
    eval_clips: int = 101
    eval_minutes: float = 5.0
    save_minutes: float = 5.0
    log_steps: int = 20  # also the grain of pauses and checkpoints
    export_dtype: Literal["bfloat16", "float32"] = "float32"

    def __post_init__(self) -> None:
        assert self.batch_size % self.accumulate == 0
        for stage in self.stages:
            assert stage.clips % self.batch_size == 0, f"{stage.name}: {stage.clips} clips are not whole batches of {self.batch_size}"

    @abstractmethod
    def trainee(self) -> Any:
        """The `trainee.Trainee` that this config trains."""

    @property
    def clips(self) -> int:
        """Clips that a whole run sees."""
        return sum(stage.clips for stage in self.stages)

    def renamed(self, name: str) -> Self:
        """The same run, and what it exports, under another name: that of a table's row."""
        return replace(self, name=name)

    def scaled(self, factor: float) -> Self:
        """The same run at `factor` of the models' rates."""
        return replace(self, stages=tuple(replace(stage, optim=stage.optim.scaled(factor)) for stage in self.stages))

    def in_minutes(self) -> Self:
        """The recipe for one GPU that is lent for minutes: frequent copies, bfloat16 exports, nothing compiled (that takes 30 to 60 s and
        gains 5 to 15 %), and a moving average that is as short as the run."""
        stages = tuple(replace(stage, optim=replace(stage.optim, ema_decay=min(stage.optim.ema_decay, 0.99))) for stage in self.stages)
        often = replace(self, stages=stages, log_steps=min(self.log_steps, 20), eval_minutes=1.0, save_minutes=1.0)
        return replace(often, compile=False, export_dtype="bfloat16")

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for manifests."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """Changes with everything that the loss curve depends on."""
        settings = {key: value for key, value in asdict(self).items() if key not in UNRELATED}
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
