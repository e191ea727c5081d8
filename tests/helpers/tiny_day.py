"""A recipe of a training on a lent machine, for scripts/gpu_day.sh: `tests/helpers/tiny_day.py:recipe`. Stands alone: it is read there."""

from dataclasses import replace

from avbench.tokenizers.avtok.config import STREAMS, AVTokConfig, PriorConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.losses import LossWeights, StreamWeights
from avbench.tokenizers.avtok.train.config import AVTokStage
from avbench.tokenizers.avtok.train.trainee import AVTokTraining

STREAM = StreamWeights(l1=1.0, log_mse=0.2, quantizer=4.0)


def recipe() -> AVTokTraining:
    """AVTok's three stages with a prior, from the linear start, of some thousand parameters."""
    model = AVTokConfig(
        name="tiny",
        video=StreamConfig(channels=3, size=(16, 128, 128), patch=(2, 16, 16), tokens=512),
        audio=StreamConfig(channels=1, size=(1, 80, 384), patch=(1, 16, 48), tokens=40),
        width=64,
        encoder_layers=1,
        decoder_layers=1,
        heads=2,
        quantizer=QuantizerConfig(kind="euclidean", entries=32, dim=16, temperature=0.0),
        prior=PriorConfig(width=16, layers=1, heads=1),
    )
    stage = AVTokStage(
        name="video", trains="video", streams=("video",), clips=4_000, loss=LossWeights(video=STREAM, audio=STREAM, prior=0.06)
    )
    stages = (
        stage,
        replace(stage, name="audio", trains="audio", streams=("audio",)),
        replace(stage, name="decode", trains="decode", streams=STREAMS),
    )
    return AVTokTraining(
        name="tiny",
        schedule="vfal",
        model=model,
        stages=stages,
        batch_size=2,
        log_steps=2,
        compute_dtype="float32",
        eval_clips=6,
        linear_start_clips=60,
    )
