"""One stage's forward pass: every stream through its model, all losses, summed."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from avbench.tokenizers.avtok import losses as avtok_losses
from avbench.tokenizers.avtok.config import STREAMS, StreamName
from avbench.tokenizers.avtok.discriminator import Discriminator
from avbench.tokenizers.avtok.losses import AVTokLosses, LossWeights, Perceptual
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.parts import Stage, belongs, part_of, trainable_in
from avbench.tokenizers.avtok.prior import Prior
from avbench.tokenizers.avtok.quantizer import Quantized
from avbench.tokenizers.avtok.teacher import Teacher
from avbench.tokenizers.avtok.train.config import AVTokStage
from avbench.tokenizers.avtok.train.data import stream_inputs
from avbench.train.data import INT16_SCALE, TrainBatch
from avbench.train.trainee import Losses, Objective

FRAME_CHUNK = 32  # frames a pass of LPIPS


class AVTokObjective(Objective[TrainBatch]):
    """models and losses by branch ("joint", or "video" and "audio" of a dual run)."""

    def __init__(
        self, models: dict[str, AVTokModel], branches: dict[str, tuple[StreamName, ...]], stage: AVTokStage, frozen: "Frozen"
    ) -> None:
        super().__init__()
        self.stage, self.heard = stage, branches
        self.branches = {name: tuple(s for s in streams if s in stage.streams) for name, streams in branches.items()}
        self.branches = {name: streams for name, streams in self.branches.items() if streams}
        self.models = nn.ModuleDict({name: models[name] for name in self.branches})
        self.losses = nn.ModuleDict(
            {
                name: AVTokLosses(models[name].config, restricted(stage.loss, streams), perceptual=frozen.perceptual)
                for name, streams in self.branches.items()
            }
        )
        for name, part in self._losses().items():
            if part.prior is not None:
                part.prior.start_at(models[name].bottleneck.quantizer.entries())
        self.frozen = (frozen,)  # in a tuple: no part of the state, not moved, not wrapped
        for name in self.branches:
            freeze(models[name], stage.trains, branches[name])

    def train(self, mode: bool = True) -> "AVTokObjective":
        """Stage decode trains on the codes that an evaluation would use: its quantizer never samples."""
        super().train(mode)
        if self.stage.trains == "decode":
            for model in self.models.values():
                model.bottleneck.quantizer.eval()  # type: ignore[union-attr]
        return self

    def forward(self, batch: TrainBatch, progress: float) -> Losses:
        """All streams of the stage."""
        inputs = stream_inputs(batch)
        waveforms = None if batch.audio is None else batch.audio.float() * INT16_SCALE
        parts: dict[str, avtok_losses.Losses] = {}
        for name, streams in self.branches.items():
            mine: dict[str, Tensor] = {stream: inputs[stream] for stream in streams}
            parts[name] = self.losses[name](
                self.models[name],
                mine,
                progress=progress,
                teacher=self._features(name, mine, waveforms),
                context=self._context(name, batch),
            )
        recons = {key: value for part in parts.values() for key, value in part.recons.items()}
        if len(parts) == 1:
            (part,) = parts.values()
            return Losses(total=part.total, terms=part.terms, recons=recons)
        terms = {key if "/" in key else f"{name}/{key}": value for name, part in parts.items() for key, value in part.terms.items()}
        return Losses(total=torch.stack([part.total for part in parts.values()]).sum(), terms=terms, recons=recons)

    def auxiliary(self) -> list[nn.Parameter]:
        """Prior and projectors."""
        return [p for loss in self._losses().values() for _, p in loss.tokenizer_side()]

    def discriminators(self) -> list[nn.Parameter]:
        """Weights of all discriminators."""
        return [p for loss in self._losses().values() for p in loss.discriminators.parameters()]

    def discriminator_losses(self, batch: TrainBatch, losses: Losses) -> dict[str, Tensor]:
        """One for each stream that has one."""
        inputs, found = stream_inputs(batch), {}
        for branch, holder in self._losses().items():
            for name in self.branches[branch]:
                if name in holder.discriminators:
                    found[f"{name}/discriminator"] = holder.discriminator_loss(name, inputs[name], losses.recons[name])
        return found

    def compute_beside_in(self, dtype: torch.dtype) -> None:
        """Prior and discriminators in `dtype`: in float32 they took longer than the tokenizer on a GPU; bfloat16 turns the prior's
        gradient by half a degree."""
        for part in self.losses.modules():
            if isinstance(part, Prior | Discriminator):
                part.compute_dtype = dtype

    def own_tables(self) -> list[Tensor]:
        """Each process revives idle entries from its own batch."""
        quantizers = [cast(AVTokModel, model).bottleneck.quantizer for model in self.models.values()]
        return [q.embedding.weight.data for q in quantizers if q.config.revive_after and q.embedding.weight.requires_grad]

    def compilable(self) -> list[nn.Module]:
        """All transformer blocks."""
        models = [cast(AVTokModel, model) for model in self.models.values()]
        return [block for model in models for block in (*model.encoder.stack(), *model.decoder.stack())]

    def _losses(self) -> dict[str, AVTokLosses]:
        return cast("dict[str, AVTokLosses]", dict(self.losses.items()))

    @torch.no_grad()
    def _context(self, branch: str, batch: TrainBatch) -> Quantized | None:
        """The clips' video, frozen, where the prior is given it; made here where it was not made before."""
        model = cast(AVTokModel, self.models[branch])
        if not self.stage.hears_video or "video" not in self.heard[branch]:
            return None
        if model.stream_scenes("video") is not None:
            return None  # its scenes read the codebook each in their own way; the prior knows one
        codes = batch.video_codes
        if codes is None:
            assert batch.video is not None
            codes = model.tokenize("video", batch.video).clone()  # out of inference mode
        latents = model.latents("video", codes)
        return Quantized(latents=latents, codes=model.split_scene("video", codes)[1], loss=latents.new_zeros(()))

    def _features(self, branch: str, inputs: dict[str, Tensor], waveforms: Tensor | None) -> dict[str, Tensor]:
        teacher, config = self.frozen[0].teacher, self.models[branch].config
        found = {}
        for stream, x in inputs.items():
            if teacher is None or not self.stage.loss.stream(stream).alignment:
                continue
            clips = waveforms if stream == "audio" else x
            assert clips is not None
            found[stream] = teacher.features(stream, clips, config.stream(stream).grid).clone()  # type: ignore[union-attr, operator]
        return found


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Networks that losses look through and that are never trained; None where no loss of the stage asks for them."""

    teacher: Teacher | None = None
    perceptual: Perceptual | None = None


def load_frozen(stage: AVTokStage, teacher_dims: dict[str, int], device: torch.device) -> Frozen:
    """What the stage's losses need; of the teachers, the one of `teacher_dims`. Raises WeightsUnavailable where a file cannot be had."""
    weights = [stage.loss.stream(name) for name in stage.streams]
    teacher: Teacher | None = None
    perceptual: Perceptual | None = None
    if any(weight.alignment for weight in weights):
        from avbench.tokenizers.avtok.teacher import load_teacher

        teacher = load_teacher(teacher_dims, device)
    if any(weight.perceptual for weight in weights):
        from avbench.nn.pretrained.lpips import load_for_training

        perceptual = SampledPerceptual(load_for_training(device), stage.perceptual_frames)
    return Frozen(teacher=teacher, perceptual=perceptual)


