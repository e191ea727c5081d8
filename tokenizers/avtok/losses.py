"""All of AVTok's losses over the streams being trained. Each has a weight; one of weight 0 is not computed.

L_rec^v, L_rec^a (L1, L2, log of each clip's MSE, LPIPS on frames, adversarial), L_rep (patch-wise tokens against a frozen teacher),
L_prior and the quantizer's.
Defaults are LARP's and REPA's; what the paper leaves open (audio weights) is ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nn.patches import unit_range
from avbench.nn.transformer import Linear
from avbench.tokenizers.avtok.config import AVTokConfig, StreamConfig
from avbench.tokenizers.avtok.discriminator import LECAM_WEIGHT, Discriminator, LeCam, generator_loss, smoothed_bce
from avbench.tokenizers.avtok.model import AVTokModel, Reconstruction
from avbench.tokenizers.avtok.prior import Prior
from avbench.tokenizers.avtok.quantizer import Quantized

MOTION = 0.1
MSE_FLOOR = 1e-5  # log(MSE) of a nearly perfect clip must not drown the others: 50 dB
Perceptual = Callable[[Tensor, Tensor], Tensor]  # frames (F, 3, H, W) in [0, 1], reference and recon -> (F,) or (F, 1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class StreamWeights:
    """Weights of one stream's losses; `overall` multiplies them all (the modality weights of the `weighted` schedule)."""

    overall: float = 1.0
    l1: float = 1.0
    l2: float = 0.0
    log_mse: float = 0.0  # mean over clips of ln(MSE): PSNR itself, in units of 4.34 dB
    motion: float = 0.0  # the same over the pixels that move, which are 8 % of arcade's and where all there is to see happens
    perceptual: float = 0.0
    adversarial: float = 0.0
    # 0.1 is LARP's. From the linear start with log_mse 0.2, a latent's error costs as much in pixels as at weight 4: with 4, video on
    # arcade rises from step 0 (24.13 -> 24.20 dB in 600 clips); with 0.1 latents leave their entries behind (23.93 dB).
    quantizer: float = 0.1
    alignment: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Everything that is minimised by the tokenizer (the discriminators have a loss of their own)."""

    video: StreamWeights = field(default_factory=lambda: StreamWeights(perceptual=1.0, adversarial=0.3, alignment=0.5))
    audio: StreamWeights = field(default_factory=lambda: StreamWeights(adversarial=0.3, alignment=0.5))
    prior: float = 0.06

    def stream(self, name: str) -> StreamWeights:
        """The weights of stream "video" or "audio"."""
        return {"video": self.video, "audio": self.audio}[name]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """total: what to call backward on. terms: "video/l1" -> unweighted value, detached, on the device (no host sync)."""

    total: Tensor
    terms: dict[str, Tensor]
    recons: dict[str, Tensor]  # detached, (B, T, C, H, W) float32


class Projector(nn.Module):
    """REPA's projector (Yu et al. 2025, arXiv 2410.06940): patch-wise tokens -> a frozen teacher's feature space.

    Linear, SiLU, Linear, SiLU, Linear: 7.3 M from 768 through 2048 to 768.
    """

    def __init__(self, width: int, hidden: int, teacher_dim: int) -> None:
        super().__init__()
        sizes = (width, hidden, hidden, teacher_dim)
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.silu(layer(x))
        return self.layers[-1](x)  # type: ignore[no-any-return]


def alignment_loss(projected_BLF: Tensor, teacher_BLF: Tensor) -> Tensor:
    """Mean over tokens of minus the cosine, float32: -1 where every token points as the teacher's does."""
    return -F.cosine_similarity(projected_BLF.float(), teacher_BLF.float(), dim=-1).mean()


