"""Model FLOPs of a training step of AVTok, counted from the shapes."""

from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.train.config import AVTokSettings, AVTokStage

FORWARD, WITH_INPUT_GRADIENT, TRAINED = 1, 2, 3  # passes over a layer: forward; also towards its input; also towards its weights


def flops_per_clip(config: AVTokSettings, stage: AVTokStage) -> float:
    """Multiplications and additions of the tokenizer's own matrix products for one clip; judges (LPIPS, teacher, ...) are not counted."""
    return sum(_stream_flops(config.model_config(name), name, stage) for name in stage.streams)


def _stream_flops(model: AVTokConfig, name: str, stage: AVTokStage) -> float:
    stream = model.stream(name)
    length = stream.num_patches + stream.tokens
    block = (8 + 4 * model.mlp_ratio) * length * model.width**2 + 4 * length**2 * model.width
    edge = 2 * stream.num_patches * stream.patch_dim * model.width
    encoder = WITH_INPUT_GRADIENT if stage.trains == "audio" else FORWARD if stage.trains == "decode" else TRAINED
    decoder = WITH_INPUT_GRADIENT if stage.trains == "audio" else TRAINED
    edges = (FORWARD if stage.trains == "decode" else TRAINED) + TRAINED
    return float(encoder * model.encoder_layers * block + decoder * model.decoder_layers * block + edges * edge)
