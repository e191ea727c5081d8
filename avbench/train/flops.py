"""Model FLOPs of a training step, counted from the shapes, and the rate at which this device multiplies matrices."""

import time

import torch

from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.train.config import StageConfig, TrainConfig

FORWARD, WITH_INPUT_GRADIENT, TRAINED = 1, 2, 3  # passes over a layer: forward; also towards its input; also towards its weights


def flops_per_clip(config: TrainConfig, stage: StageConfig) -> float:
    """Multiplications and additions of the tokenizer's own matrix products for one clip; judges (LPIPS, teacher, ...) are not counted."""
    return sum(_stream_flops(config.model_config(name), name, stage) for name in stage.streams)


def _stream_flops(model: AVTokConfig, name: str, stage: StageConfig) -> float:
    stream = model.stream(name)
    length = stream.num_patches + stream.tokens
    block = (8 + 4 * model.mlp_ratio) * length * model.width**2 + 4 * length**2 * model.width
    edge = 2 * stream.num_patches * stream.patch_dim * model.width
    encoder = WITH_INPUT_GRADIENT if stage.trains == "audio" else FORWARD if stage.trains == "decode" else TRAINED
    decoder = WITH_INPUT_GRADIENT if stage.trains == "audio" else TRAINED
    edges = (FORWARD if stage.trains == "decode" else TRAINED) + TRAINED
    return float(encoder * model.encoder_layers * block + decoder * model.decoder_layers * block + edges * edge)


@torch.no_grad()
def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product on this device with the threads of this process: what utilisation is measured against."""
    size, repeats = (8192, 20) if device.type == "cuda" else (1024, 10)
    a = torch.randn(size, size, device=device, dtype=dtype)
    for _ in range(3):
        a @ a
    _wait(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        a @ a
    _wait(device)
    return repeats * 2 * size**3 / (time.perf_counter() - begin)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
