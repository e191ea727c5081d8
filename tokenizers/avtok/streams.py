"""What each stream owns, and how it is cut into patches. B clips, L patches, P values a patch, D width, C code width."""

import torch
from torch import Tensor, nn

from avbench.nn.patches import patches_to_video, video_to_patches
from avbench.nn.transformer import BlockNorms, LayerNorm, Linear
from avbench.tokenizers.avtok.config import AVTokConfig, StreamConfig
from avbench.tokenizers.avtok.positions import sincos_1d, sincos_3d

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

    def paint(self, x_BLD: Tensor) -> Tensor:
        """Decoder outputs at the patch positions -> patches (B, L, P)."""
        return self.head(self.head_norm(x_BLD))  # type: ignore[no-any-return]
