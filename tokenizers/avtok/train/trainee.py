"""AVTok, or the two tokenizers of a dual run, as the loop sees them.

What a run publishes is the moving average of its weights in shards, with a manifest of how it came to be. `load` takes it back.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.checkpoint import load_checkpoint, save_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.teacher import teacher_name
from avbench.tokenizers.avtok.train.config import AVTokSettings, AVTokStage, branches
from avbench.tokenizers.avtok.train.data import AVTokData
from avbench.tokenizers.avtok.train.evaluate import evaluate
from avbench.tokenizers.avtok.train.objective import AVTokObjective, load_frozen
from avbench.tokenizers.avtok.train.optimizers import build_optimizers
from avbench.tokenizers.avtok.train.start import apply_linear_start, build_models, quiet_stream
from avbench.train.config import StageConfig
from avbench.train.data import ClipReader, load_clips
from avbench.train.held import ReadBack
from avbench.train.trainee import HeldOut, Objective, Trainee

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


FORWARD, WITH_INPUT_GRADIENT, TRAINED = 1, 2, 3  # passes over a layer: forward; also towards its input; also towards its weights


class AVTokTrainee(Trainee[AVTokSettings, AVTokData]):
    """models: "joint", or "video" and "audio" of a dual run."""

    data: AVTokData | None = None

    def load_data(self, split: str, limit: int | None) -> AVTokData:
        """Frames and mels of clips."""
        self.data = AVTokData(*load_clips(split, limit, self.config.eval_clips), self.config)
        return self.data

    def build_models(self) -> dict[str, nn.Module]:
        """Random weights."""
        return dict(build_models(self.config))

    def start(self, models: dict[str, nn.Module], data: AVTokData) -> None:
        """The linear start, where the recipe asks for it."""
        if self.config.linear_start:
            reader = data.train.reader if data.held is None else cast(ClipReader, ReadBack(data.held))  # all that a start asks of one
            apply_linear_start(_typed(models), self.config, reader)

    def begin_stage(self, models: dict[str, nn.Module], stage: int) -> None:
        """Stage audio begins where the linear start left audio: what the shared blocks learned from video is noise to it at first."""
        if self.config.linear_start and self.config.stages[stage].trains == "audio":
            for model in _typed(models).values():
                quiet_stream(model, "audio")

    def objective(self, models: dict[str, nn.Module], stage: int, device: torch.device) -> AVTokObjective:
        """VFAL's freezes and losses of this stage."""
        settings = self.config.stages[stage]
        frozen = load_frozen(settings, self.config.model.teacher_dims, device)
        if settings.hears_video and self.data is not None and "joint" in models:
            self.data.encode_video(_typed(models)["joint"])
        objective = AVTokObjective(_typed(models), branches(self.config), settings, frozen)
        if device.type == "cuda":
            objective.compute_beside_in(getattr(torch, self.config.compute_dtype))
        return objective

    def optimizers(self, objective: Objective[Any], stage: StageConfig) -> list[Optimizer]:
        """Muon and AdamW."""
        assert isinstance(stage, AVTokStage)
        return build_optimizers(objective, stage.optim)

    def evaluate(self, models: dict[str, nn.Module], data: AVTokData, device: torch.device) -> HeldOut:
        """PSNR, mel L1, codebook use; a picture."""
        by_stream = {stream: _typed(models)[name] for name, streams in branches(self.config).items() for stream in streams}
        return evaluate(by_stream, data.held_out, device)

    def export(self, out: Path, models: dict[str, nn.Module], provenance: dict[str, Any]) -> None:
        """A checkpoint of `avtok`, or two, of `dual.DualAVTok`."""
        export(out, _typed(models), self.config, provenance)

    def load(self, folder: Path, models: dict[str, nn.Module]) -> None:
        """Of a checkpoint of `avtok`, or of the two of a dual run."""
        load(folder, _typed(models))

    def flops_per_clip(self, stage: int) -> float:
        """Counted from the shapes."""
        return flops_per_clip(self.config, self.config.stages[stage])


@dataclass(frozen=True, kw_only=True)
class AVTokTraining(AVTokSettings):
    """A run, and what it trains."""

    def trainee(self) -> AVTokTrainee:
        """AVTok, or the two tokenizers of a dual run."""
        return AVTokTrainee(self)


def _typed(models: dict[str, nn.Module]) -> dict[str, AVTokModel]:
    return cast(dict[str, AVTokModel], models)


def flops_per_clip(config: AVTokSettings, stage: AVTokStage) -> float:
    """Multiplications and additions of the tokenizer's own matrix products for one clip; what losses look through does not count."""
    return sum(_stream_flops(config.model_config(name), name, stage) for name in stage.streams)


def _stream_flops(model: AVTokConfig, name: str, stage: AVTokStage) -> float:
    stream = model.stream(name)
    length = stream.num_patches + stream.tokens
    block = (8 + 4 * model.mlp_ratio) * length * model.width**2 + 4 * length**2 * model.width
    edge = 2 * stream.num_patches * stream.patch_dim * model.width
    encoder = WITH_INPUT_GRADIENT if stage.trains == "audio" else FORWARD if stage.trains == "decode" else TRAINED
    decoder = WITH_INPUT_GRADIENT if stage.trains == "audio" else TRAINED
    edges = (FORWARD if stage.trains == "decode" else TRAINED) + TRAINED
    return float(encoder * model.encoder_layers * block + decoder * model.decoder_layers * block + edges * edge)
