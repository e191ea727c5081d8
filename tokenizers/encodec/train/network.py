"""EnCodec for training: the layers of `transformers.EncodecModel` around codebooks that learn (avbench/nn/residual_vq.py).

transformers' own quantizer cannot be trained. B clips, N samples, L frames, K codebooks.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from avbench.nn.residual_vq import CodebookConfig, ResidualQuantizer
from avbench.tokenizers.published import require
from avbench.train.waveform.config import Reconstruction

if TYPE_CHECKING:
    from transformers import EncodecConfig, EncodecModel

SIZES = ("stride", "kernel_size", "padding_total")  # of transformers' convolutions


@dataclass(frozen=True, kw_only=True)
class EncodecSize:
    """The 24 kHz model's shape, and what a smaller one differs in. One frame is the product of `ratios` samples.

    bandwidths: kbit/s that the trained model offers; the largest says how many codebooks there are.
    """

    filters: int = 32
    dim: int = 128
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    lstm_layers: int = 2
    bandwidths: tuple[float, ...] = (1.5, 3.0)
    codebook: CodebookConfig = field(default_factory=lambda: CodebookConfig(entries=1024, dim=128))

    def to_transformers(self) -> "EncodecConfig":
        """The same for `transformers`."""
        require("transformers", "encodec", "training an EnCodec")
        from transformers import EncodecConfig

        return EncodecConfig(
            target_bandwidths=list(self.bandwidths),
            num_filters=self.filters,
            hidden_size=self.dim,
            codebook_dim=self.dim,
            codebook_size=self.codebook.entries,
            upsampling_ratios=list(self.ratios),
            num_lstm_layers=self.lstm_layers,
        )


class TrainableEncodec(nn.Module):
    """`model(audio, 2)` trains with the first two codebooks; `tokenize` and `detokenize` are its two halves."""

    def __init__(self, size: EncodecSize) -> None:
        super().__init__()
        self.size = size
        config = size.to_transformers()
        from transformers import EncodecModel

        network = EncodecModel(config)
        self.encoder, self.decoder = network.encoder, network.decoder
        _with_plain_sizes(self)
        self.quantizer = ResidualQuantizer(size.codebook, network.config.num_quantizers)

    def forward(self, audio_BN: Tensor, num_codebooks: int | None = None) -> Reconstruction:
        """(B, N) in [-1, 1] -> the same through the codebooks; in training, those learn."""
        quantized = self.quantizer(self.encoder(audio_BN[:, None]), num_codebooks)
        audio = self.decoder(quantized.latents)[:, 0, : audio_BN.shape[1]]
        return Reconstruction(audio=audio, codes=quantized.codes, commitment=quantized.loss)

    def tokenize(self, audio_BN: Tensor, num_codebooks: int | None = None) -> Tensor:
        """(B, N) -> int64 (B, K, ceil(N / hop))."""
        return self.quantizer.encode(self.encoder(audio_BN[:, None]), num_codebooks)

    def detokenize(self, codes_BKL: Tensor) -> Tensor:
        """int64 (B, K, L) -> (B, L * hop), not clamped."""
        return self.decoder(self.quantizer.decode(codes_BKL))[:, 0]

    def published(self) -> "EncodecModel":
        """The same network as `transformers` knows it, codebooks in its buffers."""
        from transformers import EncodecModel

        network = EncodecModel(self.size.to_transformers())
        network.encoder.load_state_dict(self.encoder.state_dict())
        network.decoder.load_state_dict(self.decoder.state_dict())
        for theirs, ours in zip(network.quantizer.layers, self.quantizer.layers, strict=True):
            theirs.get_submodule("codebook").load_state_dict(ours.state_dict())
        return network.eval()

    def take(self, network: "EncodecModel") -> None:
        """The inverse of `published`."""
        self.encoder.load_state_dict(network.encoder.state_dict())
        self.decoder.load_state_dict(network.decoder.state_dict())
        for ours, theirs in zip(self.quantizer.layers, network.quantizer.layers, strict=True):
            ours.load_state_dict(theirs.get_submodule("codebook").state_dict())

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return math.prod(self.size.ratios)


def _with_plain_sizes(codec: nn.Module) -> None:
    """transformers' convolutions compute their padding with tensors, which move with the model: on a GPU each would wait for the device."""
    for part in codec.modules():
        if all(name in part._buffers for name in SIZES):
            sizes = {name: int(part.get_buffer(name)) for name in SIZES}
            for name, size in sizes.items():
                part._buffers.pop(name)
                setattr(part, name, size)
            part._get_extra_padding_for_conv1d = _Rest(sizes["stride"])  # type: ignore[assignment]


class _Rest:
    """Samples that fill the last frame."""

    def __init__(self, stride: int) -> None:
        self.stride = stride

    def __call__(self, hidden_states: Tensor) -> int:
        return -hidden_states.shape[-1] % self.stride
