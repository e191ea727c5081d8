"""larp-mini and larp-small: AVTok's classes with the video stream alone train, start linearly and come back from their checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.checkpoint import load_checkpoint, save_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig, PriorConfig, QuantizerConfig, StreamConfig, avtok_mini, avtok_small
from avbench.tokenizers.avtok.linear_init import linear_init
from avbench.tokenizers.avtok.losses import AVTokLosses, LossWeights, StreamWeights
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.parts import parameter_table, trainable_in
from avbench.tokenizers.avtok.streams import patchify
from avbench.tokenizers.larp.model import larp_large, larp_mini, larp_small

WEIGHTS = LossWeights(video=StreamWeights(l1=1.0, perceptual=1.0, quantizer=0.1), prior=0.06)


def tiny(kind: str = "cosine") -> AVTokConfig:
    quantizer = QuantizerConfig(kind="cosine", entries=32, dim=8)
    if kind == "euclidean":
        quantizer = QuantizerConfig(kind="euclidean", entries=256, dim=16, temperature=0.0)
    return AVTokConfig(
        name="tiny",
        video=StreamConfig(channels=3, size=(4, 16, 16), patch=(2, 8, 8), tokens=8),
        audio=None,
        width=64,
        encoder_layers=2,
        decoder_layers=2,
        heads=2,
        quantizer=quantizer,
        prior=PriorConfig(width=32, layers=1, heads=2),
    )


def moving_clips(count: int) -> Tensor:
    """(count, 4, 3, 16, 16) in [0, 1]: smooth colours that differ from clip to clip."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 2, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(4, 16, 16), mode="trilinear").transpose(1, 2)


def half_squared(reference: Tensor, recon: Tensor) -> Tensor:
    """Stands in for LPIPS: a value a frame."""
    return 0.5 * (reference - recon).square().flatten(1).mean(1)


@pytest.mark.parametrize(("ours", "avtok"), [(larp_mini(), avtok_mini()), (larp_small(), avtok_small())])
def test_a_baseline_has_avtoks_video_stream_and_at_most_three_percent_fewer_parameters(ours: AVTokConfig, avtok: AVTokConfig) -> None:
    assert ours.streams == ("video",)
    assert replace(ours, name=avtok.name, audio=avtok.audio) == avtok
    counts = [parameter_table(config)["tokenizer"] for config in (ours, avtok)]
    assert 0.97 < counts[0] / counts[1] < 1.0


def test_the_published_size_is_the_published_size() -> None:
    assert parameter_table(larp_large())["tokenizer"] == pytest.approx(172.18e6, abs=5e3)


def test_a_model_without_audio_owns_nothing_of_audio_and_says_so() -> None:
    model = AVTokModel(tiny())
    assert not [name for name in model.state_dict() if "audio" in name]
    assert set(trainable_in(model, "video")) == set(trainable_in(model, "joint"))
    with pytest.raises(AvbenchError, match="tiny has no audio stream"):
        model.config.stream("audio")


def test_larps_losses_fall_and_reach_every_weight() -> None:
    torch.manual_seed(0)
    model = AVTokModel(tiny())
    losses = AVTokLosses(tiny(), WEIGHTS, perceptual=half_squared)
    optimizer = torch.optim.Adam([*model.parameters(), *losses.parameters()], lr=2e-3)
    clips, totals = moving_clips(8), []
    for step in range(40):
        result = losses(model, {"video": clips}, progress=step / 40)
        optimizer.zero_grad()
        result.total.backward()
        if step == 1:  # the head starts at zero: what is before it gets its first gradient in the second step
            assert not [name for name, p in [*model.named_parameters(), *losses.named_parameters()] if p.grad is None or not p.grad.any()]
        optimizer.step()
        totals.append(float(result.total.detach()))
    assert set(result.terms) == {"video/l1", "video/perceptual", "video/quantizer", "prior"}
    assert sum(totals[-5:]) < 0.75 * sum(totals[:5])


def test_the_linear_start_works_without_audio() -> None:
    torch.manual_seed(0)
    config = tiny("euclidean")
    model, clips = AVTokModel(config).eval(), moving_clips(64)
    linear_init(model, {"video": patchify(clips, config.video).flatten(0, 1)})  # 512 patches
    error = float((model.detokenize("video", model.tokenize("video", clips)) - clips).square().mean())
    spread = float((clips - clips.mean(0)).square().mean())
    assert error < 0.3 * spread


def test_a_trained_model_comes_back_from_its_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AVTokModel(tiny()).eval()
    torch.nn.init.normal_(model.stream_decoder("video").head.weight, std=0.1)
    save_checkpoint(tmp_path, model, {"split": "here"})
    found = load_checkpoint(tmp_path)
    assert found.model.config == tiny()
    codes = model.tokenize("video", moving_clips(2))
    assert torch.equal(found.model.tokenize("video", moving_clips(2)), codes)
    assert torch.equal(found.model.detokenize("video", codes), model.detokenize("video", codes))
