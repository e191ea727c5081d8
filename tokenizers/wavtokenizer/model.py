"""WavTokenizer (Ji et al. 2024, arXiv 2408.16532): SEANet encoder, one codebook, Vocos decoder. B clips, N samples, L tokens."""

from torch import Tensor, nn

from avbench.nn.residual_vq import Codebook, ResidualQuantizer
from avbench.tokenizers.wavtokenizer.backbone import Backbone
from avbench.tokenizers.wavtokenizer.config import WavTokenizerConfig
from avbench.tokenizers.wavtokenizer.head import SpectrumHead
from avbench.tokenizers.wavtokenizer.seanet import Encoder
from avbench.train.waveform.config import Reconstruction


class WavTokenizerModel(nn.Module):
    """`model(audio)` trains; `tokenize` and `detokenize` are its two halves."""

    def __init__(self, config: WavTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder, config.codebook.dim)
        self.quantizer = ResidualQuantizer(config.codebook)
        self.backbone = Backbone(config.backbone, config.codebook.dim)
        self.head = SpectrumHead(config.backbone.width, config.n_fft, config.hop)

    def forward(self, audio_BN: Tensor) -> Reconstruction:
        """(B, N) in [-1, 1] at the model's rate -> the same through the codebook; in training, the codebook learns."""
        quantized = self.quantizer(self.encoder(audio_BN[:, None]))
        audio = self.head(self.backbone(quantized.latents))[:, : audio_BN.shape[1]]
        return Reconstruction(audio=audio, codes=quantized.codes, commitment=quantized.loss)

    def tokenize(self, audio_BN: Tensor) -> Tensor:
        """(B, N) -> int64 (B, 1, ceil(N / hop))."""
        return self.quantizer.encode(self.encoder(audio_BN[:, None]))

    def detokenize(self, codes_B1L: Tensor) -> Tensor:
        """int64 (B, 1, L) -> (B, L * hop), not clamped."""
        return self.head(self.backbone(self.quantizer.decode(codes_B1L)))

    def num_parameters(self) -> int:
        """Learned numbers: the weights, and the codebook, which is a buffer."""
        books = sum(layer.embed.numel() for layer in self.quantizer.layers if isinstance(layer, Codebook))
        return sum(parameter.numel() for parameter in self.parameters()) + books
