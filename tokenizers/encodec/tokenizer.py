"""EnCodec (Défossez et al. 2022, arXiv 2210.13438), the causal 24 kHz model: residual vector quantisation, 75 frames a second."""

import math

from torch import Tensor

from avbench.protocol import Protocol
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.encodec.checkpoint import load_checkpoint
from avbench.tokenizers.waveform_codec import WaveformCodec, pick_rate

DEFAULT_RATE = "6k"


class Encodec(WaveformCodec):
    """`encodec@6k`: EnCodec 24 kHz at 1.5, 3, 6, 12 or 24 kbit/s.

    A checkpoint is the official `encodec_24khz-d7cc33bc.th`, a Hugging Face folder, or a folder that `avbench train` wrote.
    """

    def __init__(self, options: TokenizerOptions) -> None:
        """Variant: the bit rate. Raises UsageError for one that the model has not, AvbenchError where its weights are absent or damaged."""
        checkpoint = load_checkpoint(options.checkpoint, options.device)
        self.model, self.device = checkpoint.model, options.device
        self.protocol = options.protocol or Protocol()
        config = self.model.config
        self.vocab_size, self.hop = config.codebook_size, config.hop_length
        bits_per_s = config.frame_rate * math.log2(self.vocab_size)
        offered = {f"{rate:g}k": max(1, math.floor(1000 * rate / bits_per_s)) for rate in config.target_bandwidths}
        default = DEFAULT_RATE if DEFAULT_RATE in offered else list(offered)[-1]
        rate = pick_rate(options.variants, offered, default, checkpoint.name)
        self.bandwidth, self.num_codebooks = float(rate.removesuffix("k")), offered[rate]
        self.info = TokenizerInfo(
            name=f"{checkpoint.name}@{rate}",
            revision=f"{checkpoint.sha256[:16]}-{self.num_codebooks}",
            modalities=frozenset({"audio"}),
            sample_rate=config.sampling_rate,
            parameters=sum(weight.numel() for weight in self.model.parameters()) + self._codebook_entries(),
            trained_on=checkpoint.trained_on,
        )

    def to_codes(self, samples: Tensor) -> Tensor:
        return self.model.encode(samples, bandwidth=self.bandwidth, return_dict=False)[0][0]

    def to_samples(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes[None], [None], return_dict=False)[0]  # type: ignore[arg-type]  # no scale: the model does not normalise

    def code_shape(self, num_samples: int) -> tuple[int, int]:
        return self.num_codebooks, math.ceil(num_samples / self.hop)

    def _codebook_entries(self) -> int:
        """Learned numbers of the codebooks in use, which EnCodec keeps as buffers."""
        width = self.model.config.codebook_dim or self.model.config.hidden_size
        return self.num_codebooks * self.vocab_size * width