class AVTokLosses(nn.Module):
    """Holds what is learned beside the tokenizer: prior, projectors, discriminators. Only parts whose weight is not 0 are built.

    perceptual: LPIPS on frames, frozen, kept out of the state dict.
    """

    def __init__(self, config: AVTokConfig, weights: LossWeights, *, perceptual: Perceptual | None = None) -> None:
        super().__init__()
        self.config = config
        self.weights = weights
        self.perceptual = (perceptual,)  # in a tuple: nn.Module would register it
        self.prior = Prior(config) if weights.prior else None
        self.projectors = nn.ModuleDict()
        self.discriminators = nn.ModuleDict()
        self.lecams = nn.ModuleDict()
        for name in config.streams:
            if weights.stream(name).alignment:
                self.projectors[name] = Projector(config.width, config.projector_width, config.teacher_dims[name])
            if weights.stream(name).adversarial:
                self.discriminators[name] = Discriminator(config.discriminator, _discriminated(config, name))
                self.lecams[name] = LeCam()

    def forward(
        self,
        model: AVTokModel,
        inputs: dict[str, Tensor],
        *,
        progress: float = 0.0,
        teacher: dict[str, Tensor] | None = None,
        context: Quantized | None = None,
    ) -> Losses:
        """inputs: stream -> (B, T, C, H, W) in [0, 1] or uint8. progress: share of all steps done. teacher: stream -> (B, patches, F).

        context: frozen video codes that the prior is given where video does not pass.
        """
        passes = {name: model(name, x) for name, x in inputs.items()}
        total, terms = torch.zeros((), device=next(iter(inputs.values())).device), {}
        for name, result in passes.items():
            weights = self.weights.stream(name)
            for term, value in self._stream_terms(name, unit_range(inputs[name]), result, (teacher or {}).get(name)).items():
                terms[f"{name}/{term}"] = value.detach()
                total = total + weights.overall * getattr(weights, term) * value
        if self.prior is not None:
            quantized = {name: p.quantized for name, p in passes.items()}
            prior = self.prior(quantized, model.bottleneck.quantizer.entries(), progress, context)
            terms["prior"] = prior.detach()
            total = total + self.weights.prior * prior
        return Losses(total=total, terms=terms, recons={name: p.recon.detach() for name, p in passes.items()})

    def discriminator_loss(self, name: str, reference: Tensor, recon: Tensor) -> Tensor:
        """Smoothed cross-entropy and LeCam of one stream's discriminator, on (B, T, C, H, W); `recon` detached by the caller."""
        discriminator = self.discriminators[name]
        real, fake = discriminator(unit_range(reference)), discriminator(recon)
        return smoothed_bce(real, fake) + LECAM_WEIGHT * self.lecams[name](real, fake)  # type: ignore[no-any-return]

    def tokenizer_side(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters that are trained with the tokenizer: the prior's and the projectors'."""
        return [(name, p) for name, p in self.named_parameters() if not name.startswith("discriminators.")]

    def _stream_terms(self, name: str, reference: Tensor, result: Reconstruction, teacher: Tensor | None) -> dict[str, Tensor]:
        weights = self.weights.stream(name)
        terms = _pixel_terms(reference, result.recon, weights)
        if weights.quantizer:
            terms["quantizer"] = result.quantized.loss
        if weights.perceptual:
            terms["perceptual"] = self._perceptual(reference, result.recon)
        if weights.adversarial:
            terms["adversarial"] = generator_loss(self._discriminated(name, result.recon))
        if weights.alignment:
            if teacher is None:
                raise ValueError(f"the {name} stream has an alignment weight but no teacher features came with the batch")
            terms["alignment"] = alignment_loss(self.projectors[name](result.encoded.patches), teacher)
        return terms

    def _perceptual(self, reference: Tensor, recon: Tensor) -> Tensor:
        perceptual = self.perceptual[0]
        if perceptual is None:
            raise ValueError("a perceptual weight needs a perceptual distance; pass `perceptual` or set the weight to 0")
        return perceptual(reference.flatten(0, 1), recon.flatten(0, 1)).mean()

    def _discriminated(self, name: str, recon: Tensor) -> Tensor:
        """The discriminator's logits without a gradient for its own weights."""
        discriminator = self.discriminators[name]
        frozen = {key: value.detach() for key, value in (*discriminator.named_parameters(), *discriminator.named_buffers())}
        return torch.func.functional_call(discriminator, frozen, (recon,))  # type: ignore[no-any-return]


def _pixel_terms(reference: Tensor, recon: Tensor, weights: StreamWeights) -> dict[str, Tensor]:
    terms = {}
    difference = recon - reference
    if weights.l1:
        terms["l1"] = difference.abs().mean()
    if weights.l2:
        terms["l2"] = difference.square().mean()
    if weights.log_mse:
        terms["log_mse"] = (difference.square().flatten(1).mean(1) + MSE_FLOOR).log().mean()
    if weights.motion:
        moving = moving_pixels(reference).float()
        error = (difference.square() * moving).flatten(1).sum(1) / (reference.shape[2] * moving.flatten(1).sum(1)).clamp_min(1)
        terms["motion"] = (error + MSE_FLOOR).log().mean()
    return terms


def moving_pixels(reference_BTCHW: Tensor) -> Tensor:
    """bool (B, T, 1, H, W): where a channel differs from the clip's mean frame by over 0.1, as metric psnr_motion has it."""
    return ((reference_BTCHW - reference_BTCHW.mean(1, keepdim=True)).abs() > MOTION).any(2, keepdim=True)


def _discriminated(config: AVTokConfig, name: str) -> StreamConfig:
    stream = config.stream(name)
    patch = config.video_discriminator_patch if name == "video" else config.audio_discriminator_patch
    return StreamConfig(channels=stream.channels, size=stream.size, patch=patch, tokens=1)
