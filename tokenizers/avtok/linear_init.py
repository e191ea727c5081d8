"""The linear start: a network that, before its first training step, is PCA of patches + nearest k-means entry + PCA back.

Why: a holistic tokenizer of random weights stays on a plateau (19.2 dB after 20,000 arcade clips, decoder ignoring its tokens), while PCA
and k-means of the same patches, no network, reach 24.1 dB. Only the initialisation differs; every weight is trained afterwards.

How. A residual channel is one of: content (PCA coordinates, r.m.s. SCALE over the first `code_width`), position (`orthogonal_grid`), type
(+1 for what is copied from, -1 for queries) and two anchors of opposite sign, so large that a pre-LN divides by nearly the same number
for every token. In the first block head 0 compares positions and prefers keys of type +1, so query i reads the content of
patch i; every other residual branch ends in zeros. The bottleneck passes the first content channels, the decoder mirrors the
encoder, the head multiplies by the PCA basis and adds the mean. Both streams use the same channels, so the shared weights are
shared from the start. Stream-specific norms give the later blocks whitened content. Of aligned streams (config.py) query i begins with
the content of patch i, no head copies, and a stream that is trained later does not depend on what the others made of the blocks.

Channels of the residual stream: [0, content) | position | type | balance (makes a row's sum zero) | zero | anchor, anchor. The zero channel
holds nothing, so after a LayerNorm it tells what the norm subtracted, and copies add it back (without: 23.65 dB instead of 24.0).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avbench.errors import AvbenchError
from avbench.nn.kmeans import kmeans_anywhere
from avbench.nn.linear_vq import Basis, fit_basis
from avbench.nn.transformer import BlockNorms, Transformer
from avbench.tokenizers.avtok.config import AVTokConfig, StreamConfig
from avbench.tokenizers.avtok.model import CONTENT_SCALE, AVTokModel
from avbench.tokenizers.avtok.streams import StreamDecoder, orthogonal_grid

RESERVED = 5  # type, balance, zero, two anchors
SCALE = CONTENT_SCALE
NORM = 6.0  # what every pre-LN divides by, in units of SCALE: anchors' energy NORM^2 * width against about code_width of content
SHARPNESS = 14.0  # logit gap between patch i and a patch that differs from it in one coordinate: exp(-14) leaks past it
LIFT = 3.0  # cosine codes: the constant channel, in units of the latents' r.m.s. norm


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Which residual channels mean what."""

    content: int
    position: int
    width: int

    @property
    def type(self) -> int:
        """Index of the type channel; the balance follows it, the anchors are the last two."""
        return self.content + self.position

    @property
    def zero(self) -> int:
        """Index of the channel that holds nothing."""
        return self.type + 2


@torch.no_grad()
def linear_init(model: AVTokModel, patches: dict[str, Tensor], *, seed: int = 0, iterations: int = 12) -> dict[str, Basis]:
    """Overwrite `model`'s weights with the linear start, fitted on training patches: stream -> (N, P) in [0, 1].

    N of both streams together should be 10 times the codebook's entries or more, in the proportion of their tokens.

    Of a stream with scenes, `patches` are what the scenes leave; it does not use the shared bottleneck and codebook at first, and
    train/scene_start.py says the rest.

    Returns each stream's PCA. Raises AvbenchError where the widths leave no room or a stream has fewer tokens than patches.
    """
    config = model.config
    channels = _channels(config)
    bases: dict[str, Basis] = {name: fit_basis(patches[name], channels.content, code_width(config)) for name in config.streams}
    plain = [name for name in config.streams if not config.stream(name).scenes]
    for name in config.streams:
        _init_stream(model, name, bases[name], channels)
    for transformer in (model.encoder, model.decoder):
        silence_branches(transformer)
        if not aligned(config):
            _copy_through_first_block(transformer, channels, config)
    _init_bottleneck(model, channels)
    if not plain:
        return bases
    latents = torch.cat([bases[name].coordinates(patches[name])[:, : code_width(config)] for name in plain])
    points = model.bottleneck.quantizer.project(_lifted(latents, config))
    model.bottleneck.quantizer.embedding.weight.copy_(kmeans_anywhere(points, config.quantizer.entries, iterations=iterations, seed=seed))
    return bases


