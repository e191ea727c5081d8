"""LARP's recipes: the baselines of equals for AVTok's video stream (tokenizers/larp/model.py says what is equal)."""

from dataclasses import replace

from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.train import recipes as avtok
from avbench.tokenizers.avtok.train.config import AVTokStage
from avbench.tokenizers.avtok.train.trainee import AVTokTraining
from avbench.tokenizers.larp import model as models


def larp_mini() -> AVTokTraining:
    """LARP at avtok-mini's size, start, losses and number of clips, video alone; trains on one CPU core in an hour or two."""
    return _video_alone(avtok.avtok_mini(), models.larp_mini())


def larp_scene_mini() -> AVTokTraining:
    """LARP at avtok-scene-mini's size, start, losses and number of clips, video alone; trains on one CPU core in an hour."""
    return _video_alone(avtok.avtok_scene_mini(), models.larp_scene_mini())


def larp_small() -> AVTokTraining:
    """LARP at avtok-small's size, with LARP's own LPIPS and prior, its discriminator in the last fifth; for one GPU."""
    base = avtok.avtok_small()
    first, last = base.stages[0], base.stages[-1]
    clips = {"video": base.clips - last.clips, "decode": last.clips}
    loss = replace(first.loss, video=replace(first.loss.video, alignment=0.0))  # against a teacher is AVTok's idea, not LARP's
    stages = (
        AVTokStage(name="video", trains="video", streams=("video",), clips=clips["video"], loss=loss, optim=first.optim),
        AVTokStage(name="decode", trains="decode", streams=("video",), clips=clips["decode"], loss=last.loss, optim=last.optim),
    )
    return replace(base, name="larp-small", schedule="video", model=models.larp_small(), stages=stages)


def _video_alone(base: AVTokTraining, model: AVTokConfig) -> AVTokTraining:
    """`base` in one stage, which sees as many clips as all of its stages."""
    first = base.stages[0]
    stage = AVTokStage(name="video", trains="video", streams=("video",), clips=base.clips, loss=first.loss, optim=first.optim)
    return replace(base, name=model.name, schedule="video", model=model, stages=(stage,))
