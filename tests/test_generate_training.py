"""avbench.generate.tokens, .trainee, .checkpoint, .generate: from a folder of clips to generated clips, with a toy tokenizer."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from toy_generator import MODEL, Other, Toy, toy_training

from avbench import payload, registry
from avbench.data import splits
from avbench.errors import AvbenchError, UsageError
from avbench.generate.checkpoint import MANIFEST, WEIGHTS, check_match, load_generator
from avbench.generate.draw import Drawing, uniforms
from avbench.generate.generate import Generation
from avbench.generate.sample import sample
from avbench.generate.tasks import TASKS
from avbench.generate.tokens import blanked, load_tokens
from avbench.generate.trainee import GeneratorObjective, GeneratorTrainee, decay_groups, held_out_numbers, training_flops
from avbench.generate.training import RECIPES, GeneratorTraining
from avbench.reconstruct import reconstruct
from avbench.train import checkpoint
from avbench.train.command import command
from avbench.train.config import OptimConfig
from avbench.train.flops import counted
from avbench.train.log import read_log
from avbench.train.loop import train
from avbench.types import ClipBatch, Tokens

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_cache: Path) -> Path:
    """Prepared clips are the session's, tokens this test's own."""
    root = tmp_path / "cache"
    root.mkdir()
    (test_cache / "prepared").mkdir(exist_ok=True)
    (root / "prepared").symlink_to(test_cache / "prepared")
    monkeypatch.setenv("AVBENCH_CACHE", str(root))
    return root


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy()
    monkeypatch.setattr(registry, "load_tokenizer", lambda name, **options: made)
    return made


@pytest.fixture
def split(clip_folder: Path) -> splits.Split:
    return splits.load(f"folder:{clip_folder}", progress=False)


def clips_of(split: splits.Split) -> ClipBatch:
    batch = next(iter(splits.batches(split, 8)))
    assert batch.clips is not None
    return batch.clips


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
        generation = Generation(toy, trained, task, how=Drawing(guidance=1.25))
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
    generation = Generation(toy, trained, "av", how=Drawing())
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


@pytest.fixture
def folder(tmp_path: Path, clip_folder: Path, toy: Toy) -> Path:
    """A generator of random weights."""
    trainee = GeneratorTrainee(toy_training())
    trainee.load_data(f"folder:{clip_folder}", None)
    models = trainee.build_models()
    torch.nn.init.normal_(models["generator"].head.weight)  # type: ignore[union-attr, arg-type]
    trainee.export(tmp_path / "generator", models, {"split": "clips"})
    return tmp_path / "generator"


def test_a_generator_is_read_back_as_it_was_written(folder: Path) -> None:
    trained = load_generator(folder)
    assert trained.layout.tasks == TASKS
    assert trained.provenance == {"split": "clips"}
    assert trained.model.config == MODEL
    assert not trained.model.training


def test_a_seed_gives_the_same_clips_whatever_the_batch_size_and_the_order(folder: Path, toy: Toy, split: splits.Split) -> None:
    clips, trained = clips_of(split), load_generator(folder)
    generation = Generation(toy, trained, "v2a", how=Drawing(guidance=1.5))
    together = generation.encode(clips).codes["joint"]
    alone = torch.cat([generation.encode(clips.select([number])).codes["joint"] for number in range(5)])
    backwards = generation.encode(clips.select([4, 3, 2, 1, 0])).codes["joint"].flip(0)
    assert torch.equal(together, alone)
    assert torch.equal(together, backwards)
    other = Generation(toy, trained, "v2a", how=Drawing(guidance=1.5), seed=1)
    assert not torch.equal(other.encode(clips).codes["joint"], together)
    assert other.info.revision != generation.info.revision


def test_a_chained_clip_is_the_picture_of_the_class_and_then_the_sound_of_that_picture(folder: Path, toy: Toy, split: splits.Split) -> None:
    batch = clips_of(split)
    trained = load_generator(folder)
    how = Drawing(guidance=1.5, chain=True)
    chained = Generation(toy, trained, "av", how=how).encode(batch).codes["joint"][:, 0]
    whole = Generation(toy, trained, "av", how=replace(how, chain=False)).encode(batch).codes["joint"][:, 0]
    assert torch.equal(chained[:, :6], whole[:, :6])
    assert not torch.equal(chained[:, 6:], whole[:, 6:])
    space, plan = trained.layout.space, trained.layout.plan("v2a")
    prompt = trained.layout.prompt("v2a", {"video": chained[:, :6]})
    noise = uniforms(0, batch.ids, 10)[:, 6:]
    dropped = trained.layout.dropped("v2a", prompt)
    audio = sample(trained.model, plan, prompt, noise, how, dropped_BP=dropped)
    assert torch.equal(space.to_tokens({"video": chained[:, :6], "audio": audio}).codes["joint"][:, 0], chained)
    with pytest.raises(UsageError, match="not for v2a"):
        Generation(toy, trained, "v2a", how=how)


def test_finished_clips_are_kept_and_a_damaged_one_is_made_again(folder: Path, toy: Toy, split: splits.Split, tmp_path: Path) -> None:
    clips, trained = clips_of(split), load_generator(folder)
    first, second = (Generation(toy, trained, "a2v", how=Drawing()) for _ in range(2))
    first.keep_in(tmp_path / "kept")
    second.keep_in(tmp_path / "kept")
    made = first.encode(clips.select([0, 1, 2]))
    files = sorted((tmp_path / "kept").rglob("*.avt"))
    assert len(files) == 3
    files[0].write_bytes(b"AVT1")
    toy.seen.clear()
    again = second.encode(clips)
    assert [len(batch) for batch in toy.seen] == [3]  # the damaged one and the two that are new
    assert torch.equal(again.codes["joint"][:3], made.codes["joint"])
    assert len(payload.from_bytes([files[0].read_bytes()])) == 1
    other_sound = replace(clips, audio=clips.audio.flip(0) * 0.5)  # type: ignore[union-attr]
    toy.seen.clear()
    first.encode(other_sound)
    assert [len(batch) for batch in toy.seen] == [5]


def test_what_does_not_go_together_is_a_usage_error_before_any_compute(folder: Path, toy: Toy) -> None:
    trained = load_generator(folder)
    with pytest.raises(UsageError, match="revision 1, here it is 2"):
        check_match(trained, Other(), "a2v")
    renamed, video_only = Toy(), Toy()
    renamed.info = replace(Toy.info, name="larp")
    with pytest.raises(UsageError, match="tokens of toy, not of larp"):
        check_match(trained, renamed, "a2v")
    video_only.info = replace(Toy.info, modalities=frozenset({"video"}))
    with pytest.raises(UsageError, match="has no audio"):
        Generation(video_only, trained, "v2a", how=Drawing())
    narrow = replace(trained, layout=replace(trained.layout, tasks=("av",)))
    with pytest.raises(UsageError, match="learned av, not v2a"):
        check_match(narrow, toy, "v2a")
    generation = Generation(toy, trained, "av", how=Drawing())
    with pytest.raises(UsageError, match='did you mean "circle"'):
        generation.check(["square", "circel"])
    with pytest.raises(UsageError, match="without a label"):
        generation.check([None])
    Generation(toy, trained, "a2v", how=Drawing()).check([None])
    assert not toy.seen[3:]  # only what the fixture encoded


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("kind", "something"), ("config", {"width": -1}), ("config", {}), ("layout", {}), ("tokenizer", {"name": 3}), ("weights", {}),
        ("provenance", None),
    ],
)  # fmt: skip
def test_a_damaged_generator_is_refused(folder: Path, part: str, value: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {part: value}))
    with pytest.raises(AvbenchError, match="manifest"):
        load_generator(folder)


def test_missing_and_changed_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    (copied / WEIGHTS).write_bytes((copied / WEIGHTS).read_bytes() + b"x")
    with pytest.raises(AvbenchError, match="sha256"):
        load_generator(copied)
    (copied / WEIGHTS).unlink()
    with pytest.raises(AvbenchError, match="missing"):
        load_generator(copied)
    with pytest.raises(AvbenchError, match="holds no trained generator"):
        load_generator(tmp_path)


def test_two_streams_are_generated_as_well(split: splits.Split, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dual = Toy(unified=False)
    monkeypatch.setattr(registry, "load_tokenizer", lambda name, **options: dual)
    trainee = GeneratorTrainee(toy_training())
    trainee.load_data(f"folder:{clip_folder}", None)
    assert trainee.layout.space.num_codes == 16
    trainee.export(tmp_path, trainee.build_models(), {})
    made = Generation(dual, load_generator(tmp_path), "v2a", how=Drawing()).encode(clips_of(split))
    assert {name: tuple(codes.shape) for name, codes in made.codes.items()} == {"video": (5, 1, 6), "audio": (5, 1, 4)}
    assert torch.equal(made.codes["video"], dual.encode(clips_of(split)).codes["video"])


@pytest.mark.parametrize("task", TASKS)
def test_generated_clips_pass_where_reconstructions_do(folder: Path, toy: Toy, split: splits.Split, task: str) -> None:
    clips = clips_of(split)
    generation = Generation(toy, load_generator(folder), task, how=Drawing())  # type: ignore[arg-type]
    done, failures = reconstruct(generation, clips)
    assert not failures
    assert done[0].recon.ids == clips.ids
    assert done[0].recon.video is not None
    assert done[0].recon.audio is not None
    real = {name for name in ("video", "audio") if torch.equal(getattr(done[0].recon, name), getattr(clips, name))}
    assert real == {"a2v": {"audio"}, "v2a": {"video"}, "av": set()}[task]  # the condition stands beside what was generated
    assert torch.equal(done[0].tokens.codes["joint"], generation.encode(clips).codes["joint"])


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
    for name, recipe in RECIPES.items():
        made = recipe()
        assert isinstance(made, GeneratorTraining)
        assert made.name == name
        assert (recipe.__doc__ or "").strip()
    mini = RECIPES["ar-mini"]()
    assert isinstance(mini, GeneratorTraining)
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
