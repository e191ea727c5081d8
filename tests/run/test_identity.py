"""avbench.run.identity: the same inputs find their folder again, anything that may change a number gets another one."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avbench import registry
from avbench.data import splits
from avbench.files import slug
from avbench.metric import MetricOptions
from avbench.run import identity
from avbench.run.evaluate import load
from avbench.types import RunSpec

Command = Callable[..., subprocess.CompletedProcess[str]]

PLUGIN = """
from colours import LEVELS
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

class Coarse:
    info = TokenizerInfo(name="coarse", revision="1", modalities=frozenset({"video"}), kind="classical")
    def encode(self, batch):
        codes = (batch.video[:, :, :, ::16, ::16] * (LEVELS - 1)).round().long().reshape(len(batch), 1, -1)
        return Tokens(codes={"video": codes}, vocab_sizes={"video": LEVELS}, duration_s=4.096)
    def decode(self, tokens):
        small = tokens.codes["video"].reshape(-1, 3, 8, 8) / (LEVELS - 1)
        video = small.repeat_interleave(16, 2).repeat_interleave(16, 3).unflatten(0, (-1, 16))
        return ClipBatch(video=video, fps=16 / 4.096, sample_rate=24_000)

class FromFile(Coarse):
    def __init__(self, options):
        self.shift = int(options.checkpoint.read_text())
    def encode(self, batch):
        tokens = super().encode(batch)
        tokens.codes["video"] = (tokens.codes["video"] + self.shift) % LEVELS
        return tokens
"""


def result(done: subprocess.CompletedProcess[str], cwd: Path) -> tuple[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    folder = done.stdout.strip().splitlines()[-1]
    values = json.loads((cwd / folder / "result.json").read_text())["values"]
    return folder, {value["name"]: value["value"] for value in values}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "coarse.py").write_text(PLUGIN)
    (tmp_path / "colours.py").write_text("LEVELS = 2\n")
    return tmp_path / "coarse.py"


def test_another_file_of_a_plugin_edited_is_another_run(avbench: Command, plugin: Path, clip_folder: Path, tmp_path: Path) -> None:
    arguments = ("run", "--tokenizer", f"{plugin}:Coarse", "--split", f"folder:{clip_folder}", "--metrics", "psnr")
    first, before = result(avbench(*arguments), tmp_path)
    (tmp_path / "colours.py").write_text("LEVELS = 64\n")
    second, after = result(avbench(*arguments), tmp_path)
    assert first != second
    assert after["psnr"] > before["psnr"] + 1


def test_a_checkpoint_overwritten_in_place_is_another_run(avbench: Command, plugin: Path, clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "colours.py").write_text("LEVELS = 64\n")
    last = tmp_path / "last.pt"
    arguments = ("run", "--tokenizer", f"{plugin}:FromFile", "--checkpoint", str(last), "--split", f"folder:{clip_folder}")
    found = []
    for shift in ("32", "0"):
        last.write_text(shift)
        found.append(result(avbench(*arguments, "--metrics", "psnr"), tmp_path))
    assert found[0][0] != found[1][0]
    assert found[1][1]["psnr"] > found[0][1]["psnr"] + 1


def test_clips_of_another_decoder_are_another_run(clip_folder: Path, monkeypatch: pytest.MonkeyPatch, test_cache: Path) -> None:
    """The split's checksum holds what its pixels and samples are; a run of other ones has another folder."""
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    spec = RunSpec(tokenizer="identity", split=f"folder:{clip_folder}", metrics=("psnr",))
    before, real = load(spec).run_id, splits.load
    monkeypatch.setattr(splits, "load", lambda *a, **k: replace(real(*a, **k), checksum="of clips that another PyAV decoded"))
    assert load(spec).run_id != before


def test_a_metric_added_later_has_the_same_folder_and_leaves_the_others(avbench: Command, clip_folder: Path, tmp_path: Path) -> None:
    arguments = ("run", "--tokenizer", "h264", "--split", f"folder:{clip_folder}", "--metrics")
    first = avbench(*arguments, "psnr")
    again = avbench(*arguments, "psnr")
    assert "reused; --fresh recomputes" not in first.stderr
    assert "reused; --fresh recomputes" in again.stderr
    more = avbench(*arguments, "fvd,ssim")
    assert "reused" not in more.stderr
    folder, values = result(more, tmp_path)
    assert result(first, tmp_path)[0] == result(again, tmp_path)[0] == folder
    whole, all_at_once = result(avbench(*arguments, "psnr,ssim,fvd", "--runs-dir", "whole"), tmp_path)
    assert values == all_at_once
    rows = [[json.loads(line) for line in (tmp_path / one / "clips.jsonl").open()] for one in (folder, whole)]
    assert rows[0] == rows[1]


def test_the_order_of_metrics_and_the_place_of_a_checkpoint_are_no_input(plugin: Path, clip_folder: Path, tmp_path: Path) -> None:
    ids = []
    for place, metrics in (("a", ("psnr", "ssim")), ("b", ("ssim", "psnr"))):
        (tmp_path / place).mkdir()
        (tmp_path / place / "weights").write_text("3")
        spec = RunSpec(
            tokenizer=f"{plugin}:FromFile", split=f"folder:{clip_folder}", metrics=metrics, checkpoint=str(tmp_path / place / "weights")
        )
        ids.append(load(spec).run_id)
    assert ids[0] == ids[1]


def test_each_input_is_in_the_id(clip_folder: Path) -> None:
    spec = RunSpec(tokenizer="identity", split=f"folder:{clip_folder}", metrics=("psnr",))
    changes = ({}, {"seed": 1}, {"limit": 2}, {"batch_size": 1}, {"tokenizer": "static-frame"})
    ids = {load(replace(spec, **change)).run_id for change in changes}
    assert len(ids) == len(changes)


def test_a_metrics_key_follows_its_version_and_its_protocol() -> None:
    metric = registry.load_metric("psnr", MetricOptions())
    before = identity.metric_key(metric)
    for change in ({"version": 2}, {"protocol": "another"}):
        metric.info = replace(registry.load_metric("psnr", MetricOptions()).info, **change)
        assert identity.metric_key(metric) != before


def test_a_package_counts_with_all_its_modules_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for place, helper in (("one", "X = 1"), ("two", "X = 1"), ("three", "X = 2")):
        package = tmp_path / place / f"package_{place}"
        (package / "deep").mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "deep" / "never_imported.py").write_text(helper)
        monkeypatch.syspath_prepend(str(tmp_path / place))
        __import__(f"package_{place}")
        keys.append(identity.code_of([f"package_{place}"]))
    assert keys[0] == keys[1] != keys[2]
    assert identity.code_of(["avbench.tokenizers.controls", "builtins"]) is None


def test_two_long_names_do_not_share_a_folder_name() -> None:
    a, b = (f"avtok-{'x' * 80}-{end}" for end in ("one", "two"))
    assert slug(a) != slug(b)
    assert slug(f"one-{a}") != slug(f"two-{a}")
    assert slug(a).startswith("avtok-xxx")
    assert len(slug(a)) <= 60
