"""A run, loaded: what the parts of the line hand each other."""

from dataclasses import dataclass
from typing import Any

import torch

from avbench import world as distributed
from avbench.data.batches import Split
from avbench.metric import Metric
from avbench.run import identity
from avbench.run.worker import TIMEOUT_S
from avbench.task import Task
from avbench.types import RunSpec


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a run needs, loaded. `unavailable`: metric name -> why it is n/a. `facts`: what its id is made of."""

    spec: RunSpec
    device: torch.device
    world: distributed.World
    task: Task
    split: Split
    metrics: dict[str, Metric]
    unavailable: dict[str, str]
    facts: dict[str, Any]
    timeout_s: float = TIMEOUT_S  # for encode, decode or a metric of a batch

    @property
    def run_id(self) -> str:
        """The name of the run's folder."""
        return identity.run_id(self.facts)

    @property
    def metric_keys(self) -> dict[str, str]:
        """Metric name -> what its rows must have been made by."""
        return {name: identity.metric_key(metric) for name, metric in self.metrics.items()}
