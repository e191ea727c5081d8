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

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for manifests."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """Changes with everything that the loss curve depends on."""
        settings = {key: value for key, value in asdict(self).items() if key not in UNRELATED}
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
