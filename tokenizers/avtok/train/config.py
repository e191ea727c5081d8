"""What a recipe of AVTok decides beyond every run's settings."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

from avbench.tokenizers.avtok.config import STREAMS, AVTokConfig, StreamName
from avbench.tokenizers.avtok.losses import LossWeights
from avbench.tokenizers.avtok.parts import Stage
from avbench.train.config import OptimConfig, StageConfig, TrainConfig

MINUTES_BATCH = 32
Schedule = Literal["vfal", "vanilla", "weighted", "dual", "video"]


@dataclass(frozen=True, kw_only=True)
class AVTokOptim(OptimConfig):
    """Muon holds the hidden matrices, AdamW the rest (`optim.optimizer_groups`)."""

    muon: float = 5e-3  # 0: AdamW holds the hidden matrices too
    raw: float = 0.01  # of `adam`, for layers that read unscaled inputs (`OptimizerGroups.raw`)
    tables: float = 2e-3  # entries of scenes' groups (`OptimizerGroups.tables`)
    encoder: float = 0.3  # of every rate, for what comes before the decoder: codes that move faster than their entries are lost

    def scaled(self, factor: float) -> "AVTokOptim":
        """Muon's too."""
        return replace(super().scaled(factor), muon=factor * self.muon)


@dataclass(frozen=True, kw_only=True)
class AVTokStage(StageConfig):
    """One stage: what it may change (`parts.trainable_in`), which streams pass through, for how many clips, under which losses."""

    trains: Stage
    streams: tuple[StreamName, ...] = STREAMS
    loss: LossWeights = field(default_factory=LossWeights)
    perceptual_frames: int = 128  # LPIPS sees so many frames of a batch, sampled anew each step
    optim: AVTokOptim = field(default_factory=AVTokOptim)

    @property
    def hears_video(self) -> bool:
        """Whether the prior is given the frozen video codes, though no video passes: else it would never see both streams at once."""
        return self.trains == "audio" and bool(self.loss.prior)


@dataclass(frozen=True, kw_only=True)
class AVTokSettings(TrainConfig):
    """A run (`trainee.AVTokTraining`).

    `model` serves both streams; a dual run has `audio_model` for the audio stream, and `model` for video only.

    A `model` without audio is LARP: schedule "video", no stage with an audio stream.
    """

    schedule: Schedule
    model: AVTokConfig
    stages: tuple[AVTokStage, ...]
    audio_model: AVTokConfig | None = None
    linear_start: bool = True
    linear_start_clips: int = 2020  # whose patches the linear start is fitted to; 505 of arcade with other seeds and rounds: 0.7 dB less
    linear_start_iterations: int = 6  # of k-means

    def model_config(self, stream: str) -> AVTokConfig:
        """The config of the model that `stream` passes through."""
        return self.audio_model if stream == "audio" and self.audio_model is not None else self.model

    def in_minutes(self) -> Self:
        """Without discriminators: of some 90 updates they learn little and cost a third of the step. Batches of at most 32 clips: 80 take
        58 GB for the backward pass and leave fewer steps."""
        base = super().in_minutes()
        batch = min(base.batch_size, MINUTES_BATCH)
        stages = tuple(replace(stage, clips=-(-stage.clips // batch) * batch, loss=_without_adversary(stage.loss)) for stage in base.stages)
        return replace(base, batch_size=batch, accumulate=1, stages=stages)

    def renamed(self, name: str) -> Self:
        """The run and its models under another name."""
        if self.audio_model is None:
            return replace(self, name=name, model=replace(self.model, name=name))
        video, audio = replace(self.model, name=f"{name}-video"), replace(self.audio_model, name=f"{name}-audio")
        return replace(self, name=name, model=video, audio_model=audio)


def branches(config: AVTokSettings) -> dict[str, tuple[StreamName, ...]]:
    """Model name -> the streams that pass through it: one for all that there are, or one each in a dual run."""
    return {"joint": config.model.streams} if config.audio_model is None else {"video": ("video",), "audio": ("audio",)}


def _without_adversary(loss: LossWeights) -> LossWeights:
    return replace(loss, video=replace(loss.video, adversarial=0.0), audio=replace(loss.audio, adversarial=0.0))
