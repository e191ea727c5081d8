"""AVTok, or the two tokenizers of a dual run, as the loop sees them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.train.config import AVTokSettings, AVTokStage, branches
from avbench.tokenizers.avtok.train.data import AVTokData
from avbench.tokenizers.avtok.train.evaluate import evaluate
from avbench.tokenizers.avtok.train.export import export, load
from avbench.tokenizers.avtok.train.objective import AVTokObjective, load_frozen
from avbench.tokenizers.avtok.train.optimizers import build_optimizers
from avbench.tokenizers.avtok.train.start import apply_linear_start, build_models, quiet_stream
from avbench.train.config import StageConfig
from avbench.train.data import ClipReader, load_clips
from avbench.train.held import ReadBack
from avbench.train.trainee import HeldOut, Objective, Trainee

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
    """Multiplications and additions of the tokenizer's own matrix products for one clip; what losses look through (LPIPS, ...) does not count."""
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
