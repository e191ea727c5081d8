"""What a run publishes: the moving average of its weights in shards, with a manifest of how it came to be."""

import copy
from pathlib import Path
from typing import Any

import torch

from avbench.tokenizers.avtok.checkpoint import save_checkpoint
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.teacher import teacher_name
from avbench.tokenizers.avtok.train.config import AVTokTraining


def export(out: Path, models: dict[str, AVTokModel], config: AVTokTraining, provenance: dict[str, Any]) -> None:
    """One model: into `out`, which `--checkpoint` takes. A dual run's two: into `out`/video and `out`/audio."""
    facts = {"start": "linear" if config.linear_start else "random", "teacher": _teacher(config)}
    for name, model in models.items():
        folder = out if len(models) == 1 else out / name
        save_checkpoint(folder, _stored(model, config), provenance | facts)


def _teacher(config: AVTokTraining) -> str | None:
    """None where no stage of the recipe has one."""
    listens = any(stage.loss.stream(name).alignment for stage in config.stages for name in stage.streams)
    return teacher_name(config.model.teacher_dims) if listens else None


def _stored(model: AVTokModel, config: AVTokTraining) -> AVTokModel:
    """As it is written: bfloat16 where the recipe says so, except for the codebook, whose entries decide which code is nearest."""
    if config.export_dtype == "float32":
        return model
    stored = copy.deepcopy(model)
    book = stored.bottleneck.quantizer.embedding.weight.data
    stored = stored.to(torch.bfloat16)
    stored.bottleneck.quantizer.embedding.weight.data = book.float()
    return stored
