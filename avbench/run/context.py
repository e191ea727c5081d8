"""A run, loaded: what the parts of the line hand each other."""

from dataclasses import dataclass
from typing import Any

import torch

from avbench import world as distributed
from avbench.data.batches import Split
from avbench.run import identity
from avbench.run.metrics import Metrics
from avbench.run.worker import TIMEOUT_S
from avbench.task import Task
from avbench.types import RunSpec


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a run needs, loaded. `facts`: what its id is made of."""

    spec: RunSpec
    device: torch.device
    world: distributed.World
    task: Task
    split: Split
    metrics: Metrics
    facts: dict[str, Any]
    timeout_s: float = TIMEOUT_S  # for encode or decode of a batch
    progress: bool = True  # bars on stderr
    retry_failed: bool = True  # clips that failed in an earlier call

    @property
    def run_id(self) -> str:
        """The name of the run's folder."""
        return identity.run_id(self.facts)
