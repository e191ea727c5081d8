"""A codec's forward pass and its losses: samples, spectra, commitment, and discriminators where the stage weighs them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.train.trainee import Losses, Objective
from avbench.train.waveform.codec import Reconstruction
from avbench.train.waveform.config import CodecLoss, CodecStage, CodecTraining
from avbench.train.waveform.data import Waveforms
from avbench.train.waveform.discriminator import Discriminators, feature_distance, generator_hinge, hinge
from avbench.train.waveform.losses import log_mel_l1, multi_scale_mel


class CodecObjective(Objective[Waveforms]):
    """models: "codec". losses: "discriminators", if the stage weighs them."""

    def __init__(self, codec: nn.Module, config: CodecTraining, stage: CodecStage) -> None:
        super().__init__()
        self.config, self.weights = config, stage.loss
        self.models = nn.ModuleDict({"codec": codec})
        judged = stage.loss.adversarial or stage.loss.features
        self.losses = nn.ModuleDict({"discriminators": Discriminators(config.discriminator_filters)} if judged else {})

    def forward(self, batch: Waveforms, progress: float) -> Losses:
        """All losses whose weight is not 0."""
        audio = batch.audio
        dtype = getattr(torch, self.config.compute_dtype)
        with torch.autocast(audio.device.type, dtype=dtype, enabled=dtype != torch.float32):
            made: Reconstruction = self.models["codec"](audio, *self._codebooks(batch.step))
        recon = made.audio.float()
        terms = self._terms(audio, recon, made.commitment)
        total = torch.stack([getattr(self.weights, name) * value for name, value in terms.items()]).sum()
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()}, recons={"audio": recon.detach()})

    def discriminators(self) -> list[nn.Parameter]:
        """Of all resolutions."""
        return list(self.losses.parameters())

    def discriminator_losses(self, batch: Waveforms, losses: Losses) -> dict[str, Tensor]:
        """The hinge loss."""
        judges = self.losses["discriminators"]
        return {"discriminator": hinge(judges(batch.audio), judges(losses.recons["audio"]))}

    def _codebooks(self, step: int) -> tuple[int, ...]:
        """How many codebooks this step uses; drawn from the step alone, so that all processes use as many."""
        choices = self.config.codebooks
        if not choices:
            return ()
        generator = torch.Generator().manual_seed((self.config.seed * 1_000_003 + step) % 2**63)
        return (choices[int(torch.randint(len(choices), (1,), generator=generator))],)

    def _terms(self, audio: Tensor, recon: Tensor, commitment: Tensor) -> dict[str, Tensor]:
        weights: CodecLoss = self.weights
        terms: dict[str, Tensor] = {}
        if weights.l1:
            terms["l1"] = F.l1_loss(recon, audio)
        if weights.log_mel:
            terms["log_mel"] = log_mel_l1(audio, recon)
        if weights.multi_scale:
            terms["multi_scale"] = multi_scale_mel(audio, recon)
        if weights.commitment:
            terms["commitment"] = commitment
        if weights.adversarial or weights.features:
            terms |= self._judged(audio, recon)
        return terms

    def _judged(self, audio: Tensor, recon: Tensor) -> dict[str, Tensor]:
        """The discriminators' view, without a gradient for their own weights."""
        judges = self.losses["discriminators"]
        frozen = {name: value.detach() for name, value in (*judges.named_parameters(), *judges.named_buffers())}
        fake = torch.func.functional_call(judges, frozen, (recon,))
        with torch.no_grad():
            real = judges(audio)
        return {"adversarial": generator_hinge(fake), "features": feature_distance(real, fake)}
