"""avbench.generate.checkpoint, .generate: from a trained generator in a folder to generated clips, with a toy tokenizer."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_generator import MODEL, Other, Toy, clips_of, toy_training

from avbench import registry
from avbench.data import splits
from avbench.errors import AvbenchError, UsageError
from avbench.generate.checkpoint import MANIFEST, check_match, load_generator
from avbench.generate.generate import Generation
from avbench.generate.sampling import sample, uniforms
from avbench.generate.task import _Generate
from avbench.generate.tasks import TASKS
from avbench.generate.trainee import GeneratorTrainee
from avbench.run.passage import decode, encode
from avbench.run.worker import InProcess
from avbench.types import Sampling


def test_a_generator_is_read_back_as_it_was_written(folder: Path) -> None:
    trained = load_generator(folder)
    assert trained.layout.tasks == TASKS
    assert trained.provenance == {"split": "clips"}
    assert trained.model.config == MODEL
    assert not trained.model.training


def test_a_seed_gives_the_same_clips_whatever_the_batch_size_and_the_order(folder: Path, toy: Toy, split: splits.Split) -> None:
    clips, trained = clips_of(split), load_generator(folder)
    generation = Generation(toy, trained, "v2a", how=Sampling(guidance=1.5))
    together = generation.encode(clips).codes["joint"]
    alone = torch.cat([generation.encode(clips.select([number])).codes["joint"] for number in range(5)])
    backwards = generation.encode(clips.select([4, 3, 2, 1, 0])).codes["joint"].flip(0)
    assert torch.equal(together, alone)
    assert torch.equal(together, backwards)
    other = Generation(toy, trained, "v2a", how=Sampling(guidance=1.5), seed=1)
    assert not torch.equal(other.encode(clips).codes["joint"], together)
    assert other.info.revision != generation.info.revision


def test_a_chained_clip_is_the_picture_of_the_class_and_then_the_sound_of_that_picture(folder: Path, toy: Toy, split: splits.Split) -> None:
    batch = clips_of(split)
    trained = load_generator(folder)
    how = Sampling(guidance=1.5, chain=True)
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
        Generation(video_only, trained, "v2a", how=Sampling())
    narrow = replace(trained, layout=replace(trained.layout, tasks=("av",)))
    with pytest.raises(UsageError, match="learned av, not v2a"):
        check_match(narrow, toy, "v2a")
    generation = Generation(toy, trained, "av", how=Sampling())
    with pytest.raises(UsageError, match='did you mean "circle"'):
        generation.check(["square", "circel"])
    with pytest.raises(UsageError, match="without a label"):
        generation.check([None])
    Generation(toy, trained, "a2v", how=Sampling()).check([None])
    assert not toy.seen[3:]  # only what the fixture encoded


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("kind", "something"), ("config", {"model": {"width": -1}}), ("config", {}), ("shards", [{}]), ("provenance", None),
    ],
)  # fmt: skip
def test_a_damaged_generator_is_refused(folder: Path, part: str, value: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {part: value}))
    with pytest.raises(AvbenchError, match="manifest"):
        load_generator(folder)


@pytest.mark.parametrize(
    ("part", "value"), [("layout", {}), ("layout", None), ("tokenizer", {"name": 3}), ("tokenizer", None), ("model", {"name": "<b>"})]
)
def test_a_damaged_config_is_refused(folder: Path, part: str, value: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    if isinstance(value, dict) and part == "model":
        value = manifest["config"]["model"] | value
    (folder / MANIFEST).write_text(json.dumps(manifest | {"config": manifest["config"] | {part: value}}))
    with pytest.raises(AvbenchError, match="manifest"):
        load_generator(folder)


def test_missing_and_changed_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    (shard,) = copied.glob("*.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(AvbenchError, match="sha256"):
        load_generator(copied)
    shard.unlink()
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
    made = Generation(dual, load_generator(tmp_path), "v2a", how=Sampling()).encode(clips_of(split))
    assert {name: tuple(codes.shape) for name, codes in made.codes.items()} == {"video": (5, 1, 6), "audio": (5, 1, 4)}
    assert torch.equal(made.codes["video"], dual.encode(clips_of(split)).codes["video"])


@pytest.mark.parametrize("task", TASKS)
def test_generated_clips_pass_where_reconstructions_do(folder: Path, toy: Toy, split: splits.Split, task: str) -> None:
    clips = clips_of(split)
    generation = Generation(toy, load_generator(folder), task, how=Sampling())  # type: ignore[arg-type]
    line = registry.load_task(task)
    assert isinstance(line, _Generate)
    line.maker, line.info = generation, generation.info
    encoded = encode(line, clips)
    done, failures = decode(line, InProcess(line, torch.device("cpu")), clips, [encoded.payloads[name] for name in clips.ids], 0)
    assert not failures
    assert not encoded.failures
    assert done[0].recon.ids == clips.ids
    assert done[0].recon.video is not None
    assert done[0].recon.audio is not None
    real = {name for name in ("video", "audio") if torch.equal(getattr(done[0].recon, name), getattr(clips, name))}
    assert real == {"a2v": {"audio"}, "v2a": {"video"}, "av": set()}[task]  # the condition stands beside what was generated
    assert torch.equal(done[0].tokens.codes["joint"], generation.encode(clips).codes["joint"])
