"""The decoder's body: Vocos' ConvNeXt stack (Siuzdak 2023, arXiv 2306.00814) behind residual blocks and one attention (WavTokenizer).

B clips, C channels, L frames. All layers keep the frame rate.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.tokenizers.wavtokenizer.config import BackboneConfig

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
