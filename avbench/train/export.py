"""What a run publishes: the moving average of its weights in shards, with a manifest of how it came to be."""

import copy
from pathlib import Path
from typing import Any

import torch

from avbench.data.splits import Split
from avbench.manifest import git_commit, hardware, versions
from avbench.tokenizers.avtok.checkpoint import save_checkpoint
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.train.config import TrainConfig


def export(out: Path, models: dict[str, AVTokModel], config: TrainConfig, provenance: dict[str, Any]) -> None:
    """One model: into `out`, which `--checkpoint` takes. A dual run's two: into `out`/video and `out`/audio."""
    for name, model in models.items():
        folder = out if len(models) == 1 else out / name
        save_checkpoint(folder, _stored(model, config), provenance)


def provenance(config: TrainConfig, split: Split, device: torch.device, progress: dict[str, Any]) -> dict[str, Any]:
    """How the weights came to be. progress: clips_seen, minutes, stage, the last held-out numbers."""
    return {
        "recipe": config.name,
        "split": split.name,
        "split_checksum": split.checksum,
        "split_clips": len(split.clips),
        **progress,
        "config": config.to_dict(),
        "start": "linear" if config.linear_start else "random",
        "machine": hardware(device),
        "versions": versions(),
        "git_commit": git_commit(),
    }


def _stored(model: AVTokModel, config: TrainConfig) -> AVTokModel:
    """As it is written: bfloat16 where the recipe says so, except for the codebook, whose entries decide which code is nearest."""
    if config.export_dtype == "float32":
        return model
    stored = copy.deepcopy(model)
    book = stored.bottleneck.quantizer.embedding.weight.data
    stored = stored.to(torch.bfloat16)
    stored.bottleneck.quantizer.embedding.weight.data = book.float()
    return stored
