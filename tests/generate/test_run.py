"""`avbench run --task a2v|v2a|av`: which generator is taken, what is measured, what is kept, and the rows of real clips."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_generator import Other, Toy, toy_training

from avbench import registry
from avbench.data import splits
from avbench.errors import AvbenchError, UsageError
from avbench.generate.controls import Control, matched, mismatched
from avbench.generate.trainee import GeneratorTrainee
from avbench.run.evaluate import Run, load
from avbench.run.evaluate import evaluate as run
from avbench.types import ClipBatch, RunSpec, Sampling


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_cache: Path) -> Path:
    """A working folder of this test's own; prepared clips are the session's."""
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy()
    monkeypatch.setattr(registry, "load_tokenizer", lambda name, **options: made)
    return made


def evaluate(spec: RunSpec, **options: bool) -> Run:
    """In this process: the toy tokenizer is an object of the test, which a worker could not load."""
    return run(spec, isolate=False, **options)


def write_generator(folder: Path, clip_folder: Path) -> Path:
    """A generator of random weights for the toy tokenizer."""
    trainee = GeneratorTrainee(toy_training())
    trainee.load_data(f"folder:{clip_folder}", None)
    models = trainee.build_models()
    torch.manual_seed(3)
    torch.nn.init.normal_(models["generator"].head.weight)  # type: ignore[union-attr, arg-type]
    trainee.export(folder, models, {"split": "clips", "clips_seen": 7})
    return folder


def spec_of(clip_folder: Path, task: str, **options: object) -> RunSpec:
    given = {"tokenizer": "toy", "split": f"folder:{clip_folder}", "metrics": ("psnr", "mr_stft", "av_align"), "batch_size": 2} | options
    return RunSpec(task=task, **given)  # type: ignore[arg-type]


def clips_of(clip_folder: Path, limit: int | None = None) -> tuple[splits.Split, ClipBatch]:
    split = splits.load(f"folder:{clip_folder}", limit=limit, progress=False)
    clips = next(iter(splits.batches(split, 8))).clips
    assert clips is not None
    return split, clips


@pytest.mark.parametrize(("task", "lacks"), [("a2v", {"mr_stft": "a2v generates no audio"}), ("v2a", {"psnr": "v2a generates no video"})])
def test_what_is_generated_is_measured_beside_its_condition(place: Path, clip_folder: Path, toy: Toy, task: str, lacks: dict) -> None:
    write_generator(place / "out" / "ar-toy", clip_folder)
    done = evaluate(spec_of(clip_folder, task))
    values = {value["name"]: value for value in done.result["values"]}
    assert done.num_failed == 0
    assert {name: value["reason"] for name, value in values.items() if value["value"] is None} == lacks
    assert done.result["tokenizer"]["name"] == "toy/tiny"
    assert done.result["tokenizer"]["trained_on"] == "clips, 7 clips seen"
    assert done.result["tokenizer"]["parameters"] > 0
    assert done.folder.name.startswith(f"toy-tiny_{task}_")


def test_both_modalities_are_generated_from_the_class(place: Path, clip_folder: Path, toy: Toy) -> None:
    write_generator(place / "out" / "ar-toy", clip_folder)
    toy.seen.clear()
    done = evaluate(spec_of(clip_folder, "av"))
    assert all(value["value"] is not None for value in done.result["values"])
    assert not toy.seen  # the tokenizer is never shown a clip


def test_a_run_goes_on_where_it_was_stopped_and_a_fresh_one_draws_again(place: Path, clip_folder: Path, toy: Toy) -> None:
    write_generator(place / "out" / "ar-toy", clip_folder)
    spec = spec_of(clip_folder, "a2v")
    first = evaluate(spec)
    kept = sorted((first.folder / "tokens").glob("*.avt"))
    assert len(kept) == 3  # of five clips, two at a time
    (first.folder / "parts" / "000001.npz").unlink()
    (first.folder / "parts" / "000002.npz").unlink()
    kept[2].write_bytes(kept[2].read_bytes()[:-1])
    toy.seen.clear()
    again = evaluate(spec)
    assert again.folder == first.folder
    assert again.result["values"] == first.result["values"]
    assert [len(batch) for batch in toy.seen] == [1]  # the clips of a lost part are there as bytes, those of a damaged file are not
    assert evaluate(spec, fresh=True).result["values"] == first.result["values"]
    assert len(toy.seen) > 1


def test_the_same_clips_whatever_the_batch_size_others_for_another_seed(place: Path, clip_folder: Path, toy: Toy) -> None:
    write_generator(place / "out" / "ar-toy", clip_folder)
    values = [
        [value["value"] for value in evaluate(spec_of(clip_folder, "a2v", **options)).result["values"] if value["name"] == "psnr"]
        for options in ({}, {"batch_size": 5}, {"seed": 1}, {"sampling": Sampling(temperature=0.0)})
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert values[2] != values[0]
    assert values[3] != values[0]


def test_a_row_says_how_its_clips_were_drawn(place: Path, clip_folder: Path, toy: Toy) -> None:
    write_generator(place / "mine", clip_folder)
    context = load(spec_of(clip_folder, "a2v", generator=str(place / "mine"), sampling=Sampling(guidance=1.5, top_k=3)))
    assert context.task.info.name == "toy/tiny (top-k 3, guidance 1.5)"
    context = load(spec_of(clip_folder, "av", generator=str(place / "mine"), sampling=Sampling(chain=True)))
    assert context.task.info.name == "toy/tiny (chain)"


def test_the_generator_that_fits_is_taken(place: Path, clip_folder: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AvbenchError, match=r"no generator of a2v for the tokens of toy in out/; train one \(avbench train ar-mini"):
        load(spec_of(clip_folder, "a2v"))
    shipped = write_generator(place / "shipped", clip_folder)
    toy.info = replace(toy.info, shipped_generator=shipped)
    load(spec_of(clip_folder, "a2v"))
    write_generator(place / "out" / "one", clip_folder)
    write_generator(place / "out" / "two", clip_folder)
    with pytest.raises(UsageError, match="out/one, out/two all generate a2v for toy; say which"):
        load(spec_of(clip_folder, "a2v"))
    load(spec_of(clip_folder, "a2v", generator="out/two"))
    monkeypatch.setattr(registry, "load_tokenizer", lambda name, **options: Other())
    with pytest.raises(UsageError, match="revision 1, here it is 2"):
        load(spec_of(clip_folder, "a2v", generator="out/two"))
    with pytest.raises(AvbenchError, match="no generator of a2v"):
        load(spec_of(clip_folder, "a2v"))


def test_what_cannot_be_generated_is_an_error_before_any_clip_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "load", lambda *_, **__: pytest.fail("clips were prepared"))
    with pytest.raises(UsageError, match="h264@20k has no audio: generation needs video and audio tokens"):
        load(RunSpec(tokenizer="h264", split="arcade-mini", task="v2a"))
    with pytest.raises(UsageError, match="--generator goes with --task"):
        load(RunSpec(tokenizer="h264", split="arcade-mini", generator="x"))
    with pytest.raises(UsageError, match="neither --generator nor --checkpoint"):
        load(RunSpec(tokenizer="real", split="arcade-mini", task="av", generator="x"))


def test_clips_without_a_label_have_no_class_to_generate(place: Path, clip_folder: Path, toy: Toy, tmp_path: Path) -> None:
    write_generator(place / "out" / "ar-toy", clip_folder)
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in clip_folder.rglob("*.mp4"):
        shutil.copy(file, flat)
    with pytest.raises(UsageError, match="without a label"):
        load(spec_of(flat, "av"))
    load(spec_of(flat, "a2v"))


def test_default_metrics_of_a_task_are_those_that_say_so() -> None:
    reconstruct, generate = registry.default_metrics(), registry.default_metrics("a2v")
    assert {"psnr", "fvd"} <= set(reconstruct)
    assert {"gfvd", "gfad_aisfx", "av_align", "class_accuracy_video", "av_agreement"} <= set(generate)
    assert not {"gfvd", "psnr"} & (set(reconstruct) & set(generate))
    assert "parameters" not in generate


# rows of real clips


def shown(control: Control, clips: ClipBatch) -> ClipBatch:
    return control.paired(clips, control.decode(control.encode(clips)))


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> list[bool]:
    assert a is not None
    assert b is not None
    return [bool(torch.equal(x, y)) for x, y in zip(a, b, strict=True)]


def test_real_shows_other_clips_of_the_same_class(clip_folder: Path) -> None:
    split, clips = clips_of(clip_folder, 2)
    whole, everything = clips_of(clip_folder)
    control = Control("real", "a2v")
    control.begin(split)
    numbers = control.choice.numbers["video"]
    assert not set(numbers) & {0, 1}
    assert [whole.clips[number].label for number in numbers] == [clip.label for clip in split.clips]
    pair = shown(control, clips)
    assert all(same(pair.video, everything.select(list(numbers)).video))
    assert all(same(pair.audio, everything.select(list(numbers)).audio))
    with pytest.raises(UsageError, match="--limit 2"):
        Control("real", "a2v").begin(whole)


@pytest.fixture
def balanced(clip_folder: Path, tmp_path: Path) -> Path:
    """Two clips of each of the two classes."""
    folder = tmp_path / "balanced"
    for label in ("circle", "square"):
        (folder / label).mkdir(parents=True)
        for file in sorted((clip_folder / label).iterdir())[:2]:
            shutil.copy(file, folder / label)
    return folder


@pytest.mark.parametrize(("task", "own"), [("a2v", "audio"), ("v2a", "video"), ("av", "video")])
def test_shuffled_pairs_real_clips_of_different_classes(balanced: Path, task: str, own: str) -> None:
    split, clips = clips_of(balanced)
    control = Control("shuffled", task)  # type: ignore[arg-type]
    control.begin(split)
    pair = shown(control, clips)
    other = "video" if own == "audio" else "audio"
    assert all(same(getattr(pair, own), getattr(clips, own)))
    assert not any(same(getattr(pair, other), getattr(clips, other)))
    numbers = control.choice.numbers[other]
    assert sorted(numbers) == [0, 1, 2, 3]
    assert all(split.clips[number].label != clip.label for number, clip in zip(numbers, split.clips, strict=True))


def test_copy_train_needs_a_training_split(clip_folder: Path) -> None:
    with pytest.raises(UsageError, match="no training split"):
        Control("copy-train", "av").begin(clips_of(clip_folder)[0])


def test_a_control_is_a_row_of_its_own_kind(balanced: Path) -> None:
    done = evaluate(spec_of(balanced, "a2v", tokenizer="shuffled"))
    assert done.result["tokenizer"]["kind"] == "control"
    assert done.num_failed == 0


def test_matched_takes_each_clip_of_a_class_once_before_it_repeats() -> None:
    pool = ["a", "b", "a", "b", "a"]
    assert matched(["a", "b", "a", "a"], pool, range(1, 5)) == (2, 1, 4, 2)
    with pytest.raises(UsageError, match="of class c"):
        matched(["a", "c"], pool, range(5))


def test_mismatched_never_meets_its_own_class() -> None:
    labels = [f"class {number % 7}" for number in range(50)]
    partners = mismatched(labels)
    assert sorted(partners) == list(range(50))
    assert all(labels[partner] != label for partner, label in zip(partners, labels, strict=True))
    kinds = [str(kind) for kind in np.random.default_rng(0).integers(0, 3, 60)]
    assert all(kinds[partner] != kind for partner, kind in zip(mismatched(kinds), kinds, strict=True))
    with pytest.raises(UsageError, match="3 of 5 clips are of one"):
        mismatched(["a", "a", "a", "b", "c"])
    with pytest.raises(UsageError, match="needs clips with labels"):
        mismatched(["a", None])


@pytest.mark.slow
def test_avtok_comes_with_a_generator_of_its_tokens(place: Path, clip_folder: Path) -> None:
    done = evaluate(spec_of(clip_folder, "v2a", tokenizer="avtok-plain", limit=1, metrics=("mr_stft",)))
    assert done.result["tokenizer"]["name"] == "avtok-mini/ar-mini"
    assert done.result["values"][0]["value"] is not None
    with pytest.raises(UsageError, match='unknown class "circle"'):
        load(spec_of(clip_folder, "av", tokenizer="avtok-plain"))
