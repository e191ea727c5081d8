"""What each stream owns, and how it is cut into patches. B clips, L patches, P values a patch, D width, C code width.

Positions have fixed sine-cosine codes: `sincos_*` are LARP's; `orthogonal_grid` is the code of the linear start (linear_init.py).
"""

import math

import torch
from torch import Tensor, nn

from avbench.nn.patches import patches_to_video, video_to_patches
from avbench.nn.transformer import BlockNorms, LayerNorm, Linear
from avbench.tokenizers.avtok.config import AVTokConfig, StreamConfig


def sincos_1d(length: int, width: int) -> Tensor:
    """(length, width): sines then cosines of position / 10000^(2i/width)."""
    omega = 1.0 / 10_000 ** (torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def sincos_3d(grid: tuple[int, int, int], width: int) -> Tensor:
    """(T*H*W, width): a full-width 2-D code of (h, w) plus a full-width 1-D code of t, summed, as LARP."""
    t, h, w = grid
    rows, columns = sincos_1d(h, width // 2), sincos_1d(w, width // 2)
    plane = torch.cat([columns[None].expand(h, w, -1), rows[:, None].expand(h, w, -1)], dim=-1)
    return (plane[None] + sincos_1d(t, width)[:, None, None]).reshape(t * h * w, width)


def orthogonal_grid(grid: tuple[int, int, int]) -> Tensor:
    """(T*H*W, sum of (n - 1)): per axis the discrete Fourier code, so that dot products only tell whether coordinates are equal.

    Each axis of n > 1 positions contributes 1 where two coordinates agree and -1/(n - 1) where not. Attention by this code is as
    sharp for neighbours as for distant patches, with n - 1 channels an axis (33 for 4 x 16 x 16, 27 for 1 x 5 x 24).
    """
    t, h, w = grid
    axes = [_fourier(n) for n in grid]
    parts = [axes[0][:, None, None].expand(t, h, w, -1), axes[1][None, :, None].expand(t, h, w, -1), axes[2].expand(t, h, w, -1)]
    return torch.cat(parts, dim=-1).reshape(t * h * w, -1)


def _fourier(n: int) -> Tensor:
    """(n, n - 1), rows of unit length, pairwise products -1/(n - 1)."""
    position = torch.arange(n, dtype=torch.float64)
    waves = []
    for k in range(1, n // 2 + 1):
        angle = 2 * math.pi * k * position / n
        waves.append(angle.cos())
        if 2 * k != n:
            waves.append(angle.sin())
    if not waves:
        return torch.zeros(n, 0)
    code = torch.stack(waves, dim=1)
    code = code / code.norm(dim=0)  # orthonormal columns, orthogonal to the constant
    return (code * math.sqrt(n / (n - 1))).float()


QUERY_STD = 0.02


def patchify(x_BTCHW: Tensor, config: StreamConfig) -> Tensor:
    """(B, T, C, H, W) of any dtype (uint8 is quickest: 57 ms against 110 for 32 clips) -> (B, L, P), values in the order (t, h, w, c)."""
    return video_to_patches(x_BTCHW, config.patch, channels_last=True)


def unpatchify(patches_BLP: Tensor, config: StreamConfig) -> Tensor:
    """The inverse of `patchify`: (B, T, C, H, W)."""
    return patches_to_video(patches_BLP, config.patch, config.size, channels_last=True)


class StreamEncoder(nn.Module):
    """Patch embedding, holistic queries and the encoder's norms of one stream."""

    def __init__(self, config: AVTokConfig, stream: StreamConfig) -> None:
        super().__init__()
        self.aligned = stream.aligned
        self.patch_embed = Linear(stream.patch_dim, config.width)
        self.register_buffer("patch_position", sincos_3d(stream.grid, config.width))
        self.queries = nn.Parameter(torch.randn(stream.tokens, config.width) * QUERY_STD)
        self.norms = nn.ModuleList(BlockNorms(config.width) for _ in range(config.encoder_layers))
        self.patch_position: Tensor

    def forward(self, patches_BLP: Tensor) -> Tensor:
        """-> (B, patches + tokens, D): what the encoder reads."""
        embedded = self.patch_embed(patches_BLP)
        queries = self.queries.to(embedded.dtype).expand(len(embedded), -1, -1)
        if self.aligned:
            queries = queries + embedded
        return torch.cat([embedded + self.patch_position.to(embedded.dtype), queries], dim=1)


class StreamDecoder(nn.Module):
    """Patch queries (fixed position + learned type), the decoder's norms and the output head of one stream."""

    def __init__(self, config: AVTokConfig, stream: StreamConfig) -> None:
        super().__init__()
        self.aligned = stream.aligned
        self.register_buffer("latent_position", sincos_1d(stream.tokens, config.width))
        self.register_buffer("patch_position", sincos_3d(stream.grid, config.width))
        self.query_type = nn.Parameter(torch.randn(config.width) * QUERY_STD)
        self.norms = nn.ModuleList(BlockNorms(config.width) for _ in range(config.decoder_layers))
        self.head_norm = LayerNorm(config.width)
        self.head = Linear(config.width, stream.patch_dim)
        self.latent_position: Tensor
        self.patch_position: Tensor

    def forward(self, latents_BLD: Tensor) -> Tensor:
        """-> (B, tokens + patches, D): what the decoder reads."""
        queries = (self.patch_position + self.query_type).to(latents_BLD.dtype).expand(len(latents_BLD), -1, -1)
        if self.aligned:
            queries = queries + latents_BLD
        return torch.cat([latents_BLD + self.latent_position.to(latents_BLD.dtype), queries], dim=1)

    def patches(self, x_BLD: Tensor) -> Tensor:
        """The head: decoder outputs at the patch positions -> patches (B, L, P)."""
        return self.head(self.head_norm(x_BLD))  # type: ignore[no-any-return]
