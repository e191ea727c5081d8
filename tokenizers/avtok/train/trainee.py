"""AVTok, or the two tokenizers of a dual run, as the loop sees them.

What a run publishes is the moving average of its weights in shards, with a manifest of how it came to be. `load` takes it back.
Held-out clips pass through it a few minutes apart: how good it is, through codes and nothing else.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.checkpoint import load_checkpoint, save_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig, StreamName
from avbench.tokenizers.avtok.losses import moving_pixels
from avbench.tokenizers.avtok.melbox import RANGE
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.teacher import teacher_name
from avbench.tokenizers.avtok.train.config import AVTokSettings, AVTokStage, branches
from avbench.tokenizers.avtok.train.data import AVTokData, stream_inputs
from avbench.tokenizers.avtok.train.objective import AVTokObjective, load_frozen
from avbench.tokenizers.avtok.train.optimizers import build_optimizers
from avbench.tokenizers.avtok.train.start import apply_linear_start, build_models, quiet_stream
from avbench.train.config import StageConfig
from avbench.train.data import ClipReader, Clips, load_clips
from avbench.train.held import ReadBack
from avbench.train.log import frame_row, sheet, spectrogram
from avbench.train.trainee import HeldOut, Objective, Trainee

PICTURED = 4  # clips
CAP_DB = 100.0  # of a clip's PSNR, as the metric has it
ERRORS: dict[StreamName, str] = {"video": "psnr", "audio": "mel_l1"}
Boxes = dict[StreamName, Tensor]


def evaluate(models: dict[StreamName, AVTokModel], clips: Clips, device: torch.device) -> HeldOut:
    """models: stream -> the model that it passes through, in eval mode.

    psnr, psnr_motion (dB), mel_l1 (natural-log units), codes, codes_video, codes_audio (shares of the codebook), of the streams that
    there are.
    """
    errors: dict[StreamName, list[Tensor]] = {name: [] for name in models}
    used: dict[StreamName, list[Tensor]] = {name: [] for name in models}
    motion: list[Tensor] = []
    samples: list[tuple[Boxes, Boxes]] = []
    for part in clips.chunks():
        inputs = stream_inputs(clips.reader.batch(part))
        reference = {name: inputs[name].to(device) for name in models}
        codes = {name: models[name].tokenize(name, x) for name, x in reference.items()}
        recon = {name: models[name].detokenize(name, codes[name]) for name in reference}
        reference["video"] = reference["video"].float() / 255
        for name in models:
            errors[name].append(_error(name, reference[name], recon[name]).cpu())
            used[name].append(codes[name].unique().cpu())
        motion.append(_motion(reference["video"], recon["video"]).cpu())
        if sum(len(pair[0]["video"]) for pair in samples) < PICTURED:
            samples.append((reference, recon))
    values = {"psnr_motion": float(torch.cat(motion).nanmean())}
    values |= {ERRORS[name]: float(torch.cat(errors[name]).mean()) for name in models}
    values |= _use(used, models)
    return HeldOut(values=values, picture=sheet(*[_rows([pair[side] for pair in samples]) for side in (0, 1)]))


def _motion(reference: Tensor, recon: Tensor) -> Tensor:
    """(B,): PSNR of the pixels that move; NaN where none does."""
    moving = moving_pixels(reference)
    error = ((recon - reference).square() * moving).flatten(1).sum(1) / (reference.shape[2] * moving.flatten(1).sum(1))
    return -10 * error.log10()


def _error(name: StreamName, reference: Tensor, recon: Tensor) -> Tensor:
    """(B,): PSNR of video, L1 of mels in natural-log units."""
    if name == "video":
        error = (reference.float() - recon.float()).square().flatten(1).mean(dim=1, dtype=torch.float64)
        return (10 * torch.log10(1 / error)).clamp(max=CAP_DB)
    return RANGE * (reference - recon).abs().flatten(1).mean(1)


def _rows(batches: list[Boxes]) -> list[Tensor]:
    """Frames of each clip, and beside them its mel where there is one."""
    boxes = {name: torch.cat([batch[name] for batch in batches])[:PICTURED].cpu() for name in batches[0]}
    rows = [frame_row(video) for video in boxes["video"]]
    if "audio" in boxes:
        mels = [spectrogram(mel[0, 0], row.shape[1]) for mel, row in zip(boxes["audio"], rows, strict=True)]
        rows = [torch.cat(pair, dim=2) for pair in zip(rows, mels, strict=True)]
    return rows


def _use(used: dict[StreamName, list[Tensor]], models: dict[StreamName, AVTokModel]) -> dict[str, float]:
    """Share of the entries that some held-out clip uses, by stream and, where one book serves both, by either."""
    sets = {name: set(torch.cat(codes).tolist()) for name, codes in used.items()}
    entries = {name: models[name].config.quantizer.entries for name in models}
    shares: dict[str, float] = {f"codes_{name}": len(sets[name]) / entries[name] for name in models}
    if len(models) > 1 and models["video"] is models["audio"]:
        shares["codes"] = len(sets["video"] | sets["audio"]) / entries["video"]
    return shares


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