def restricted(loss: LossWeights, streams: tuple[StreamName, ...]) -> LossWeights:
    """Without discriminators and projectors of streams that do not pass."""
    for name in STREAMS:
        if name not in streams:
            loss = replace(loss, **{name: replace(loss.stream(name), adversarial=0.0, alignment=0.0)})  # type: ignore[arg-type]
    return loss


class SampledPerceptual:
    """LPIPS of some frames of a batch, sampled anew at each call: all 16 of each clip cost more than the tokenizer itself."""

    def __init__(self, network: nn.Module, frames: int) -> None:
        self.network, self.frames = network, frames

    def __call__(self, reference: Tensor, recon: Tensor) -> Tensor:
        """Frames (F, 3, H, W) in [0, 1] -> (F,)."""
        picks = torch.randperm(len(reference), device=reference.device)[: self.frames]
        pairs = zip(reference[picks].split(FRAME_CHUNK), recon[picks].split(FRAME_CHUNK), strict=True)
        return torch.cat([self.network(a, b, normalize=True).flatten() for a, b in pairs])


def freeze(model: nn.Module, stage: Stage, streams: tuple[StreamName, ...]) -> None:
    """`requires_grad` as the stage says, and False for what belongs to a stream that never passes through this model."""
    allowed = {name for name in trainable_in(model, stage) if belongs(part_of(name), streams)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in allowed)
