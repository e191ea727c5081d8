"""How published weights came to be, for their manifest."""

from typing import Any

import torch

from avbench.run.manifest import git_commit, hardware, versions
from avbench.train.config import TrainConfig
from avbench.train.trainee import Origin


def provenance(config: TrainConfig, origin: Origin, device: torch.device, progress: dict[str, Any]) -> dict[str, Any]:
    """progress: clips_seen, minutes, stage, the last held-out numbers."""
    return {
        "recipe": config.name,
        "split": origin.split,
        "split_checksum": origin.checksum,
        "split_clips": origin.split_clips,
        **progress,
        "config": config.to_dict(),
        "machine": hardware(device),
        "versions": versions(),
        "git_commit": git_commit(),
    }
