"""What neural codecs of waveforms share: the edges between clips and a network that turns samples into codes and back."""

from abc import ABC, abstractmethod

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from avbench.errors import AvbenchError, UsageError
from avbench.tokenizer import TokenizerInfo
from avbench.tokenizers.edges import audio_duration, channels_of
from avbench.types import ClipBatch, Protocol, Tokens


class WaveformCodec(ABC):
    """A subclass sets the attributes and gives the three methods; clips pass one at a time, so that none sees its batch.

    The networks are mono. Of more channels each passes by itself, its codes after those of the one before.

    Matrix products and convolutions of another batch size round differently, and a code may turn on the last bit.
    """

    info: TokenizerInfo  # with `sample_rate`, the network's own
    vocab_size: int  # entries of each codebook
    device: torch.device
    protocol: Protocol = Protocol()  # of the split: at its sample rate and channels `decode` gives back

    @abstractmethod
    def to_codes(self, samples: Tensor) -> Tensor:
        """Samples (1, 1, N) at the network's rate -> codes (1, K, L)."""

    @abstractmethod
    def to_samples(self, codes: Tensor) -> Tensor:
        """Codes (1, K, L) -> samples (1, 1, at least N less a few at the end)."""

    @abstractmethod
    def code_shape(self, num_samples: int) -> tuple[int, int]:
        """K and L of that many samples."""

    def encode(self, batch: ClipBatch) -> Tokens:
        """Stream "audio": (B, K, C * L). Raises AvbenchError for clips without sound."""
        audio = channels_of(batch, self.info.name)
        duration_s = audio_duration(batch, audio)
        samples = torchaudio.functional.resample(audio.float(), batch.sample_rate, self._rate)[..., : round(duration_s * self._rate)]
        codes = torch.cat([torch.cat([self.to_codes(x[None, None].to(self.device)) for x in clip], dim=2) for clip in samples])
        return Tokens(codes={"audio": codes}, vocab_sizes={"audio": self.vocab_size}, duration_s=duration_s)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Audio (B, C, N) at the split's rate, cut to the clip's length. Raises AvbenchError for codes of another shape or vocabulary."""
        codes = tokens.codes["audio"]
        num_samples = round(tokens.duration_s * self._rate)
        channels = self.protocol.channels
        codebooks, length = self.code_shape(num_samples)
        expected = (codebooks, channels * length)
        if codes.shape[1:] != expected or tokens.vocab_sizes["audio"] != self.vocab_size:
            found = f"{tuple(codes.shape[1:])} codes of {tokens.vocab_sizes['audio']} entries"
            raise AvbenchError(
                f"damaged payload: {found}; {self.info.name} has {expected} of {self.vocab_size} for {tokens.duration_s:g} s"
            )
        rows = (row[None].to(self.device) for clip in codes for row in clip.split(length, dim=1))
        samples = torch.cat([_fitted(self.to_samples(row), num_samples) for row in rows]).to(codes.device)
        rate = self.protocol.sample_rate
        audio = torchaudio.functional.resample(samples.reshape(len(codes), channels, -1), self._rate, rate)
        audio = audio[..., : round(tokens.duration_s * rate)].clamp(-1, 1)  # decoders and resampling overshoot
        return ClipBatch(audio=audio, fps=0.0, sample_rate=rate)

    @property
    def _rate(self) -> int:
        assert self.info.sample_rate is not None
        return self.info.sample_rate


def pick_rate(variants: tuple[str, ...], offered: dict[str, int], default: str, name: str) -> str:
    """The one variant, or `default`. Raises UsageError where it is not one of `offered` (rate -> number of codebooks)."""
    if len(variants) > 1:
        raise UsageError(f"{name} takes one bit rate, not {', '.join(variants)}; for example {name}@{default}")
    rate = variants[0] if variants else default
    if rate not in offered:
        raise UsageError(f'{name} has no bit rate "{rate}"; it offers {", ".join(offered)} bit/s, for example {name}@{default}')
    return rate


def _fitted(samples: Tensor, num_samples: int) -> Tensor:
    """Exactly `num_samples`: the networks' padding is cut off, the few samples that odd strides lose at the end are zeros."""
    return F.pad(samples, (0, max(0, num_samples - samples.shape[-1])))[..., :num_samples]
