"""A tiny AVTok in three stages: seconds to train, with everything in it that has a state."""

from dataclasses import replace

from avbench.tokenizers.avtok.config import STREAMS, AVTokConfig, DiscriminatorConfig, PriorConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.losses import LossWeights, StreamWeights
from avbench.tokenizers.avtok.train.config import AVTokOptim, AVTokStage
from avbench.tokenizers.avtok.train.trainee import AVTokTraining

MODEL = AVTokConfig(
    name="tiny",
    video=StreamConfig(channels=3, size=(16, 128, 128), patch=(4, 32, 32), tokens=6),
    audio=StreamConfig(channels=1, size=(1, 80, 384), patch=(1, 16, 48), tokens=4),
    width=16,
    encoder_layers=1,
    decoder_layers=1,
    heads=2,
    quantizer=QuantizerConfig(kind="euclidean", entries=16, dim=4, revive_after=3),
    prior=PriorConfig(width=16, layers=1, heads=1),
    discriminator=DiscriminatorConfig(width=16, layers=1, heads=1),
    audio_discriminator_patch=(1, 16, 48),
    video_discriminator_patch=(4, 32, 32),
)
LOSS = LossWeights(video=StreamWeights(adversarial=0.1), audio=StreamWeights(adversarial=0.1), prior=0.06)


def tiny(kind: str = "all") -> AVTokTraining:
    """Three stages of six steps with everything in them that has a state; "plain": one stage without chance, for comparing processes."""
    stage = AVTokStage(name="video", trains="video", streams=("video",), clips=12, loss=LOSS, discriminator_every=2)
    parts = (stage, replace(stage, name="audio", trains="audio", streams=("audio",)))
    parts += (replace(stage, name="decode", trains="decode", streams=STREAMS),)
    base = AVTokTraining(
        name="tiny", schedule="vfal", model=MODEL, stages=parts, batch_size=2, compute_dtype="float32", linear_start=False,
        log_steps=2, save_minutes=0.0, eval_clips=1,
    )  # fmt: skip
    if kind == "all":
        return base
    plain = StreamWeights(l1=1.0, l2=1.0)
    model = replace(MODEL, quantizer=replace(MODEL.quantizer, temperature=0.0, revive_after=0))
    joint = AVTokStage(name="joint", trains="joint", clips=16, loss=LossWeights(video=plain, audio=plain, prior=0.0), optim=AVTokOptim())
    return replace(base, name="plain", model=model, stages=(joint,), batch_size=4)