def code_width(config: AVTokConfig) -> int:
    """Channels of content that pass the bottleneck: the code's width, less the constant one of cosine codes, at most one head's."""
    dim = config.quantizer.dim - (config.quantizer.kind == "cosine")
    return min(dim, config.width // config.heads)


def has_scenes(config: AVTokConfig) -> bool:
    """Whether a stream has scenes: then the first blocks copy all of the content, not only what passes the shared bottleneck."""
    return any(config.stream(name).scenes for name in config.streams)


def aligned(config: AVTokConfig) -> bool:
    """Whether the streams carry patches to tokens themselves. Raises AvbenchError where one does and another does not."""
    found = {config.stream(name).aligned for name in config.streams}
    if len(found) > 1:
        raise AvbenchError(f"{config.name}: the linear start wants all streams aligned or none")
    return found.pop()


def position_grid(stream: StreamConfig, room: int) -> tuple[int, int, int]:
    """The grid that positions are coded by: the patches' own; where its code is wider than `room` channels (128 mel columns in a
    row), rows and columns of about the same number."""
    t, h, w = stream.grid
    if t - 1 + h - 1 + w - 1 <= room or (t, h) != (1, 1):
        return t, h, w
    rows = max(n for n in range(1, int(w**0.5) + 1) if w % n == 0)
    return 1, rows, w // rows


def _position_grid(config: AVTokConfig, name: str) -> tuple[int, int, int]:
    return position_grid(config.stream(name), config.width // config.heads - 1)


def _channels(config: AVTokConfig) -> Channels:
    position = max(sum(n - 1 for n in _position_grid(config, name)) for name in config.streams)
    content = config.width - position - RESERVED
    if content < code_width(config) or position + 1 > config.width // config.heads:
        raise AvbenchError(
            f"{config.name}: width {config.width} with {config.heads} heads is too narrow for the linear start, which needs {position + 1}"
            f" channels a head and {code_width(config) + position + RESERVED} in all; widen it or use coarser patches"
        )
    for name in config.streams:
        stream = config.stream(name)
        if stream.tokens < stream.num_patches:
            raise AvbenchError(f"the linear start gives each {name} patch a token: {stream.num_patches} patches, {stream.tokens} tokens")
    return Channels(content=content, position=position, width=config.width)


def _init_stream(model: AVTokModel, name: str, basis: Basis, channels: Channels) -> None:
    stream, encoder, decoder = model.config.stream(name), model.stream_encoder(name), model.stream_decoder(name)
    code = orthogonal_grid(_position_grid(model.config, name))
    encoder.patch_position.copy_(_table(code, stream.num_patches, 1, channels))
    encoder.queries.copy_(_table(code, stream.tokens, -1, channels))
    decoder.latent_position.copy_(_table(code, stream.tokens, 1, channels))
    decoder.patch_position.copy_(_table(code, stream.num_patches, -1, channels))
    decoder.query_type.zero_()
    _init_embedding(encoder.patch_embed, basis)
    _init_head(decoder, basis, channels)
    for norms in (encoder.norms, decoder.norms):
        _init_norms(norms, basis, channels)


def _init_embedding(embed: nn.Linear, basis: Basis) -> None:
    count = len(basis.components)
    for parameter in embed.parameters():
        parameter.zero_()
    embed.weight[:count] = basis.components * (SCALE / basis.unit)
    embed.bias[:count] = -(basis.components @ basis.mean) * (SCALE / basis.unit)


def _init_head(decoder: StreamDecoder, basis: Basis, channels: Channels) -> None:
    head, count = decoder.head, len(basis.components)
    head.weight.zero_()
    head.weight[:, :count] = basis.components.t() * basis.unit
    head.weight[:, channels.zero] = -head.weight[:, :count].sum(1)
    head.bias.copy_(basis.mean)
    _init_gains(decoder.head_norm, torch.full((channels.content,), NORM), channels)


def _table(code: Tensor, rows: int, kind: int, channels: Channels) -> Tensor:
    """(rows, D): position code (rows beyond the patches have none), type, balance and anchors, times SCALE.

    Each row has sum 0 and energy (SCALE * NORM)^2 * D, so that every pre-LN divides by SCALE * NORM.
    """
    table = torch.zeros(rows, channels.width)
    table[: len(code), channels.content : channels.content + code.shape[1]] = NORM * code[:rows]
    table[:, channels.type] = NORM * kind
    table[:, channels.type + 1] = -table.sum(1)
    anchor = ((NORM**2 * channels.width - table.square().sum(1)) / 2).sqrt()
    table[:, -2], table[:, -1] = anchor, -anchor
    return SCALE * table


def _init_norms(norms: nn.ModuleList, basis: Basis, channels: Channels) -> None:
    """The first attention sees content as it is, everything after it whitened (weakest directions at most 20-fold)."""
    plain = torch.full((channels.content,), NORM)
    spread = basis.std.new_ones(channels.content)
    spread[: len(basis.std)] = (basis.std / basis.unit).clamp_min(0.05)
    for index, pair in enumerate(norms):
        assert isinstance(pair, BlockNorms)
        _init_gains(pair.norm1, plain if index == 0 else plain / spread, channels)
        _init_gains(pair.norm2, plain / spread, channels)


def _init_gains(norm: nn.LayerNorm, content: Tensor, channels: Channels) -> None:
    assert norm.weight is not None
    assert norm.bias is not None
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    norm.weight[: channels.content] = content
    norm.weight[channels.zero] = NORM
    norm.weight[-2:] = (2 / channels.width) ** 0.5  # anchors become constants of size one


def silence_branches(transformer: Transformer) -> None:
    """Every residual branch ends in zeros: the transformer passes on what it is given."""
    for block in transformer.stack():
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.mlp.fc2.weight)


def _copy_through_first_block(transformer: Transformer, channels: Channels, config: AVTokConfig) -> None:
    attn, head = transformer.stack()[0].attn, config.width // config.heads
    copied = channels.content if has_scenes(config) else code_width(config)
    query, key, value = attn.qkv.weight.split(config.width)
    scale = (SHARPNESS * head**0.5) ** 0.5
    for first in range(0, copied, head):  # one head after the other carries as much as it is wide
        for part, type_sign in ((query, -1.0), (key, 1.0)):
            rows = part[first : first + head]
            rows.zero_()
            rows[: channels.position + 1, channels.content : channels.type + 1] = scale * torch.eye(channels.position + 1)
            rows[channels.position] *= type_sign
        value[first : first + head].zero_()
    value[:copied, :copied] = torch.eye(copied)
    value[:copied, channels.zero] = -1.0
    attn.proj.weight[:copied, :copied] = SCALE * torch.eye(copied)


def _init_bottleneck(model: AVTokModel, channels: Channels) -> None:
    count = code_width(model.config)
    bottleneck = model.bottleneck
    for linear, scale in ((bottleneck.in_linear, 1 / SCALE), (bottleneck.out_linear, SCALE)):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        linear.weight[:count, :count] = scale * torch.eye(count)
    if model.config.quantizer.kind == "cosine":
        lift = LIFT * count**0.5
        bottleneck.in_linear.bias[count] = lift
        bottleneck.out_linear.weight *= (lift**2 + count) ** 0.5  # undoes the normalisation for a latent of average norm


def _lifted(latents_NC: Tensor, config: AVTokConfig) -> Tensor:
    """Cosine codes get a constant channel: far from the origin the sphere is flat, and cosine orders entries as distance does."""
    missing = config.quantizer.dim - latents_NC.shape[1]
    padded = torch.nn.functional.pad(latents_NC, (0, missing))
    if config.quantizer.kind == "cosine":
        padded[:, latents_NC.shape[1]] = LIFT * latents_NC.shape[1] ** 0.5
    return padded
