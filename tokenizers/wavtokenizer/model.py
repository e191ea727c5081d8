"""WavTokenizer (Ji et al. 2024, arXiv 2408.16532): SEANet encoder, one codebook, Vocos decoder.

The decoder's body is Vocos' ConvNeXt stack (Siuzdak 2023, arXiv 2306.00814) behind residual blocks and one attention (WavTokenizer); all
layers keep the frame rate. Its head makes a spectrum a frame, and of that sound by an inverse transform with "same" padding.

B clips, C channels, L tokens or frames, N = L * hop samples, F = n_fft / 2 + 1 bins. n_fft is a multiple of the hop.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nn.residual_vq import Codebook, ResidualQuantizer
from avbench.tokenizers.wavtokenizer.config import BackboneConfig, WavTokenizerConfig
from avbench.tokenizers.wavtokenizer.seanet import Encoder
from avbench.train.waveform.config import Reconstruction

EPS = 1e-6


class Backbone(nn.Module):
    """Latents (B, C, L) -> features (B, L, width)."""

    def __init__(self, config: BackboneConfig, inputs: int) -> None:
        super().__init__()
        width = config.width
        self.embed = nn.Conv1d(inputs, width, 7, padding=3)
        before, after = ([ResidualBlock(config) for _ in range(config.position_blocks)] for _ in range(2))
        self.pos_net = nn.Sequential(*before, Attention(config), *after, _group_norm(config))
        self.norm = ConditionalNorm(config)
        self.convnext = nn.ModuleList(ConvNeXtBlock(config) for _ in range(config.layers))
        self.final_layer_norm = nn.LayerNorm(width, eps=EPS)
        for part in (self.embed, *self.convnext.modules()):
            if isinstance(part, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                assert part.bias is not None
                nn.init.zeros_(part.bias)

    def forward(self, z_BCL: Tensor) -> Tensor:
        x = self.pos_net(self.embed(z_BCL))
        x_BLC = self.norm(x.transpose(1, 2))
        for block in self.convnext:
            x_BLC = block(x_BLC)
        return self.final_layer_norm(x_BLC)


class ResidualBlock(nn.Module):
    """Twice GroupNorm, SiLU, convolution; added to the input."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.norm1 = _group_norm(config)
        self.conv1 = nn.Conv1d(config.width, config.width, 3, padding=1)
        self.norm2 = _group_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(self.dropout(F.silu(self.norm2(inside))))


class Attention(nn.Module):
    """One head over all frames, without positions; added to the input."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.norm = _group_norm(config)
        self.q, self.k, self.v, self.proj_out = (nn.Linear(config.width, config.width) for _ in range(4))

    def forward(self, x_BCL: Tensor) -> Tensor:
        normed_BLC = self.norm(x_BCL).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(self.q(normed_BLC), self.k(normed_BLC), self.v(normed_BLC))
        return x_BCL + self.proj_out(mixed).transpose(1, 2)


class ConditionalNorm(nn.Module):
    """LayerNorm whose gain and bias are picked from a table; the published models use row 0, of a table once meant for bit rates."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.scale = nn.Embedding(config.conditions, config.width)
        self.shift = nn.Embedding(config.conditions, config.width)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x_BLC: Tensor) -> Tensor:
        return F.layer_norm(x_BLC, x_BLC.shape[-1:], self.scale.weight[0], self.shift.weight[0], EPS)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, norm, two linear layers, a gain a channel; added to the input."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(config.width, config.width, 7, padding=3, groups=config.width)
        self.norm = ConditionalNorm(config)
        self.pwconv1 = nn.Linear(config.width, config.hidden)
        self.pwconv2 = nn.Linear(config.hidden, config.width)
        self.gamma = nn.Parameter(torch.full((config.width,), 1 / config.layers))

    def forward(self, x_BLC: Tensor) -> Tensor:
        mixed = self.norm(self.dwconv(x_BLC.transpose(1, 2)).transpose(1, 2))
        return torch.addcmul(x_BLC, self.gamma, self.pwconv2(F.gelu(self.pwconv1(mixed))))


def _group_norm(config: BackboneConfig) -> nn.GroupNorm:
    return nn.GroupNorm(config.groups, config.width, eps=EPS)


MAX_MAGNITUDE = 100.0


class SpectrumHead(nn.Module):
    """Features (B, L, C) -> waveform (B, L * hop), float32."""

    def __init__(self, width: int, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.out = nn.Linear(width, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft))
        self.window: Tensor

    def forward(self, x_BLC: Tensor) -> Tensor:
        log_magnitude, phase = self.out(x_BLC).float().chunk(2, dim=-1)
        with torch.autocast(x_BLC.device.type, enabled=False):
            spectrum = torch.polar(log_magnitude.exp().clamp_max(MAX_MAGNITUDE), phase)
            return inverse_stft(spectrum, self.window, self.hop)


def inverse_stft(spectrum_BLF: Tensor, window: Tensor, hop: int) -> Tensor:
    """Overlap-add of windowed frames, over the sum of squared windows; (n_fft - hop) / 2 samples are cut off at each end: (B, L * hop).

    torch.istft centres its frames and gives (L - 1) * hop samples instead.
    """
    frames = torch.fft.irfft(spectrum_BLF, len(window)) * window
    length = frames.shape[1]
    envelope = _overlap_add(window.square().expand(1, length, -1), hop)
    pad = (len(window) - hop) // 2
    whole = _overlap_add(frames, hop)
    return (whole / envelope.clamp_min(1e-11))[:, pad : pad + length * hop]


def _overlap_add(frames_BLW: Tensor, hop: int) -> Tensor:
    """(B, L, W) -> (B, (L - 1) * hop + W): W / hop shifted copies of hops, added."""
    parts = frames_BLW.unflatten(2, (-1, hop)).unbind(2)
    batch, length = frames_BLW.shape[:2]
    out = frames_BLW.new_zeros(batch, length + len(parts) - 1, hop)
    for shift, part in enumerate(parts):
        out[:, shift : shift + length] += part
    return out.flatten(1)


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
