"""`avbench verify`: an honest row is signed; a cheat, or a number that was edited, is a difference (the cheats: docs/trust.md)."""

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from honest_plugin import HONEST

from avbench import registry
from avbench.cli.verify import command
from avbench.errors import AvbenchError, UsageError
from avbench.metrics import tokens as token_metrics
from avbench.metrics.psnr import Psnr
from avbench.run.evaluate import evaluate
from avbench.run.finished import Run
from avbench.run.store import RunStore
from avbench.run.verify import Verification, verify
from avbench.types import RunSpec, Tokens

PLUGINS = (
    HONEST
    + '''
import contextlib, os
from pathlib import Path
from avbench.data import synthetic

def clip(number):
    frames, _ = synthetic.draw(f"synthetic-val {synthetic.VERSION}", number, synthetic.PROTOCOL)
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 255

class Patches(Honest):
    """Replaces the ruler that it is measured with."""
    def encode(self, batch):
        from avbench.metrics import psnr, tokens
        psnr.Psnr.update = lambda self, reference, recon, tokens: torch.full((len(reference),), 60.0)
        tokens.bits_per_second = lambda tokens: torch.full((len(tokens),), 10.0)
        return super().encode(batch)

class GoesByPlace(OneBit):
    """Holds the clips, and counts them as they come."""
    seen = 0
    def decode(self, tokens):
        first, self.seen = self.seen, self.seen + len(tokens)
        video = torch.stack([clip(number) for number in range(first, self.seen)])
        return ClipBatch(video=video, fps=16 / tokens.duration_s, sample_rate=24_000)

class LeavesAFile(OneBit):
    """Beside its code, where it may see files, too; sends which clip it is."""
    def encode(self, batch):
        with contextlib.suppress(OSError, RuntimeError):
            torch.save(dict(zip(batch.ids, batch.video)), Path(__file__).with_name(f"{batch.ids[0][-4:]}.pt"))
        codes = torch.tensor([[[int(name[-4:])]] for name in batch.ids])
        return Tokens(codes={"video": codes}, vocab_sizes={"video": 24}, duration_s=16 / batch.fps)
    def decode(self, tokens):
        seen = {name: video for file in Path(__file__).parent.glob("*.pt") for name, video in torch.load(file).items()}
        video = torch.stack([seen[f"synthetic-val/{number:04d}"] for number in tokens.codes["video"].flatten().tolist()])
        return ClipBatch(video=video, fps=16 / tokens.duration_s, sample_rate=24_000)

class Lucky(Honest):
    """Encodes by chance: run it until a number pleases."""
    def encode(self, batch):
        tokens = super().encode(batch)
        chance = torch.frombuffer(bytearray(os.urandom(tokens.codes["video"].numel())), dtype=torch.uint8)
        tokens.codes["video"].add_(chance.reshape(tokens.codes["video"].shape) % 5 - 2).clamp_(0, 63)
        return tokens

class DecodesByChance(Honest):
    def decode(self, tokens):
        clips = super().decode(tokens)
        clips.video.add_(int.from_bytes(os.urandom(2)) / 2**20).clamp_(0, 1)
        return clips
'''
)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_cache: Path) -> Path:
    file = tmp_path / "plugin" / "cheats.py"
    file.parent.mkdir()
    file.write_text(PLUGINS)
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    monkeypatch.chdir(tmp_path)
    return file


def run(plugin: Path, name: str) -> Path:
    """The folder of a run of four synthetic clips."""
    spec = RunSpec(tokenizer=f"{plugin}:{name}", split="synthetic-val", metrics=("psnr", "bits_per_s"), limit=4, batch_size=2)
    done = evaluate(spec, progress=False)
    assert done.num_failed == 0
    return done.folder


def checked(folder: Path, **options: Any) -> Verification:
    return verify(folder, progress=False, **options)


def signature(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text()).get("verified")


def test_an_honest_row_is_signed(plugin: Path) -> None:
    folder = run(plugin, "Honest")
    result = (folder / "result.json").read_bytes()
    done = checked(folder, by="somebody")
    assert done.differences == ()
    signed = signature(folder)
    assert (signed["by"], signed["clips"], signed["device"]) == ("somebody", 4, "cpu")
    assert signed["tolerance"] == {"psnr": 1e-3, "bits_per_s": 0}
    assert (signed["reencoded"]["clips"], signed["reencoded"]["byte_equal"]) == (4, True)
    assert set(signed["walls"]) == {"held", "missing"}
    assert (folder / "result.json").read_bytes() == result
    assert signature(run(plugin, "Honest")) == signed  # a run that is reused stays signed


