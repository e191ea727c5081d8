"""What a run publishes: the moving average of its weights in shards, with a manifest of how it came to be. `load` takes it back."""

import copy
from pathlib import Path
from typing import Any

import torch

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.checkpoint import load_checkpoint, save_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.teacher import teacher_name
from avbench.tokenizers.avtok.train.config import AVTokSettings

# Of a config: the name, and what belongs to losses alone
BESIDE = (*("name", "prior", "discriminator", "audio_discriminator_patch", "video_discriminator_patch", "projector_width", "teacher_dims"),)


def export(out: Path, models: dict[str, AVTokModel], config: AVTokSettings, provenance: dict[str, Any]) -> None:
    """One model: into `out`, which `--checkpoint` takes. A dual run's two: into `out`/video and `out`/audio."""
    facts = {"start": "linear" if config.linear_start else "random", "teacher": _teacher(config)}
    for name, model in models.items():
        folder = out if len(models) == 1 else out / name
        save_checkpoint(folder, _stored(model, config), provenance | facts)


def load(folder: Path, models: dict[str, AVTokModel]) -> None:
    """Weights that `export` wrote, into models of the same shape. Raises AvbenchError for others."""
    for name, model in models.items():
        part = folder if len(models) == 1 else folder / name
        found = load_checkpoint(part).model
        wanted, given = _shape(model.config), _shape(found.config)
        other = [key for key, value in wanted.items() if given.get(key) != value]
        if other:
            differences = ", ".join(f"{key} {given.get(key)}, not {wanted[key]}" for key in other)
            raise AvbenchError(f"{part} holds another model than {model.config.name}: {differences}")
        model.load_state_dict(found.state_dict())


def _shape(config: AVTokConfig) -> dict[str, Any]:
    """What decides how a model's weights are used; not its name, and nothing of what is trained beside it."""
    values = {key: value for key, value in config.to_dict().items() if key not in BESIDE}
    for name in config.streams:
        values[name] = {key: value for key, value in values[name].items() if key != "scene_bytes"}  # a bank comes with the weights
    return values | {"quantizer": {key: values["quantizer"][key] for key in ("kind", "entries", "dim")}}


def _teacher(config: AVTokSettings) -> str | None:
    """None where no stage of the recipe has one."""
    listens = any(stage.loss.stream(name).alignment for stage in config.stages for name in stage.streams)
    return teacher_name(config.model.teacher_dims) if listens else None


def _stored(model: AVTokModel, config: AVTokSettings) -> AVTokModel:
    """As it is written: bfloat16 where the recipe says so, except for the codebook, whose entries decide which code is nearest."""
    if config.export_dtype == "float32":
        return model
    stored = copy.deepcopy(model)
    book = stored.bottleneck.quantizer.embedding.weight.data
    stored = stored.to(torch.bfloat16)
    stored.bottleneck.quantizer.embedding.weight.data = book.float()
    return stored
