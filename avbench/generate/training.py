"""What a generator's recipe decides."""

from dataclasses import dataclass, replace
from typing import Self

from avbench.generate.config import GeneratorConfig
from avbench.generate.tasks import TASKS, GenerationTask, check_tasks
from avbench.run.samples import slug
from avbench.train.config import StageConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings(TrainConfig):
    """A run (`trainee.GeneratorTraining`) over the cached tokens of one tokenizer. Each step is one task's, the tasks in turn.

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
        """Without the place of the tokenizer's checkpoint: the data's checksum holds its revision."""
        return super().digest if self.tokenizer_checkpoint is None else replace(self, tokenizer_checkpoint=None).digest
