"""SEANet's encoder, not causal (Tagliasacchi et al. 2020, arXiv 2009.02095; Défossez et al. 2022, arXiv 2210.13438, section 3.1).

B clips, C channels, N samples, L frames. Every convolution has weight normalisation, weight = g v / |v|, computed at each step of
training and once for inference.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.tokenizers.wavtokenizer.config import EncoderConfig


class Encoder(nn.Module):
    """Waveform (B, 1, N) -> latents (B, C, ceil(N / hop))."""

    def __init__(self, config: EncoderConfig, dim: int) -> None:
        super().__init__()
        width = config.filters
        layers: list[nn.Module] = [Conv(1, width, config.kernel)]
        for stride in config.strides:
            layers += [ResidualBlock(width, config), nn.ELU(), Conv(width, 2 * width, 2 * stride, stride)]
            width *= 2
        layers += [ResidualLstm(width, config.lstm_layers), nn.ELU(), Conv(width, dim, config.last_kernel)]
        self.model = nn.Sequential(*layers)

    def forward(self, audio_B1N: Tensor) -> Tensor:
        return self.model(audio_B1N)


class Conv(nn.Module):
    """A weight-normalised convolution whose output has ceil(length / stride) frames: reflected at both ends, more at the left where odd."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        plain = nn.Conv1d(inputs, outputs, kernel)
        assert plain.bias is not None
        self.weight_g = nn.Parameter(plain.weight.detach().flatten(1).norm(dim=1).view(-1, 1, 1))
        self.weight_v = nn.Parameter(plain.weight.detach())
        self.bias = nn.Parameter(plain.bias.detach())
        self.register_buffer("folded", None, persistent=False)
        self.folded: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight() if self.folded is None else self.folded
        return F.conv1d(self._pad(x), weight, self.bias, self.stride)

    def weight(self) -> Tensor:
        """g v / |v|: the norm over all but the output channels."""
        return torch._weight_norm(self.weight_v, self.weight_g, 0)

    def _pad(self, x: Tensor) -> Tensor:
        total, length = self.kernel - self.stride, x.shape[-1]
        if total == 0 and length % self.stride == 0:
            return x
        right = total // 2
        left, right = total - right, right + math.ceil(length / self.stride) * self.stride - length
        short = max(0, max(left, right) - length + 1)  # a reflection needs more samples than it makes: zeros, cut off again
        return F.pad(F.pad(x, (0, short)) if short else x, (left, right), mode="reflect")[..., : length + left + right]


class ResidualBlock(nn.Module):
    """A narrow convolution and a 1x1 convolution, beside a 1x1 convolution as the skip."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        inside = width // config.compress
        self.block = nn.Sequential(nn.ELU(), Conv(width, inside, config.residual_kernel), nn.ELU(), Conv(inside, width, 1))
        self.shortcut = Conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


class ResidualLstm(nn.Module):
    """An LSTM over the frames, added to its input."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers)

    def forward(self, x_BCL: Tensor) -> Tensor:
        y_LBC, _ = self.lstm(x_BCL.permute(2, 0, 1))
        return y_LBC.permute(1, 2, 0) + x_BCL
