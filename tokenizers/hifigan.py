"""HiFi-GAN V1, the generator (Kong et al. 2020, arXiv 2010.05646, section 2.2 and table 5), for inference.

Weight normalisation is folded into the weights when they are loaded. Shapes: B clips, C channels, F frames, N = 256 F samples.
"""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from avbench.artifact import fill
from avbench.errors import AvbenchError
from avbench.nn.weight_norm import fold_weight_norm
from avbench.weights.load import load_torch, tensors

NUM_MELS = 80
UPSAMPLING = ((8, 16), (8, 16), (2, 4), (2, 4))  # stride and kernel of each transposed convolution: 256 samples a frame
CHANNELS = 512
KERNELS = (3, 7, 11)  # of the three residual blocks that are averaged at each resolution
DILATIONS = (1, 3, 5)
SLOPE = 0.1


class HifiGanGenerator(nn.Module):
    """Log-mel (B, 80, F) -> waveform (B, 1, 256 F) in [-1, 1]."""

    def __init__(self, channels: int = CHANNELS) -> None:
        """`channels` behind the first convolution; halved by each upsampling. 512 is V1."""
        super().__init__()
        widths = [channels >> stage for stage in range(len(UPSAMPLING) + 1)]
        self.conv_pre = nn.Conv1d(NUM_MELS, channels, 7, padding=3)
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(wide, narrow, kernel, stride, padding=(kernel - stride) // 2)
            for wide, narrow, (stride, kernel) in zip(widths, widths[1:], UPSAMPLING, strict=False)
        )
        self.resblocks = nn.ModuleList(_ResidualBlock(width, kernel) for width in widths[1:] for kernel in KERNELS)
        self.conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.conv_pre(mel)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            blocks = self.resblocks[stage * len(KERNELS) : (stage + 1) * len(KERNELS)]
            x = sum(block(x) for block in blocks) / len(KERNELS)
        return self.conv_post(F.leaky_relu(x)).tanh()  # the last slope is PyTorch's default 0.01, as in the published code


class _ResidualBlock(nn.Module):
    """Three dilated convolutions, each followed by a plain one and added to its input."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same_conv(channels, kernel, dilation) for dilation in DILATIONS)
        self.convs2 = nn.ModuleList(_same_conv(channels, kernel, 1) for _ in DILATIONS)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


def load(path: Path, sha256: str | None = None) -> HifiGanGenerator:
    """The generator of a published checkpoint ({"generator": state}), ready for inference. Raises AvbenchError where it does not fit."""
    content = load_torch(path, sha256)
    if not isinstance(content, dict) or not isinstance(content.get("generator"), dict):
        raise AvbenchError(f'{path} is not a HiFi-GAN checkpoint: it has no "generator"')
    state = fold_weight_norm(tensors(content["generator"], path), str(path), product_first=True)
    width = state["conv_pre.bias"].shape[0] if "conv_pre.bias" in state else CHANNELS
    model = HifiGanGenerator(width)
    fill(model, state, path, "a HiFi-GAN V1 generator")
    return model.eval().requires_grad_(False)


def _same_conv(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)
