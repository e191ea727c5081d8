"""What a recipe of an audio codec decides beyond every run's settings, and what the trainer asks of its network.

B clips, N samples, K codebooks, L frames.
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from avbench.nn.residual_vq import ResidualQuantizer
from avbench.train.config import OptimConfig, StageConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """audio: (B, N), not clamped; codes: int64 (B, K, L); commitment: scalar, unweighted."""

    audio: Tensor
    codes: Tensor
    commitment: Tensor


class Codec(Protocol):
    """A module whose `tokenize` and `detokenize` are the halves of its forward pass; each codebook number is optional where it has one."""

    encoder: nn.Module
    quantizer: ResidualQuantizer

    def __call__(self, audio_BN: Tensor, *num_codebooks: int) -> Reconstruction:
        """(B, N) in [-1, 1] -> the same through the codebooks; in training, those learn."""

    def tokenize(self, audio_BN: Tensor, *num_codebooks: int) -> Tensor:
        """(B, N) -> int64 (B, K, L)."""

    def detokenize(self, codes_BKL: Tensor) -> Tensor:
        """int64 (B, K, L) -> at least (B, N), not clamped."""


@dataclass(frozen=True, kw_only=True)
class CodecLoss:
    """Weights; a loss of weight 0 is not computed."""

    l1: float = 0.0  # of samples
    log_mel: float = 0.0  # WavTokenizer's: 100 bands, one resolution
    multi_scale: float = 0.0  # EnCodec's: 64 bands, five resolutions
    commitment: float = 0.0
    adversarial: float = 0.0
    features: float = 0.0  # of the discriminators' layers, real against made


@dataclass(frozen=True, kw_only=True)
class CodecOptim(OptimConfig):
    """One AdamW."""

    encoder: float = 0.3  # of the rate: latents that move faster than the codebooks follow are lost


@dataclass(frozen=True, kw_only=True)
class CodecStage(StageConfig):
    """One stage."""

    loss: CodecLoss = field(default_factory=CodecLoss)
    optim: CodecOptim = field(default_factory=CodecOptim)


@dataclass(frozen=True, kw_only=True)
class CodecTraining(TrainConfig):
    """A run. Of each clip one crop is seen, which (seed, step, clip) decides. A codec's own adds its network and `trainee()`."""

    stages: tuple[CodecStage, ...]
    crop_samples: int = 24_000
    codebooks: tuple[int, ...] = ()  # quantizer dropout: each step uses so many of the codebooks, sampled by (seed, step); (): always all
    discriminator_filters: int = 32
    start_clips: int = 64  # whose crops the weights at step 0 are fitted to

    @abstractmethod
    def build(self) -> nn.Module:
        """The codec, weights initialised at random: `model(audio)` -> Reconstruction, `tokenize`, `detokenize`."""

    @abstractmethod
    def save(self, folder: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """Write what the codec's `--checkpoint` takes."""

    @abstractmethod
    def load(self, folder: Path, model: nn.Module) -> None:
        """Fill `model` with what `save` wrote. Raises AvbenchError where the folder is damaged or of another codec."""

    @property
    def sample_rate(self) -> int:
        """Hz; that of the splits."""
        return 24_000


MINI_CLIPS = 20_800  # avtok-mini's
MINI_OPTIM = CodecOptim(adam=1e-3, betas=(0.8, 0.95), warmup_clips=400)
SMALL_CLIPS = 1_000_000  # avtok-small's
SMALL_OPTIM = CodecOptim(adam=3e-4, betas=(0.8, 0.99), discriminator=3e-4, warmup_clips=10_000)


def mini_stages(loss: CodecLoss) -> tuple[CodecStage, ...]:
    """Hours of one CPU core."""
    return (CodecStage(name="codec", clips=MINI_CLIPS, loss=loss, optim=MINI_OPTIM),)


def small_stages(loss: CodecLoss) -> tuple[CodecStage, ...]:
    """One GPU. Spectral losses first.

    Weights are fixed (adversarial and features as in HiFi-GAN); EnCodec balances its own by their gradients.
    """
    adversarial = replace(loss, adversarial=1.0, features=2.0)
    last = replace(SMALL_OPTIM, adam=SMALL_OPTIM.adam / 3)
    return (
        CodecStage(name="codec", clips=SMALL_CLIPS * 6 // 10, loss=loss, optim=SMALL_OPTIM),
        CodecStage(name="adversarial", clips=SMALL_CLIPS * 4 // 10, loss=adversarial, optim=last, discriminator_every=1),
    )
