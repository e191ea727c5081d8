"""avbench.generate.tokens, .trainee, .training: from a folder of clips to a trained generator, with a toy tokenizer."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from toy_generator import MODEL, Other, Toy, clips_of, toy_training

from avbench import registry
from avbench.cli.train import command
from avbench.data import splits
from avbench.errors import AvbenchError, UsageError
from avbench.generate import recipes
from avbench.generate.checkpoint import load_generator
from avbench.generate.generate import Generation
from avbench.generate.tasks import TASKS
from avbench.generate.tokens import blanked, load_tokens
from avbench.generate.trainee import GeneratorObjective, GeneratorTrainee, decay_groups, held_out_numbers, training_flops
from avbench.train import checkpoint
from avbench.train.budget import counted
from avbench.train.config import OptimConfig
from avbench.train.log import read_log
from avbench.train.loop import train
from avbench.types import ClipBatch, Sampling, Tokens

CPU = torch.device("cpu")


def test_a_split_is_encoded_once_and_a_killed_encoding_goes_on(split: splits.Split, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avbench.generate.tokens.PART", 2)
    monkeypatch.setattr("avbench.generate.tokens.BATCH", 2)
    toy = Toy()
    table = load_tokens(toy, split, CPU, progress=False)
    assert table.clip_ids == tuple(clip.id for clip in split.clips)
    assert set(table.labels) == {"circle", "square"}
    assert table.independent
    expected = table.space.to_ids(toy.encode(clips_of(split)).codes)
    assert all(torch.equal(table.ids[name].long(), expected[name]) for name in expected)
    parts = sorted((cache / "tokens").rglob("*.safetensors"))
    assert len(parts) == 3
    toy.seen.clear()
    load_tokens(toy, split, CPU, progress=False)
    assert not toy.seen
    parts[1].write_bytes(parts[1].read_bytes()[:-3])  # cut off
    again = load_tokens(toy, split, CPU, progress=False)
    assert [len(batch) for batch in toy.seen] == [2, 1, 1]  # one part, and its first clip with either modality blank
    assert all(torch.equal(again.ids[name], table.ids[name]) for name in table.ids)


def test_another_revision_has_tokens_of_its_own(split: splits.Split, cache: Path) -> None:
    load_tokens(Toy(), split, CPU, progress=False)
    load_tokens(Other(), split, CPU, progress=False)
    assert len(list((cache / "tokens").iterdir())) == 2


def test_a_tokenizer_whose_video_tokens_hear_the_sound_cannot_be_conditioned_on(
    split: splits.Split, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not load_tokens(Toy(mixes=True), split, CPU, progress=False).independent
    monkeypatch.setattr(registry, "load_tokenizer", lambda name, **options: Toy(mixes=True))
    with pytest.raises(UsageError, match="would tell what is to be generated"):
        GeneratorTrainee(toy_training()).load_data(f"folder:{clip_folder}", None)
    GeneratorTrainee(toy_training(("av",))).load_data(f"folder:{clip_folder}", None)


def test_a_clip_that_cannot_be_encoded_is_named(split: splits.Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(batch: ClipBatch) -> Tokens:
        raise RuntimeError("boom")

    toy = Toy()
    monkeypatch.setattr(toy, "encode", fail)
    with pytest.raises(AvbenchError, match=r"toy cannot encode .*\.mp4.*boom"):
        load_tokens(toy, split, CPU, progress=False)


@pytest.mark.slow
def test_a_trained_generator_beats_chance_and_generates_from_the_condition_alone(tmp_path: Path, clip_folder: Path, toy: Toy) -> None:
    out = tmp_path / "run"
    result = train(toy_training(clips=600), split=f"folder:{clip_folder}", out=out, device="cpu")
    assert result.finished
    lines = read_log(out)
    last = [line for line in lines if line["kind"] == "train"][-1]["losses"]
    assert set(last) == {"total", "a2v/video", "v2a/audio", "av/video", "av/audio"}
    held_out = [line["held_out"] for line in lines if line["kind"] == "eval"]
    assert held_out[0]["a2v_bits"] == pytest.approx(6 * 3)  # untrained: log2(8) a token
    assert held_out[0]["av_bits"] == pytest.approx(30)
    assert held_out[0]["v2a_perplexity"] == pytest.approx(8)
    assert min(value for name, value in held_out[-1].items() if "gain" not in name) > 0
    assert max(last.values()) < 1.0  # chance: log(8) = 2.08
    assert checkpoint.STATE in {path.name for path in out.iterdir()}

    trained = load_generator(out)
    assert (trained.tokenizer, trained.tokenizer_revision, trained.layout.classes) == ("toy", "1", ("circle", "square"))
    clips = clips_of(splits.load(f"folder:{clip_folder}", progress=False))
    for task, modality in (("a2v", "video"), ("v2a", "audio")):
        generation = Generation(toy, trained, task, how=Sampling(guidance=1.25))
        toy.seen.clear()
        made = generation.encode(clips)
        assert all(float(getattr(batch, modality).abs().max()) == 0 for batch in toy.seen)
        assert all(label is None for batch in toy.seen for label in batch.labels)
        changed = replace(clips, **{modality: torch.rand_like(getattr(clips, modality))}, labels=("other",) * len(clips))
        assert torch.equal(generation.encode(changed).codes["joint"], made.codes["joint"])
        decoded = generation.decode(made)
        assert (decoded.video is not None, decoded.audio is not None) == (task == "a2v", task == "v2a")
        paired = generation.paired(clips, decoded)
        assert paired.video is (decoded.video if task == "a2v" else clips.video)
        assert paired.audio is (decoded.audio if task == "v2a" else clips.audio)
    generation = Generation(toy, trained, "av", how=Sampling())
    toy.seen.clear()
    assert generation.encode(clips).codes["joint"].shape == (5, 1, 10)
    assert not toy.seen


@pytest.mark.slow
def test_a_condition_is_worth_what_another_clips_would_cost_more(tmp_path: Path, clip_folder: Path, toy: Toy) -> None:
    train(toy_training(clips=600), split=f"folder:{clip_folder}", out=tmp_path / "run", device="cpu")
    trainee = GeneratorTrainee(toy_training())
    data = trainee.load_data(f"folder:{clip_folder}", None)
    data.held_out = data.train  # the clips that it has learned by heart
    learned = held_out_numbers(load_generator(tmp_path / "run").model, data, CPU)
    assert learned["av_condition_gain"] > 1  # the toy's sounds (and pictures) have the same tokens in every clip: they tell nothing
    assert learned["a2v_condition_gain"] == learned["v2a_condition_gain"] == 0
    untrained = held_out_numbers(trainee.build_models()["generator"], data, CPU)  # type: ignore[arg-type]
    assert all(abs(untrained[f"{task}_condition_gain"]) < 1e-3 for task in TASKS)


@pytest.mark.slow
@pytest.mark.parametrize("muon", [0.0, 0.02])
def test_a_paused_training_goes_on_to_the_same_weights(tmp_path: Path, clip_folder: Path, toy: Toy, muon: float) -> None:
    source, config = f"folder:{clip_folder}", replace(toy_training(), muon=muon)
    train(config, split=source, out=tmp_path / "whole", device="cpu")
    paused = train(config, split=source, out=tmp_path / "parts", device="cpu", max_minutes=1e-6)
    assert not paused.finished
    assert train(config, split=source, out=tmp_path / "parts", device="cpu").finished
    curves = [[(x["step"], x["losses"]) for x in read_log(tmp_path / name) if x["kind"] == "train"] for name in ("whole", "parts")]
    assert curves[0] == curves[1]
    assert load_generator(tmp_path / "whole").revision == load_generator(tmp_path / "parts").revision
    other = toy_training(("a2v",))
    with pytest.raises(AvbenchError, match="holds a run of"):
        train(other, split=source, out=tmp_path / "parts", device="cpu")


def test_a_blanked_clip_holds_one_modality() -> None:
    clips = ClipBatch(video=torch.ones(1, 2, 3, 4, 4), audio=torch.ones(1, 1, 9), fps=1.0, sample_rate=9)
    assert float(blanked(clips, "video").audio.abs().max()) == 0  # type: ignore[union-attr]
    assert float(blanked(clips, "audio").video.abs().max()) == 0  # type: ignore[union-attr]
    assert blanked(clips, "video").video is clips.video


def test_an_unlabelled_split_can_be_conditioned_on_but_not_by_class(clip_folder: Path, tmp_path: Path, toy: Toy) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(clip_folder.rglob("*.mp4"))):
        shutil.copy(path, flat / f"{number}.mp4")
    if splits.load(f"folder:{flat}", progress=False).clips[0].label is not None:
        pytest.fail("a flat folder has labels: this test needs a split without")
    with pytest.raises(UsageError, match="without a label"):
        GeneratorTrainee(toy_training()).load_data(f"folder:{flat}", None)
    assert not toy.seen
    GeneratorTrainee(toy_training(("a2v", "v2a"))).load_data(f"folder:{flat}", None)


def test_weight_decay_is_for_linear_layers_alone(folder: Path) -> None:
    model = load_generator(folder).model
    decayed, others = decay_groups(model, OptimConfig(weight_decay=0.05))
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert len(decayed["params"]) == 4 * MODEL.layers + 1
    assert {tuple(p.shape) for p in others["params"]} == {(32,), tuple(model.embed.weight.shape), tuple(model.slots.shape)}  # type: ignore[union-attr]


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest(folder: Path) -> None:
    model = load_generator(folder).model.requires_grad_(True)
    config = replace(toy_training(), muon=0.02)
    objective = GeneratorObjective(model, load_generator(folder).layout, 0.0)
    muon, adamw = GeneratorTrainee(config).optimizers(objective, config.stages[0])
    assert isinstance(muon, torch.optim.Muon)
    mine, others = ([p for group in optimizer.param_groups for p in group["params"]] for optimizer in (muon, adamw))
    assert {id(p) for p in mine} == {id(p) for p in model.blocks.parameters() if p.ndim == 2}
    assert sorted(map(id, mine + others)) == sorted(map(id, model.parameters()))
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.05, 0.0]


def test_the_stated_work_is_that_of_the_matrix_products(folder: Path) -> None:
    trained = load_generator(folder)
    trained.model.requires_grad_(True)
    plan = trained.layout.plan("a2v")
    with sdpa_kernel(SDPBackend.MATH):  # attention as products that are counted, of what is masked as well
        hidden = counted(lambda: trained.model(torch.zeros(1, plan.length - 1, dtype=torch.int64), torch.tensor(plan.slots[:-1])))
    head = 6 * 6 * MODEL.width * 8
    assert training_flops(toy_training(), plan) == pytest.approx(hidden + head, rel=0.05)


def test_recipes_name_their_tokenizer_and_tasks() -> None:
    mini = recipes.ar_mini()
    assert mini.of("larp+wavtokenizer", None, TASKS).name == "ar-mini-larp+wavtokenizer"
    assert mini.of("avtok", None, ("a2v",)).name == "ar-mini-avtok-a2v"
    assert mini.of("avtok", "somewhere", TASKS).digest == mini.of("avtok", None, TASKS).digest
    assert mini.of("avtok", None, ("a2v",)).digest != mini.of("avtok", None, TASKS).digest
    with pytest.raises(UsageError, match="unknown task"):
        mini.of("avtok", None, ("t2v",))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["avtok-mini", "--tasks", "av"], "avtok-mini is none"),
        (["ar-mini", "--tasks", "a2v,t2v"], "unknown task"),
        (["ar-mini", "--tokenizer", "static-frame"], "has no audio"),
    ],
)
def test_the_command_refuses_what_cannot_be_trained(arguments: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        command.main([*arguments, "--out", str(tmp_path / "out")], standalone_mode=False)
    assert not (tmp_path / "out").exists()


def test_an_exported_folder_is_loaded_back_and_one_of_other_tasks_is_refused(folder: Path, clip_folder: Path, toy: Toy) -> None:
    for tasks in (TASKS, ("a2v",)):
        trainee = GeneratorTrainee(replace(toy_training(tasks), seed=3))
        trainee.load_data(f"folder:{clip_folder}", None)
        models = trainee.build_models()
        if tasks == TASKS:
            trainee.load(folder, models)
            expected = load_generator(folder).model.state_dict()
            assert all(torch.equal(value, expected[name]) for name, value in models["generator"].state_dict().items())
        else:
            with pytest.raises(AvbenchError, match="another size, vocabulary"):
                trainee.load(folder, models)