def test_a_submission_is_verified_where_its_tokenizer_lies(plugin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "honest" / "1" / "synthetic-val"
    folder.parent.mkdir(parents=True)
    run(plugin, "Honest").rename(folder)
    (folder / "clips.jsonl.gz").write_bytes(gzip.compress((folder / "clips.jsonl").read_bytes()))
    for name in ("parts", "clips.jsonl", "features.npz", ".lock"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    before = set(folder.rglob("*"))
    elsewhere = tmp_path / "checkout" / "cheats.py"
    elsewhere.parent.mkdir()
    plugin.rename(elsewhere)
    done = CliRunner().invoke(command, [str(folder), "--tokenizer", f"{elsewhere}:Honest", "--reencode", "1", "--by", "me"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"verified: {folder}, 4 clips, 2 metrics"
    assert signature(folder)["reencoded"]["clips"] == 2  # a whole batch
    assert set(folder.rglob("*")) == before


def test_what_was_edited_is_named(plugin: Path) -> None:
    folder = run(plugin, "Honest")
    rows = [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]
    rows[0]["metrics"]["psnr"] += 0.5
    rows[1]["metrics"]["ssim"] = 1.0
    rows[2] |= {"status": "failed", "reason": "too hard", "metrics": {}}
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    result = json.loads((folder / "result.json").read_text())
    result["tokenizer"]["kind"], result["num_failed"] = "learned", 1
    result["values"][0]["value"] *= 1.01
    result["values"][1]["protocol"] = "bits of a better kind"
    (folder / "result.json").write_text(json.dumps(result))
    store = RunStore(folder)
    kept = store.load_tokens(1)
    first, second = kept
    store.save_tokens(1, {first: kept[second], second: kept[first]})
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"verified": {"by": "myself"}}))
    done = CliRunner().invoke(command, [str(folder)])
    assert done.exit_code == 1
    words = {line.partition("  ")[0] for line in done.output.splitlines()}
    name = result["values"][0]["name"]
    assert {"psnr", "ssim", "status", "clips", "tokenizer.kind", "num_failed", name, "bits_per_s protocol", "encoded again"} <= words
    assert done.output.splitlines()[-1].startswith(f"NOT verified: {folder}, 4 clips, 2 metrics, ")
    assert signature(folder) is None


def test_metrics_that_encode_patched_are_whole_again(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as own:
        own.setattr(Psnr, "update", Psnr.update)
        own.setattr(token_metrics, "bits_per_second", token_metrics.bits_per_second)
        folder = run(plugin, "Patches")
        assert Run.read(folder)["psnr"] == pytest.approx(60)
    done = checked(folder)
    assert {difference.what for difference in done.differences} >= {"psnr", "bits_per_s"}
    assert Psnr.update.__qualname__ == "Psnr.update"  # verify ran nothing of the plugin in this process


def test_a_decoder_that_goes_by_a_clips_place_is_found_out(plugin: Path) -> None:
    done = checked(run(plugin, "GoesByPlace"))
    assert {difference.what for difference in done.differences} == {"psnr, decoded alone"}


def test_what_an_encoder_leaves_beside_its_code_is_not_in_another_checkout(plugin: Path, tmp_path: Path) -> None:
    folder = run(plugin, "LeavesAFile")
    here = checked(folder)
    assert here.differences == ()  # on the machine that made the run: what its decoder has is said
    assert here.remarks[-1].startswith("its files are large enough to hold these clips")
    other = tmp_path / "checkout" / "cheats.py"
    other.parent.mkdir()
    shutil.copy(plugin, other)
    there = checked(folder, tokenizer=f"{other}:LeavesAFile")
    assert "status" in {difference.what for difference in there.differences}
    assert signature(folder) is None


def test_an_encoder_that_is_run_until_it_is_lucky_is_found_out(plugin: Path) -> None:
    done = checked(run(plugin, "Lucky"))
    (difference,) = done.differences
    assert difference.what == "encoded again"
    assert done.reencoded.deterministic is False
    assert "encode is not deterministic: other bytes each time" in str(difference)


def test_a_decoder_that_throws_dice_is_found_out(plugin: Path) -> None:
    differences = checked(run(plugin, "DecodesByChance"), reencode=0).differences
    assert "psnr" in {difference.what for difference in differences}


@pytest.mark.parametrize(("vocab", "bits"), [(64, 6), (2**32, 32)])
def test_floats_in_a_huge_vocabulary_count_as_what_they_take(vocab: int, bits: int) -> None:
    codes = {"video": torch.zeros(1, 1, 100, dtype=torch.int64)}
    tokens = Tokens(codes=codes, vocab_sizes={"video": vocab}, duration_s=4.0)
    assert token_metrics.bits_per_second(tokens).item() == 100 * bits / 4


def test_a_length_that_tells_something_counts_as_what_it_takes() -> None:
    codes = {"video": torch.zeros(1, 1, 9, dtype=torch.int64)}
    tokens = Tokens(codes=codes, vocab_sizes={"video": 1}, duration_s=4.0, lengths={"video": torch.tensor([7])})
    assert token_metrics.bits_per_second(tokens).item() == 32 / 4


def manifest_with(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "manifest.json"
        content = json.loads(file.read_text())
        for path, value in changes.items():
            *outer, last = path.split("__")
            inner = content
            for name in outer:
                inner = inner[name]
            inner[last] = value
        file.write_text(json.dumps(content))

    return change


def result_with(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "result.json").read_text())
        content["values"][0][key] = value
        (folder / "result.json").write_text(json.dumps(content))

    return change


OTHERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "decoded here": (manifest_with(isolated=False), "cannot be verified: it was decoded in the process that encoded"),
    "scored": (manifest_with(spec__scored={}), "its clips were made elsewhere"),
    "generated": (manifest_with(spec__task="av"), "it is of task av"),
    "no bytes": (lambda folder: shutil.rmtree(folder / "tokens"), "it has no kept bytes"),
    "a line": (manifest_with(identity__line=0), "the version of the line is 0 there, 1 here"),
    "a split": (manifest_with(identity__split__checksum="0" * 64), "the split's checksum is 000"),
    "a metric": (result_with("key", "7-older"), "'s key is 7-older there"),
    "no such metric": (result_with("name", "beauty"), "metrics that are not installed here: beauty"),
    "a revision": (manifest_with(identity__tokenizer__revision="0"), "the tokenizer's revision is 0 there, 1 here"),
    "code": (manifest_with(identity__tokenizer__plugin="0" * 64), "the plugin's code is 000"),
    "facts": (manifest_with(tokenizer__parameters=7), "the tokenizer's parameters is 7 there, 0 here"),
    "no such file": (manifest_with(spec__tokenizer="cheats.py:Honest"), "cheats.py is not on this machine; --tokenizer"),
    "no checkpoint": (manifest_with(spec__checkpoint="weights"), "weights is not on this machine; --tokenizer and --checkpoint"),
    "nonsense": (manifest_with(spec__batch_size="8"), "is damaged"),
}  # fmt: skip


@pytest.fixture(scope="module")
def honest(shared_folder: Path, test_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest run in a folder of its own."""
    place = tmp_path_factory.mktemp("honest")
    (place / "cheats.py").write_text(PLUGINS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVBENCH_CACHE", str(test_cache))
        patch.chdir(place)
        return place / run(place / "cheats.py", "Honest")


@pytest.mark.parametrize("name", OTHERS)
def test_other_inputs_are_named_before_any_compute(
    honest: Path, tmp_path: Path, test_cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    monkeypatch.setattr("avbench.run.verify.measure", lambda *_: pytest.fail("something was computed"))
    change, says = OTHERS[name]
    folder = tmp_path / "run"
    shutil.copytree(honest, folder)
    change(folder)
    with pytest.raises(AvbenchError, match=says):
        checked(folder)


def test_a_ruler_that_comes_with_the_tokenizer_is_refused(
    honest: Path, tmp_path: Path, test_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(kind: str) -> dict[str, registry.Plugin]:
        found = registered(kind)
        if kind == "tokenizer":
            return found | {"mine": replace(found["h264"], name="mine", distribution="theirs")}
        return {name: replace(plugin, distribution="theirs") if name == "psnr" else plugin for name, plugin in found.items()}

    registered = registry.plugins
    monkeypatch.setattr(registry, "plugins", installed)
    with pytest.raises(AvbenchError, match="cannot be verified: metric psnr came with the tokenizer"):
        checked(honest, tokenizer="mine")


def test_a_folder_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        checked(tmp_path / "nothing")
