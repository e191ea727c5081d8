"""EnCodec's 48 kHz stereo model (Défossez et al. 2022, arXiv 2210.13438): one second at a time, each made equally loud first.

A clip is cut into segments of one second that overlap by 1 %; the last one is as short as what is left. Each is divided by its loudness,
which goes along as a float of 32 bits, as in the authors' own files; decoded segments are faded into each other. B clips, K codebooks.
"""

import math

import numpy as np
import torch
import torchaudio
from torch import Tensor

from avbench.errors import AvbenchError, UsageError
from avbench.protocol import Protocol
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.edges import BYTE_VOCAB, at_split_rate, audio_duration, channels_of
from avbench.tokenizers.encodec.checkpoint import load_checkpoint
from avbench.tokenizers.waveform_codec import pick_rate
from avbench.types import ClipBatch, Tokens

DEFAULT_RATE = "6k"
CODES, SCALES = "audio", "audio.scale"
FLOAT_BYTES = 4
SILENCE = 1e-8  # added to a segment's loudness


class EncodecStereo:
    """`encodec-48khz@6k`: EnCodec 48 kHz stereo at 3, 6, 12 or 24 kbit/s, and 32 bits a segment.

    Clips of another rate are resampled (windowed sinc) on the way in and back. Mono is coded as two equal channels, and comes back as
    their average. A checkpoint is the official `encodec_48khz-7e698e3e.th`, or a Hugging Face folder.
    """

    def __init__(self, options: TokenizerOptions) -> None:
        """Variant: the bit rate. Raises UsageError for one that the model has not, or for more than two channels; AvbenchError for the
        weights."""
        self.protocol, self.device = options.protocol or Protocol(channels=2), options.device
        if self.protocol.channels > 2:
            raise UsageError(f"encodec-48khz is stereo; clips of this split have {self.protocol.channels} channels")
        checkpoint = load_checkpoint(options.checkpoint, options.device, stereo=True)
        self.model = checkpoint.model
        config = self.model.config
        assert config.chunk_length is not None
        assert config.chunk_stride is not None
        self.rate, self.hop, self.vocab_size = config.sampling_rate, config.hop_length, config.codebook_size
        self.segment, self.stride = config.chunk_length, config.chunk_stride
        bits_per_s = config.frame_rate * math.log2(self.vocab_size)
        offered = {f"{rate:g}k": max(1, math.floor(1000 * rate / bits_per_s)) for rate in config.target_bandwidths}
        rate = pick_rate(options.variants, offered, DEFAULT_RATE if DEFAULT_RATE in offered else list(offered)[-1], "encodec-48khz")
        self.bandwidth, self.num_codebooks = float(rate.removesuffix("k")), offered[rate]
        width = config.codebook_dim or config.hidden_size
        self.info = TokenizerInfo(
            name=f"encodec-48khz@{rate}",
            revision=f"{checkpoint.sha256[:16]}-{self.num_codebooks}",
            modalities=frozenset({"audio"}),
            sample_rate=self.rate,
            parameters=sum(weight.numel() for weight in self.model.parameters()) + self.num_codebooks * self.vocab_size * width,
            trained_on=checkpoint.trained_on,
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Streams "audio" (B, K, L), the segments' codes one after another, and "audio.scale" (B, 1, 4 a segment), big-endian floats."""
        audio = channels_of(batch, self.info.name)
        duration_s = audio_duration(batch, audio)
        samples = torchaudio.functional.resample(audio.float(), batch.sample_rate, self.rate)[..., : round(duration_s * self.rate)]
        clips = [self._encode(clip.expand(2, -1)[None].to(self.device)) for clip in samples]
        return Tokens(
            codes={CODES: torch.cat([codes for codes, _ in clips]), SCALES: torch.cat([scales for _, scales in clips])},
            vocab_sizes={CODES: self.vocab_size, SCALES: BYTE_VOCAB},
            duration_s=duration_s,
        )

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Audio (B, C, N) at the split's rate and channels. Raises AvbenchError for codes of another shape or vocabulary."""
        lengths = self._lengths(round(tokens.duration_s * self.rate))
        expected = {
            CODES: (self.num_codebooks, sum(math.ceil(length / self.hop) for length in lengths), self.vocab_size),
            SCALES: (1, FLOAT_BYTES * len(lengths), BYTE_VOCAB),
        }
        found = {name: (*codes.shape[1:], tokens.vocab_sizes[name]) for name, codes in tokens.codes.items()}
        if found != expected:
            raise AvbenchError(f"damaged payload: {found}; {self.info.name} has {expected} for {tokens.duration_s:g} s")
        pairs = zip(tokens.codes[CODES], tokens.codes[SCALES], strict=True)
        samples = torch.cat([self._decode(codes[None].to(self.device), scales, lengths) for codes, scales in pairs])
        samples = samples.to(tokens.codes[CODES].device)
        if self.protocol.channels == 1:
            samples = samples.mean(dim=1, keepdim=True)
        audio = at_split_rate(samples, self.rate, tokens.duration_s, self.protocol).clamp(-1, 1)
        return ClipBatch(audio=audio, fps=0.0, sample_rate=self.protocol.sample_rate)

    def _lengths(self, num_samples: int) -> list[int]:
        """Of the segments that begin every `stride` samples."""
        return [min(self.segment, num_samples - start) for start in range(0, num_samples, self.stride)]

    def _encode(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 2, N) -> codes (1, K, L) and the scales' bytes (1, 1, 4 a segment)."""
        codes, scales = [], []
        for number, length in enumerate(self._lengths(samples.shape[2])):
            segment = samples[..., number * self.stride :][..., :length]
            scale = segment.mean(dim=1).square().mean().sqrt() + SILENCE
            latents = self.model.encoder(segment / scale)
            codes.append(self.model.quantizer.encode(latents, self.bandwidth).transpose(0, 1).cpu())
            scales.append(float(scale))
        data = np.frombuffer(np.array(scales, ">f4").tobytes(), np.uint8)
        return torch.cat(codes, dim=2), torch.from_numpy(data.astype(np.int64))[None, None]

    def _decode(self, codes: Tensor, scales: Tensor, lengths: list[int]) -> Tensor:
        """Codes (1, K, L), bytes (1, 4 a segment) -> (1, 2, N). Raises AvbenchError for a scale that is no loudness."""
        factors = np.frombuffer(bytes(scales[0].tolist()), ">f4").astype(np.float32)
        if not (np.isfinite(factors).all() and (factors > 0).all()):
            raise AvbenchError(f"damaged payload: a segment's loudness is {factors.min()}")
        frames = [math.ceil(length / self.hop) for length in lengths]
        pieces = [
            self.model.decoder(self.model.quantizer.decode(part.transpose(0, 1))) * float(factor)
            for part, factor in zip(codes.split(frames, dim=2), factors, strict=True)
        ]
        return _faded(pieces, self.stride)[..., : (len(lengths) - 1) * self.stride + lengths[-1]]


def _faded(pieces: list[Tensor], stride: int) -> Tensor:
    """Pieces (1, C, N) that begin every `stride` samples as one: where they overlap, weighted by their distance to their ends."""
    longest = pieces[0].shape[-1]
    rise = torch.linspace(0, 1, longest + 2, device=pieces[0].device)[1:-1]
    weight = 0.5 - (rise - 0.5).abs()
    size = (len(pieces) - 1) * stride + pieces[-1].shape[-1]
    total, weights = pieces[0].new_zeros(*pieces[0].shape[:-1], size), pieces[0].new_zeros(size)
    for number, piece in enumerate(pieces):
        place = slice(number * stride, number * stride + piece.shape[-1])
        total[..., place] += weight[: piece.shape[-1]] * piece
        weights[place] += weight[: piece.shape[-1]]
    return total / weights
