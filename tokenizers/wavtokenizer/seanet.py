"""SEANet's encoder, not causal (Tagliasacchi et al. 2020, arXiv 2009.02095; Défossez et al. 2022, arXiv 2210.13438, section 3.1).

B clips, C channels, N samples, L frames. Every convolution has weight normalisation, weight = g v / |v|, computed at each step of
training and once for inference. Activations lie as (B, L, C): convolutions of few channels over many frames take half the time of
(B, C, L) on a CPU (benchmarks/wavtokenizer_speed.py).
"""

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
            layers += [ResidualBlock(width, config), _counted_elu(), Conv(width, 2 * width, 2 * stride, stride, elu=True)]
            width *= 2
        layers += [ResidualLstm(width, config.lstm_layers), _counted_elu(), Conv(width, dim, config.last_kernel, elu=True)]
        self.model = nn.Sequential(*layers)

    def forward(self, audio_B1N: Tensor) -> Tensor:
        return self.model(audio_B1N.transpose(1, 2)).transpose(1, 2)


class Conv(nn.Module):
    """(B, L, C) -> (B, ceil(L / stride), C'): optionally ELU, then a weight-normalised convolution.

    The input is reflected at both ends, one more at the left where the sum is odd.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, elu: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride, self.elu = kernel, stride, elu
        plain = nn.Conv1d(inputs, outputs, kernel)
        assert plain.bias is not None
        self.weight_g = nn.Parameter(plain.weight.detach().flatten(1).norm(dim=1).view(-1, 1, 1))
        self.weight_v = nn.Parameter(plain.weight.detach())
        self.bias = nn.Parameter(plain.bias.detach())
        self.register_buffer("folded", None, persistent=False)
        self.folded: Tensor | None
        self.is_product = kernel == 1 or inputs == 1  # which a matrix product computes faster than a convolution
        self.packed: nn.Module | None = None

    def forward(self, x_BLC: Tensor) -> Tensor:
        x = self._extended(x_BLC)
        if self.is_product:
            windows = x.unfold(1, self.kernel, self.stride).flatten(2) if self.kernel > 1 else x
            return F.linear(windows, self._kernels().flatten(1), self.bias) if self.packed is None else self.packed(windows)
        weight = self._kernels()
        return F.conv2d(x.transpose(1, 2)[:, :, None], weight, self.bias, (1, self.stride))[:, :, 0].transpose(1, 2)

    def weight(self) -> Tensor:
        """(C', C, kernel): g v / |v|, the norm over all but the output channels."""
        return torch._weight_norm(self.weight_v, self.weight_g, 0)

    def fold(self) -> None:
        """Compute the weight norm once, in the order of memory that inference wants."""
        self.folded = self.weight().detach()[:, :, None].contiguous(memory_format=torch.channels_last)

    def _kernels(self) -> Tensor:
        """(C', C, 1, kernel)."""
        return self.weight()[:, :, None] if self.folded is None else self.folded

    def _extended(self, x_BLC: Tensor) -> Tensor:
        """ELU where it belongs here, and the reflected ends."""
        total, length = self.kernel - self.stride, x_BLC.shape[1]
        right = total // 2 + -length % self.stride
        left = total - total // 2
        if left == right == 0:
            return F.elu(x_BLC) if self.elu else x_BLC
        short = max(0, max(left, right) - length + 1)  # a reflection needs more frames than it makes: zeros, cut off again
        x = F.pad(x_BLC, (0, 0, 0, short)) if short else x_BLC
        return reflected(x, left, right, self.elu)[:, : length + left + right]


class ResidualBlock(nn.Module):
    """A narrow convolution and a 1x1 convolution, beside a 1x1 convolution as the skip."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        inside = width // config.compress
        narrow = Conv(width, inside, config.residual_kernel, elu=True)
        self.block = nn.Sequential(_counted_elu(), narrow, nn.ELU(inplace=True), Conv(inside, width, 1))
        self.shortcut = Conv(width, width, 1)

    def forward(self, x_BLC: Tensor) -> Tensor:
        out = self.shortcut(x_BLC)
        out += self.block(x_BLC)
        return out


class ResidualLstm(nn.Module):
    """An LSTM over the frames, added to its input."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)

    def forward(self, x_BLC: Tensor) -> Tensor:
        y_BLC, _ = self.lstm(x_BLC)
        return y_BLC + x_BLC


def reflected(x_BLC: Tensor, left: int, right: int, elu: bool) -> Tensor:
    """(B, left + L + right, C): x, or ELU of x, with its ends mirrored about the first and the last frame."""
    length = x_BLC.shape[1]
    if torch.is_grad_enabled() or not elu:
        x = F.elu(x_BLC) if elu else x_BLC
        return torch.cat([x[:, 1 : left + 1].flip(1), x, x[:, length - 1 - right : length - 1].flip(1)], dim=1)
    # One pass instead of two: the copy for the ends would cost as much as the ELU.
    out = x_BLC.new_empty(x_BLC.shape[0], left + length + right, x_BLC.shape[2])
    torch.ops.aten.elu.out(x_BLC, out=out[:, left : left + length])
    out[:, :left] = out[:, left + 1 : 2 * left + 1].flip(1)
    out[:, left + length :] = out[:, left + length - 1 - right : left + length - 1].flip(1)
    return out


def _counted_elu() -> nn.Module:
    """Nothing: the next convolution has the ELU. It keeps the published numbering of the layers."""
    return nn.Identity()
