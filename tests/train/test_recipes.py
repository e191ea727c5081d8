"""avbench.train.recipes: schedules that can be compared, because only the schedule differs."""

import inspect

import pytest
import torch

from avbench.errors import UsageError
from avbench.registry import plugins
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.parts import belongs, part_of
from avbench.tokenizers.avtok.train.config import branches
from avbench.tokenizers.avtok.train.trainee import AVTokTraining
from avbench.train import recipes

SCHEDULES = ("vanilla", "weighted-a", "weighted-b", "weighted-c", "dual")


def used_parameters(config: AVTokTraining) -> int:
    """Learned numbers of the models, without what belongs to a stream that never passes through them."""
    total = 0
    for name, streams in branches(config).items():
        with torch.device("meta"):
            model = AVTokModel(config.model_config(name))
        total += sum(p.numel() for key, p in model.named_parameters() if belongs(part_of(key), streams))
    return total


def avtok(name: str) -> AVTokTraining:
    config = recipes.config(name)
    assert isinstance(config, AVTokTraining)
    return config


@pytest.mark.parametrize("name", plugins("recipe"))
def test_every_recipe_is_a_function_with_a_first_line_that_says_what_it_is(name: str) -> None:
    recipe = plugins("recipe")[name].load()
    assert recipe().name == name
    assert len((inspect.getdoc(recipe) or "").partition("\n")[0]) > 20


@pytest.mark.parametrize("size", ["avtok-mini", "avtok-small"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_sees_the_same_clips_in_the_same_order_as_vfal(size: str, schedule: str) -> None:
    base, other = avtok(size), avtok(f"{size}-{schedule}")
    assert (other.clips, other.seed, other.batch_size, other.linear_start) == (base.clips, base.seed, base.batch_size, base.linear_start)
    assert [stage.name for stage in base.stages] == ["video", "audio", "decode"]
    assert [stage.name for stage in other.stages] == ["joint"]


@pytest.mark.parametrize(("size", "tolerance"), [("avtok-mini", 0.05), ("avtok-small", 0.05)])
def test_the_dual_tokenizers_have_the_tokens_layers_and_parameters_of_the_unified_one(size: str, tolerance: float) -> None:
    base, dual = avtok(size), avtok(f"{size}-dual")
    video, audio = dual.model_config("video"), dual.model_config("audio")
    assert (video.video.tokens, audio.audio.tokens) == (base.model.video.tokens, base.model.audio.tokens)
    assert video.encoder_layers + audio.encoder_layers == base.model.encoder_layers
    assert video.decoder_layers + audio.decoder_layers == base.model.decoder_layers
    assert video.quantizer.entries == audio.quantizer.entries == base.model.quantizer.entries
    assert used_parameters(dual) == pytest.approx(used_parameters(base), rel=tolerance)


def test_the_weighted_settings_differ_in_nothing_but_the_weights_of_the_modalities() -> None:
    found = {name: avtok(f"avtok-mini-weighted-{name}").stages[0].loss for name in "abc"}
    ratios = {name: round(loss.audio.overall / loss.video.overall, 3) for name, loss in found.items()}
    assert ratios == {"a": 3.0, "b": 10.0, "c": 0.3}
    assert all(loss.audio.overall + loss.video.overall == pytest.approx(2.0) for loss in found.values())


def test_a_shortened_recipe_keeps_its_stages_proportions_and_says_its_length_in_its_name() -> None:
    short = recipes.shortened(avtok("avtok-mini"), 5_200)
    assert [stage.clips for stage in short.stages] == [2_400, 1_200, 1_600]
    assert short.name == short.model.name == "avtok-mini-5200"
    dual = recipes.shortened(avtok("avtok-mini-dual"), 5_200)
    assert (dual.clips, dual.model_config("video").name, dual.model_config("audio").name) == (
        5_200,
        "avtok-mini-dual-5200-video",
        "avtok-mini-dual-5200-audio",
    )


def test_a_recipe_shortened_to_almost_nothing_keeps_a_batch_a_stage() -> None:
    short = recipes.shortened(avtok("avtok-mini"), 1)
    assert [stage.clips for stage in short.stages] == [8, 8, 8]


def test_the_digest_follows_what_the_loss_curve_depends_on_and_nothing_else() -> None:
    from dataclasses import replace

    base = avtok("avtok-mini")
    assert replace(base, eval_minutes=1.0, save_minutes=9.0).digest == base.digest
    assert replace(base, seed=1).digest != base.digest
    assert replace(base, batch_size=16).digest != base.digest


def test_an_unknown_recipe_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match='did you mean "avtok-mini"'):
        recipes.config("avtok-minni")
