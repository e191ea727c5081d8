"""The models at step 0: drawn at random, or from the linear start fitted to patches of training clips."""

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.tokenizers.avtok.config import STREAMS, AVTokConfig, StreamName
from avbench.tokenizers.avtok.kmeans import kmeans
from avbench.tokenizers.avtok.linear_init import code_width, linear_init
from avbench.tokenizers.avtok.melbox import mel_to_box
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.pca import Basis
from avbench.tokenizers.avtok.streams import patchify
from avbench.train.config import TrainConfig
from avbench.train.data import ClipReader, Order, TrainBatch

PATCHES_PER_ENTRY = 12  # k-means wants ten points a centre; more cost memory (49,000 patches of 3072 values: 0.6 GB) and change little
READ_CLIPS = 16


def branches(config: TrainConfig) -> dict[str, tuple[StreamName, ...]]:
    """Model name -> the streams that pass through it: one for both, or one each in a dual run."""
    return {"joint": STREAMS} if config.audio_model is None else {"video": ("video",), "audio": ("audio",)}


def build_models(config: TrainConfig) -> dict[str, AVTokModel]:
    """Models with random weights, by branch. The same seed gives the same weights."""
    torch.manual_seed(config.seed)
    dtype = getattr(torch, config.compute_dtype)
    return {name: AVTokModel(config.model_config(name), compute_dtype=dtype) for name in branches(config)}


def apply_linear_start(models: dict[str, AVTokModel], config: TrainConfig, reader: ClipReader) -> None:
    """Overwrite the models' weights with the linear start, fitted to `linear_start_clips` clips that the seed picks.

    Raises AvbenchError where a model has no room for it.
    """
    for name, streams in branches(config).items():
        model = models[name]
        patches = sample_patches(reader, model.config, config.linear_start_clips, config.seed)
        bases = linear_init(model, patches, seed=config.seed, iterations=config.linear_start_iterations)
        if len(streams) == 1:
            _codebook_of_one_stream(model, patches[streams[0]], bases[streams[0]], config)


@torch.no_grad()
def _codebook_of_one_stream(model: AVTokModel, patches: Tensor, basis: Basis, config: TrainConfig) -> None:
    """A dual run's models have a codebook each: no entry of one is spent on the other stream."""
    assert model.config.quantizer.kind == "euclidean"
    latents = basis.coordinates(patches)[:, : code_width(model.config)]
    points = F.pad(latents, (0, model.config.quantizer.dim - latents.shape[1]))
    book = kmeans(points, model.config.quantizer.entries, iterations=config.linear_start_iterations, seed=config.seed)
    model.bottleneck.quantizer.embedding.weight.copy_(book)


def sample_patches(reader: ClipReader, config: AVTokConfig, clips: int, seed: int) -> dict[str, Tensor]:
    """stream -> float32 (N, P) in [0, 1]: the same number of patches of each of `clips` clips, at most `PATCHES_PER_ENTRY` an entry."""
    clips = min(clips, len(reader))
    order = Order(num_clips=len(reader), batch_size=clips, seed=seed).step(0)
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {name: [] for name in STREAMS}
    for first in range(0, clips, READ_CLIPS):
        for name, boxes in stream_inputs(reader.batch(order[first : first + READ_CLIPS])).items():
            patches = patchify(boxes, config.stream(name))
            wanted = -(-config.quantizer.entries * PATCHES_PER_ENTRY // clips)
            for clip in patches:
                found[name].append(clip[torch.randperm(len(clip), generator=generator)[:wanted]])
    return {name: _unit_range(torch.cat(parts)) for name, parts in found.items()}


def stream_inputs(batch: TrainBatch) -> dict[StreamName, Tensor]:
    """Stream -> (B, T, C, H, W): uint8 frames, and the log-mel as a grey frame in [0, 1]."""
    return {"video": batch.video, "audio": mel_to_box(batch.mel.float())}


def _unit_range(x: Tensor) -> Tensor:
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()
