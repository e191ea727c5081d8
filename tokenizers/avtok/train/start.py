"""The models at step 0: initialised at random, or from the linear start fitted to patches of training clips."""

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.nn.kmeans import SEED_POINTS, kmeans_plusplus, lloyd, nearest_of_products
from avbench.nn.linear_vq import Basis
from avbench.nn.patches import unit_range
from avbench.nn.transformer import BlockNorms, Transformer
from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.linear_init import code_width, has_scenes, linear_init
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.streams import patchify
from avbench.tokenizers.avtok.train.config import AVTokSettings, branches
from avbench.tokenizers.avtok.train.data import stream_inputs
from avbench.tokenizers.avtok.train.scene_start import apply_scene_start
from avbench.train.data import ClipReader, Order

PATCHES_PER_ENTRY = 15  # and stream, on average: k-means wants ten points a centre; 84,000 patches of 3072 values take 1 GB
READ_CLIPS = 16


def build_models(config: AVTokSettings) -> dict[str, AVTokModel]:
    """Models with random weights, by branch. The same seed gives the same weights."""
    torch.manual_seed(config.seed)
    dtype = getattr(torch, config.compute_dtype)
    return {name: AVTokModel(config.model_config(name), compute_dtype=dtype) for name in branches(config)}


def apply_linear_start(models: dict[str, AVTokModel], config: AVTokSettings, reader: ClipReader) -> None:
    """Overwrite the models' weights with the linear start, fitted to `linear_start_clips` clips that the seed picks.

    Raises AvbenchError where a model has no room for it.
    """
    for name, streams in branches(config).items():
        model = models[name]
        if has_scenes(model.config):
            apply_scene_start(model, reader, seed=config.seed)
            continue
        patches = sample_patches(reader, model.config, config.linear_start_clips, config.seed)
        bases = linear_init(model, patches, seed=config.seed, iterations=1)
        if model.config.quantizer.kind == "euclidean":
            _seeded_codebook(model, {stream: patches[stream] for stream in streams}, bases, config)


@torch.no_grad()
def _seeded_codebook(model: AVTokModel, patches: dict[str, Tensor], bases: dict[str, Basis], config: AVTokSettings) -> None:
    """k-means from k-means++ seeds, over the latents of the streams that the model serves.

    Seeds sampled at random stay 0.65 dB behind on held-out arcade clips (24.58 against 23.93 at 256 x 12 bits, avbench/nn/kmeans.py).
    """
    width, book = code_width(model.config), model.bottleneck.quantizer.embedding.weight
    latents = torch.cat([bases[name].coordinates(patches[name])[:, :width] for name in patches])
    order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(config.seed))
    points = F.pad(latents[order], (0, book.shape[1] - width))
    seeds = kmeans_plusplus(points[: max(SEED_POINTS, len(book))], len(book), config.seed)
    book.copy_(lloyd(points, seeds, config.linear_start_iterations, search=nearest_of_products))


def sample_patches(reader: ClipReader, config: AVTokConfig, clips: int, seed: int) -> dict[str, Tensor]:
    """stream -> float32 (N, P) in [0, 1]: as many patches of each of `clips` clips, the streams in proportion to their tokens.

    Entries go where points are: with as many audio as video points, video had 47 % of the entries in use, audio 33 %.
    """
    clips = min(clips, len(reader))
    order = Order(num_clips=len(reader), batch_size=clips, seed=seed).step(0)
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {name: [] for name in config.streams}
    for first in range(0, clips, READ_CLIPS):
        boxes = stream_inputs(reader.batch(order[first : first + READ_CLIPS]))
        for name in config.streams:
            patches = patchify(boxes[name], config.stream(name))
            share = config.stream(name).tokens / sum(config.stream(other).tokens for other in config.streams)
            wanted = round(share * len(config.streams) * PATCHES_PER_ENTRY * config.quantizer.entries / clips)
            for clip in patches:
                found[name].append(clip[torch.randperm(len(clip), generator=generator)[:wanted]])
    return {name: unit_range(torch.cat(parts)) for name, parts in found.items()}


@torch.no_grad()
def quiet_stream(model: AVTokModel, name: str) -> None:
    """Let stream `name` start from its linear path again, whatever the shared blocks have learned from the other stream.

    After the video stage, the shared branches correct video; on audio they would add noise. A LayerNorm with gain 0 makes its branch's
    output a constant, so all norms of the stream (but the first one, where a copying head reads it, linear_init.py) get gain and
    bias 0, and the constants are taken out of the queries. Only the stream's own parameters change, and all of them can be trained
    from there: a gain of 0 has a gradient. For a model that began with the linear start.
    """
    encoder, decoder = model.stream_encoder(name), model.stream_decoder(name)
    for norms in (encoder.norms, decoder.norms):
        for index, pair in enumerate(norms):
            assert isinstance(pair, BlockNorms)
            for norm in (pair.norm1, pair.norm2) if index or model.config.stream(name).aligned else (pair.norm2,):
                for parameter in norm.parameters():
                    parameter.zero_()
    encoder.queries.sub_(_constant(model.encoder))
    decoder.query_type.sub_(_constant(model.decoder))


def _constant(transformer: Transformer) -> Tensor:
    """(D,): what the blocks add to every token whose norms are quiet."""
    blocks = transformer.stack()
    nothing = torch.zeros_like(blocks[0].attn.proj.bias)
    return torch.stack([block.attn.proj.bias + block.mlp(nothing) for block in blocks]).sum(0)
