"""What a generator's recipe decides, and the recipes. `avbench train ar-mini --tokenizer avtok --tasks a2v,v2a,av`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from avbench.generate import config as sizes
from avbench.generate.config import GeneratorConfig
from avbench.generate.tasks import TASKS, GenerationTask, check_tasks
from avbench.run.samples import slug
from avbench.train.config import OptimConfig, StageConfig, TrainConfig

if TYPE_CHECKING:
    from avbench.generate.trainee import GeneratorTrainee

# Published (LARP): AdamW 6e-4 (0.9, 0.95), weight decay 0.05 on linear weights, cosine to a hundredth.
OPTIM = OptimConfig(adam=6e-4, betas=(0.9, 0.95), weight_decay=0.05, final=0.01, warmup_clips=2_000)


@dataclass(frozen=True, kw_only=True)
class GeneratorTraining(TrainConfig):
    """A run over the cached tokens of one tokenizer. Each step is one task's, the tasks in turn.

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

    def trainee(self) -> "GeneratorTrainee":
        """The generator."""
        from avbench.generate.trainee import GeneratorTrainee

        return GeneratorTrainee(self)

    def of(self, tokenizer: str, checkpoint: str | None, tasks: tuple[str, ...]) -> "GeneratorTraining":
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

    @property
    def digest(self) -> str:
        """Without the place of the tokenizer's checkpoint: the data's checksum holds its revision."""
        return super().digest if self.tokenizer_checkpoint is None else replace(self, tokenizer_checkpoint=None).digest


def ar_mini() -> GeneratorTraining:
    """A generator of about 7 M parameters over a tokenizer's tokens; trains on CPU cores in hours.

    Small batches, a high rate, and Muon: avtok's tokens, loss after 2,400 clips 4.4 with AdamW alone, 3.3 with Muon for the blocks.
    """
    stages = (StageConfig(name="tokens", clips=48_000, optim=replace(OPTIM, adam=1.5e-3, warmup_clips=800)),)
    return GeneratorTraining(
        name="ar-mini", model=sizes.mini(), stages=stages, batch_size=4, muon=3e-3, log_steps=60, export_dtype="bfloat16"
    )


def ar_small() -> GeneratorTraining:
    """A generator of about 47 M parameters over a tokenizer's tokens; trains on one GPU."""
    stages = (StageConfig(name="tokens", clips=768_000, optim=replace(OPTIM, warmup_clips=20_000)),)
    return GeneratorTraining(
        name="ar-small", model=sizes.small(), stages=stages, batch_size=64, compile=True, log_steps=60, eval_minutes=2.0, save_minutes=3.0
    )


def ar_base() -> GeneratorTraining:
    """The published generator (632 M with AVTok's tokens), its optimiser and its dropout; for several GPUs."""
    optim = replace(OPTIM, warmup_clips=256_000, ema_decay=0.9999)
    stages = (StageConfig(name="tokens", clips=25_600_000, optim=optim),)
    return GeneratorTraining(
        name="ar-base", model=sizes.base(), stages=stages, batch_size=256, accumulate=4, compile=True, log_steps=60,
        eval_minutes=30.0, save_minutes=15.0,
    )  # fmt: skip


RECIPES: dict[str, Callable[[], TrainConfig]] = {"ar-mini": ar_mini, "ar-small": ar_small, "ar-base": ar_base}
