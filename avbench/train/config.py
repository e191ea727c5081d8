"""What a recipe decides. Lengths are in clips seen, so that batch size, pauses and processes change nothing about a schedule."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from avbench.tokenizers.avtok.config import STREAMS, AVTokConfig, StreamName
from avbench.tokenizers.avtok.losses import LossWeights
from avbench.tokenizers.avtok.parts import Stage

UNRELATED = ("eval_clips", "eval_minutes", "save_minutes", "export_dtype", "compile")  # change nothing about a loss curve
Schedule = Literal["vfal", "vanilla", "weighted", "dual"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Muon holds the hidden matrices, AdamW the rest (`optim.optimizer_groups`). Rates are peaks.

    The rate rises linearly over `warmup_clips` (at most a tenth of the stage), then falls by half a cosine to `final` of its peak.
    """

    muon: float = 5e-3  # 0: AdamW holds the hidden matrices too
    adam: float = 2e-4
    raw: float = 0.01  # of `adam`, for layers that read unscaled inputs (`OptimizerGroups.raw`)
    encoder: float = 0.3  # of every rate, for what comes before the decoder: codes that move faster than their entries are lost
    auxiliary: float = 1e-3  # prior and projectors, which start from nothing
    discriminator: float = 3e-5
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    warmup_clips: int = 1_000
    final: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: what it may change (`parts.trainable_in`), which streams pass through, for how many clips, under which losses."""

    name: str
    trains: Stage
    clips: int
    streams: tuple[StreamName, ...] = STREAMS
    loss: LossWeights = field(default_factory=LossWeights)
    perceptual_frames: int = 128  # LPIPS sees so many frames of a batch, drawn anew each step
    discriminator_every: int = 5  # steps
    optim: OptimConfig = field(default_factory=OptimConfig)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run. `model` serves both streams; a dual run has `audio_model` for the audio stream, and `model` for video only."""

    name: str
    schedule: Schedule
    model: AVTokConfig
    stages: tuple[StageConfig, ...]
    audio_model: AVTokConfig | None = None
    batch_size: int = 8  # clips an optimiser step, over all processes and accumulation steps
    accumulate: int = 1  # backward passes an optimiser step
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    compile: bool = False  # torch.compile of the transformer blocks, on CUDA devices
    linear_start: bool = True
    linear_start_clips: int = 2020  # whose patches the linear start is fitted to; 505 of arcade with other seeds and rounds: 0.7 dB less
    linear_start_iterations: int = 6  # of k-means
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

    @property
    def clips(self) -> int:
        """Clips that a whole run sees."""
        return sum(stage.clips for stage in self.stages)

    def model_config(self, stream: str) -> AVTokConfig:
        """The config of the model that `stream` passes through."""
        return self.audio_model if stream == "audio" and self.audio_model is not None else self.model

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for manifests."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """Changes with everything that the loss curve depends on."""
        settings = {key: value for key, value in asdict(self).items() if key not in UNRELATED}
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
