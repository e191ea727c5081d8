"""LARP's discriminator: a ViT with a class token, smoothed cross-entropy and LeCam regularisation. B clips, L patches."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nn.transformer import LayerNorm, Linear, NormedBlock, xavier_linears
from avbench.tokenizers.avtok.config import DiscriminatorConfig, StreamConfig
from avbench.tokenizers.avtok.streams import patchify, sincos_3d

LABEL_NOISE, REAL_FLOOR, FAKE_CEILING = 0.15, 0.7, 0.3
LECAM_DECAY = 0.999
LECAM_WEIGHT = 1e-6  # LARP's effective weight


class Discriminator(nn.Module):
    """One logit a clip: high for real ones."""

    def __init__(self, config: DiscriminatorConfig, stream: StreamConfig) -> None:
        super().__init__()
        self.stream = stream
        self.compute_dtype = torch.float32  # bfloat16 on a CUDA device (train/objective.py)
        self.embed = Linear(stream.patch_dim, config.width)
        self.cls = nn.Parameter(torch.randn(config.width) * 0.02)
        self.register_buffer("position", sincos_3d(stream.grid, config.width), persistent=False)
        self.blocks = nn.ModuleList(NormedBlock(config.width, config.heads) for _ in range(config.layers))
        self.norm = LayerNorm(config.width)
        self.head = Linear(config.width, 1)
        self.position: Tensor
        xavier_linears(self)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """(B, T, C, H, W) in [0, 1] -> (B,) float32."""
        x = self.embed((2 * patchify(x_BTCHW, self.stream) - 1).to(self.compute_dtype))
        x = x + self.position.to(x.dtype)
        x = torch.cat([self.cls.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0])).squeeze(-1).float()  # type: ignore[no-any-return]


def generator_loss(fake_B: Tensor) -> Tensor:
    """-log sigmoid(D(recon)), mean."""
    return -F.logsigmoid(fake_B).mean()


def smoothed_bce(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """Cross-entropy against noisy labels: real max(1 - 0.15 |n|, 0.7), fake min(0.15 |n|, 0.3), n normal."""
    real_label = (1 - LABEL_NOISE * torch.randn_like(real_B).abs()).clamp_min(REAL_FLOOR)
    fake_label = (LABEL_NOISE * torch.randn_like(fake_B).abs()).clamp_max(FAKE_CEILING)
    losses = F.binary_cross_entropy_with_logits(real_B, real_label), F.binary_cross_entropy_with_logits(fake_B, fake_label)
    return 0.5 * (losses[0] + losses[1])


class LeCam(nn.Module):
    """Tseng et al. 2021: keeps logits of each kind near the running mean of the other kind."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))
        self.real_mean: Tensor
        self.fake_mean: Tensor

    def forward(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """The regulariser, after the running means took in these logits."""
        for mean, logits in ((self.real_mean, real_B), (self.fake_mean, fake_B)):
            mean.lerp_(logits.detach().mean(), 1 - LECAM_DECAY)
        return (real_B - self.fake_mean).relu().square().mean() + (self.real_mean - fake_B).relu().square().mean()
