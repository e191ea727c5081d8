"""The AVTok network: two streams, one set of attention, MLP and codebook weights. B clips, L positions, D width, C code width.

One stream's forward pass (paper, section 3): [patches ; holistic queries] -> encoder -> patch-wise and holistic tokens;
holistic tokens -> quantizer; [de-quantized tokens ; patch queries] -> decoder -> patches. The streams never meet inside: they share
every attention and MLP weight, the bottleneck and the codebook, and own embeddings, queries, LayerNorms and heads.
A model of the video stream alone is LARP.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avbench.nn.transformer import Linear, Transformer, xavier_linears
from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.quantizer import Quantized, Quantizer
from avbench.tokenizers.avtok.streams import StreamDecoder, StreamEncoder, patchify, unpatchify


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """patches: patch-wise tokens (for the representation loss). latents: holistic tokens before the quantizer, float32."""

    patches: Tensor  # (B, L, D)
    latents: Tensor  # (B, tokens, C)


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """One stream's pass. recon has the input's shape, unbounded (clamped where it is evaluated)."""

    recon: Tensor
    encoded: Encoded
    quantized: Quantized


class Bottleneck(nn.Module):
    """Linear to the code width, one quantizer for both streams, linear back."""

    def __init__(self, config: AVTokConfig) -> None:
        super().__init__()
        self.in_linear = Linear(config.width, config.quantizer.dim)
        self.quantizer = Quantizer(config.quantizer)
        self.out_linear = Linear(config.quantizer.dim, config.width)


class AVTokModel(nn.Module):
    """Video (B, T, 3, H, W) and mel (B, 1, 1, 80, 384) in [0, 1] -> codes -> the same again.

    Weights are drawn as LARP draws them (Xavier-uniform linears, zero head); `linear_init.linear_init` overwrites them with the
    linear start. `compute_dtype` is what the blocks compute in: the residual stream itself is held in it.
    """

    def __init__(self, config: AVTokConfig, *, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.encoder = Transformer(config.width, config.heads, config.encoder_layers, config.mlp_ratio)
        self.bottleneck = Bottleneck(config)
        self.decoder = Transformer(config.width, config.heads, config.decoder_layers, config.mlp_ratio)
        self.stream_encoders = nn.ModuleDict({name: StreamEncoder(config, config.stream(name)) for name in config.streams})
        self.stream_decoders = nn.ModuleDict({name: StreamDecoder(config, config.stream(name)) for name in config.streams})
        xavier_linears(self)
        for name in config.streams:
            nn.init.zeros_(self.stream_decoder(name).head.weight)

    def stream_encoder(self, name: str) -> StreamEncoder:
        """What stream `name` owns of the encoder."""
        module = self.stream_encoders[name]
        assert isinstance(module, StreamEncoder)
        return module

    def stream_decoder(self, name: str) -> StreamDecoder:
        """What stream `name` owns of the decoder."""
        module = self.stream_decoders[name]
        assert isinstance(module, StreamDecoder)
        return module

    def encode(self, name: str, x_BTCHW: Tensor) -> Encoded:
        """A stream's input -> patch-wise and holistic tokens."""
        return self.encode_patches(name, self.patches(name, x_BTCHW))

    def patches(self, name: str, x_BTCHW: Tensor) -> Tensor:
        """(B, L, P) in the compute dtype, [0, 1]. uint8 input is divided by 255 after it was cut."""
        patches = patchify(x_BTCHW, self.config.stream(name))
        scale = 1 / 255 if patches.dtype == torch.uint8 else 1.0
        return patches.to(self.compute_dtype) * scale

    def encode_patches(self, name: str, patches_BLP: Tensor) -> Encoded:
        """`encode` for input that was cut into patches before."""
        stream = self.stream_encoder(name)
        x = self.encoder(stream(patches_BLP), stream.norms)
        count = self.config.stream(name).num_patches
        return Encoded(patches=x[:, :count], latents=self.bottleneck.in_linear(x[:, count:]).float())

    def decode_patches(self, name: str, latents_BLC: Tensor) -> Tensor:
        """De-quantized tokens -> patches (B, L, P), compute dtype."""
        stream = self.stream_decoder(name)
        x = self.bottleneck.out_linear(latents_BLC.to(self.compute_dtype))
        x = self.decoder(stream(x), stream.norms)
        return stream.paint(x[:, self.config.stream(name).tokens :])

    def decode(self, name: str, latents_BLC: Tensor) -> Tensor:
        """De-quantized tokens -> a stream's output (B, T, C, H, W), float32, unbounded."""
        return unpatchify(self.decode_patches(name, latents_BLC), self.config.stream(name)).float()

    def forward(self, name: str, x_BTCHW: Tensor) -> Reconstruction:
        """Encode, quantize (straight-through), decode one stream."""
        encoded = self.encode(name, x_BTCHW)
        quantized = self.bottleneck.quantizer(encoded.latents)
        return Reconstruction(recon=self.decode(name, quantized.latents), encoded=encoded, quantized=quantized)

    @torch.inference_mode()
    def tokenize(self, name: str, x_BTCHW: Tensor) -> Tensor:
        """A stream's input -> int64 (B, tokens). Deterministic, whatever the module's mode."""
        return self.bottleneck.quantizer.encode(self.encode(name, x_BTCHW).latents)

    @torch.inference_mode()
    def detokenize(self, name: str, codes_BL: Tensor) -> Tensor:
        """int64 (B, tokens) -> (B, T, C, H, W) in [0, 1]."""
        return self.decode(name, self.bottleneck.quantizer.decode(codes_BL)).clamp(0, 1)
