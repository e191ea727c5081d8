"""What the trainer asks of a codec's network. B clips, N samples, K codebooks, L frames."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from avbench.nn.residual_vq import ResidualQuantizer


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
