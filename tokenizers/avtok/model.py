"""The AVTok network: two streams, one set of attention, MLP and codebook weights. B clips, L positions, D width, C code width.

One stream's forward pass (paper, section 3): [patches ; holistic queries] -> encoder -> patch-wise and holistic tokens;
holistic tokens -> quantizer; [de-quantized tokens ; patch queries] -> decoder -> patches. The streams never meet inside: they share
every attention and MLP weight, the bottleneck and the codebook, and own embeddings, queries, LayerNorms and heads.
A model of the video stream alone is LARP.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from avbench.errors import AvbenchError
from avbench.nn.transformer import Linear, Transformer, xavier_linears
from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.quantizer import Quantized, Quantizer
from avbench.tokenizers.avtok.scene import Scenes
from avbench.tokenizers.avtok.streams import StreamDecoder, StreamEncoder, patchify, unpatchify

CONTENT_SCALE = 8.0  # residual content per unit of latent (linear_init.py): what training adds is a correction of about 1/8 of the content


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

    Weights are initialised as LARP initialises them (Xavier-uniform linears, zero head); `linear_init.linear_init` overwrites them with the
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
        self.scenes = nn.ModuleDict(
            {
                name: Scenes(config.stream(name), config.width, config.quantizer.dim, config.quantizer.entries, CONTENT_SCALE)
                for name in config.streams
                if config.stream(name).scenes
            }
        )
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

    def stored_config(self) -> AVTokConfig:
        """The config with the size of each bank of scenes, which is known when it is fitted: what a checkpoint is read by."""
        config = self.config
        for name in config.streams:
            scenes = self.stream_scenes(name)
            if scenes is not None:
                stream = replace(config.stream(name), scene_bytes=len(scenes.packed))
                config = replace(config, video=stream) if name == "video" else replace(config, audio=stream)
        return config

    def stream_scenes(self, name: str) -> Scenes | None:
        """The scenes of stream `name`, where it has any."""
        if name not in self.scenes:
            return None
        module = self.scenes[name]
        assert isinstance(module, Scenes)
        return module

    def scene(self, name: str, x_BTCHW: Tensor) -> Tensor | None:
        """int64 (B,): each clip's scene; None for a stream without scenes."""
        scenes = self.stream_scenes(name)
        return None if scenes is None else scenes.choose(x_BTCHW)

    def encode(self, name: str, x_BTCHW: Tensor, scene_B: Tensor | None = None) -> Encoded:
        """A stream's input (and its scenes) -> patch-wise and holistic tokens."""
        return self.encode_patches(name, self.patches(name, x_BTCHW, scene_B), scene_B)

    def patches(self, name: str, x_BTCHW: Tensor, scene_B: Tensor | None = None) -> Tensor:
        """(B, L, P) in the compute dtype: the input in [0, 1] (uint8 is divided by 255 after it was cut), less its scene if it has one."""
        patches = patchify(x_BTCHW, self.config.stream(name))
        scale = 1 / 255 if patches.dtype == torch.uint8 else 1.0
        scenes = self.stream_scenes(name)
        if scenes is None:
            return patches.to(self.compute_dtype) * scale
        assert scene_B is not None
        return (patches.float() * scale - patchify(scenes.picture(scene_B), self.config.stream(name))).to(self.compute_dtype)

    def encode_patches(self, name: str, patches_BLP: Tensor, scene_B: Tensor | None = None) -> Encoded:
        """`encode` for input that was cut into patches before."""
        stream, scenes = self.stream_encoder(name), self.stream_scenes(name)
        x = self.encoder(stream(patches_BLP), stream.norms)
        count = self.config.stream(name).num_patches
        latents = self.bottleneck.in_linear(x[:, count:]).float()
        if scenes is not None:
            latents = scenes.share * latents + scenes.inward(x[:, count:], cast(Tensor, scene_B))
        return Encoded(patches=x[:, :count], latents=latents)

    def quantize(self, name: str, latents_BLC: Tensor, scene_B: Tensor | None) -> Quantized:
        """Straight-through, by the codebook as the clips' scenes read it."""
        return self.bottleneck.quantizer(latents_BLC, self._book(name, scene_B))  # type: ignore[no-any-return]

    def decode_patches(self, name: str, latents_BLC: Tensor, scene_B: Tensor | None = None) -> Tensor:
        """De-quantized tokens -> patches (B, L, P), compute dtype; of a stream with scenes what goes on top of the scene."""
        stream, scenes = self.stream_decoder(name), self.stream_scenes(name)
        x = self.bottleneck.out_linear(latents_BLC.to(self.compute_dtype))
        if scenes is not None:
            x = (scenes.share * x + scenes.outward(latents_BLC, cast(Tensor, scene_B))).to(x.dtype)
        x = self.decoder(stream(x), stream.norms)
        return stream.patches(x[:, self.config.stream(name).tokens :])

    def decode(self, name: str, latents_BLC: Tensor, scene_B: Tensor | None = None) -> Tensor:
        """De-quantized tokens (and scenes) -> a stream's output (B, T, C, H, W), float32, unbounded."""
        made = unpatchify(self.decode_patches(name, latents_BLC, scene_B), self.config.stream(name)).float()
        scenes = self.stream_scenes(name)
        return made if scenes is None else made + scenes.picture(cast(Tensor, scene_B))

    def forward(self, name: str, x_BTCHW: Tensor) -> Reconstruction:
        """Encode, quantize (straight-through), decode one stream."""
        scene = self.scene(name, x_BTCHW)
        encoded = self.encode(name, x_BTCHW, scene)
        quantized = self.quantize(name, encoded.latents, scene)
        return Reconstruction(recon=self.decode(name, quantized.latents, scene), encoded=encoded, quantized=quantized)

    @torch.inference_mode()
    def tokenize(self, name: str, x_BTCHW: Tensor) -> Tensor:
        """A stream's input -> int64 (B, tokens), the scene's first. Deterministic, whatever the module's mode."""
        scene = self.scene(name, x_BTCHW)
        codes = self.bottleneck.quantizer.encode(self.encode(name, x_BTCHW, scene).latents, self._book(name, scene))
        return codes if scene is None else torch.cat([scene[:, None], codes], dim=1)

    @torch.inference_mode()
    def detokenize(self, name: str, codes_BL: Tensor) -> Tensor:
        """int64 (B, tokens) -> (B, T, C, H, W) in [0, 1]. Raises AvbenchError for a scene that the bank lacks."""
        scene, codes = self.split_scene(name, codes_BL)
        return self.decode(name, self.bottleneck.quantizer.decode(codes, self._book(name, scene)), scene).clamp(0, 1)

    def latents(self, name: str, codes_BL: Tensor) -> Tensor:
        """int64 (B, tokens) -> (B, holistic tokens, C): what a prior reads."""
        scene, codes = self.split_scene(name, codes_BL)
        return self.bottleneck.quantizer.decode(codes, self._book(name, scene))

    def split_scene(self, name: str, codes_BL: Tensor) -> tuple[Tensor | None, Tensor]:
        """Scenes (B,), if the stream has any, and the codes of its holistic tokens."""
        stream = self.config.stream(name)
        if not stream.scenes:
            return None, codes_BL
        scene = codes_BL[:, 0]
        if int(scene.max()) >= stream.scenes:
            raise AvbenchError(f"{self.config.name}: scene {int(scene.max())} of a bank of {stream.scenes} {name} scenes")
        return scene, codes_BL[:, 1:]

    def _book(self, name: str, scene_B: Tensor | None) -> Tensor | None:
        """The entries of each clip, of a stream with scenes."""
        scenes = self.stream_scenes(name)
        return None if scenes is None else scenes.entries(cast(Tensor, scene_B), self.bottleneck.quantizer.entries())
