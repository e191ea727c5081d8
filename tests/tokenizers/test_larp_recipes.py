"""LARP as the trainer knows it: AVTok's video stream alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avbench.registry import load_tokenizer
from avbench.tokenizers.avtok.config import AVTokConfig, DiscriminatorConfig, PriorConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.losses import LossWeights, StreamWeights
from avbench.tokenizers.avtok.train.config import AVTokStage
from avbench.tokenizers.avtok.train.trainee import AVTokTraining
from avbench.train import recipes
from avbench.train.data import load_clips
from avbench.train.loop import train
from avbench.types import ClipBatch

MODEL = AVTokConfig(
    name="tiny-larp",
    video=StreamConfig(channels=3, size=(16, 128, 128), patch=(2, 16, 16), tokens=512),
    audio=None,
    width=64,
    encoder_layers=1,
    decoder_layers=1,
    heads=2,
    quantizer=QuantizerConfig(kind="euclidean", entries=16, dim=8, temperature=0.0),
    prior=PriorConfig(width=16, layers=1, heads=1),
    discriminator=DiscriminatorConfig(width=16, layers=1, heads=1),
    video_discriminator_patch=(8, 32, 32),
)
STAGE = AVTokStage(
    name="video", trains="video", streams=("video",), clips=8, loss=LossWeights(video=StreamWeights(adversarial=0.1), prior=0.06)
)
TINY = AVTokTraining(
    name="tiny-larp", schedule="video", model=MODEL, stages=(STAGE, replace(STAGE, name="decode", trains="decode")), batch_size=4,
    compute_dtype="float32", linear_start_clips=4, log_steps=1, eval_clips=1,
)  # fmt: skip


@pytest.mark.slow
def test_a_video_run_starts_linear_trains_and_is_a_checkpoint_of_larp(
    tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch, test_cache: Path
) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    done = train(TINY, split=f"folder:{clip_folder}", out=tmp_path, device="cpu")
    assert set(done.held_out) == {"psnr", "psnr_motion", "codes_video"}
    assert done.held_out["psnr"] > _psnr_of_the_mean_colour(clip_folder)
    assert list((tmp_path / "pictures").glob("*.png"))
    larp = load_tokenizer("larp", checkpoint=tmp_path)
    batch = ClipBatch(video=torch.rand(1, 16, 3, 128, 128), fps=3.90625, sample_rate=24_000)
    tokens = larp.encode(batch)
    recon = larp.decode(tokens)
    assert larp.info.name == "tiny-larp"
    assert tokens.codes["video"].shape == (1, 1, 512)
    assert recon.video is not None
    assert recon.video.shape == batch.video.shape  # type: ignore[union-attr]
    assert recon.audio is None


def _psnr_of_the_mean_colour(clip_folder: Path) -> float:
    """What a picture of the held-out clip's own mean colour reaches, dB."""
    _, held_out = load_clips(f"folder:{clip_folder}", None, 1)
    video = held_out.reader.batch(list(held_out.indices)).video.float() / 255
    return float(-10 * (video - video.mean((0, 1, 3, 4), keepdim=True)).square().mean().log10())


@pytest.mark.parametrize("size", ["mini", "small"])
def test_larp_differs_from_avtok_in_the_missing_audio_alone(size: str) -> None:
    larp, avtok = recipes.config(f"larp-{size}"), recipes.config(f"avtok-{size}")
    assert isinstance(larp, AVTokTraining)
    assert isinstance(avtok, AVTokTraining)
    assert (larp.clips, larp.batch_size, larp.seed, larp.linear_start) == (avtok.clips, avtok.batch_size, avtok.seed, avtok.linear_start)
    assert larp.model.video == avtok.model.video
    assert larp.model.quantizer == avtok.model.quantizer
    assert replace(larp.model, name="", audio=avtok.model.audio, teacher_dims={}) == replace(avtok.model, name="", teacher_dims={})
    weights, theirs = larp.stages[0].loss.video, avtok.stages[0].loss.video
    assert replace(weights, alignment=theirs.alignment) == theirs
    assert recipes.shortened(larp, 800).model.name == recipes.shortened(larp, 800).name
