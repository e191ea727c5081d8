"""`--metrics` takes names and sets, mixed: what a set has, what it leaves out, and what a wrong name is answered."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import avbench
from avbench import registry
from avbench.cli.app import app
from avbench.errors import AvbenchError, UsageError
from avbench.metric import SETS, check_info
from avbench.metrics.psnr import Psnr
from avbench.run.evaluate import evaluate
from avbench.run.identity import metric_key
from avbench.run.sets import members, metrics_of
from avbench.run.suite import read_suite
from avbench.types import RunSpec

QUERY = "?res=32&fps=4&seconds=1&rate=16000"


def test_names_and_sets_mix_in_the_order_given_each_metric_once() -> None:
    found = metrics_of(("si-sdr", "perceptual", "lpips", "psnr"), "reconstruct")
    assert found[0] == "si_sdr"
    assert found[-1] == "psnr"
    assert {"ssim", "lpips", "lpips_vgg", "lpips_motion"} <= set(found[1:-1])
    assert len(set(found)) == len(found)
    assert metrics_of((), "reconstruct") == ()


def test_all_is_every_metric_of_the_task_and_of_no_other() -> None:
    for task in ("reconstruct", "a2v"):
        made_for = {name for name in registry.plugins("metric") if task in registry.metric_info(name).tasks}
        assert set(members("all", task)) == made_for
        assert set(registry.default_metrics(task)) < made_for or task == "a2v"
    assert "desync" not in members("all", "reconstruct")
    assert {"gfad_aisfx", "gfad_vggish", "desync", "ib_score", "clap_score", "av_align"} <= set(members("v2a", "v2a"))


def test_a_name_that_is_neither_lists_both_or_the_nearest_of_both() -> None:
    with pytest.raises(UsageError, match=r"known: .*psnr.*; or a set of metrics: all, distribution, perceptual, speech, v2a"):
        metrics_of(("qqqqqqqq",), "reconstruct")
    with pytest.raises(UsageError, match='did you mean "perceptual"'):
        metrics_of(("perceptal",), "reconstruct")


def test_a_set_without_a_metric_for_the_task_is_refused_before_any_compute() -> None:
    with pytest.raises(UsageError, match="no metric of the set perceptual is made for task v2a"):
        evaluate(RunSpec(tokenizer="nothing", split="nowhere", task="v2a", metrics=("perceptual",)))


@pytest.mark.parametrize(("change", "says"), [({"sets": {"music"}}, "known: speech, perceptual"), ({"name": "all"}, "another name")])
def test_a_plugin_names_only_sets_that_there_are_and_takes_no_name_of_one(change: dict[str, object], says: str) -> None:
    with pytest.raises(AvbenchError, match=says):
        check_info(replace(Psnr.info, **change))  # type: ignore[arg-type]


def test_a_set_is_no_part_of_a_metrics_identity() -> None:
    class Elsewhere(Psnr):
        info = replace(Psnr.info, sets=frozenset({"perceptual"}))

    Elsewhere.__module__ = Psnr.__module__
    assert metric_key(Elsewhere()) == metric_key(Psnr())


def test_the_command_the_suite_and_python_measure_the_same_for_a_set(clip_folder: Path, tmp_path: Path) -> None:
    """The speech set: quick, and of sound alone. Its members stand in the result by name, so that a later set changes no finished run."""
    split, runs = f"folder:{clip_folder}{QUERY}", tmp_path / "runs"
    by_hand = avbench.evaluate("silence", split, metrics=["speech", "bits_per_s"], runs_dir=runs, limit=1, device="cpu", progress=False)
    names = [*members("speech", "reconstruct"), "bits_per_s"]
    assert by_hand.result["spec"]["metrics"] == names
    assert {value["name"] for value in by_hand.result["values"]} == set(names)  # what cannot run here stands last
    arguments = ["run", "--tokenizer", "silence", "--split", split, "--metrics", "speech,bits_per_s", "--limit", "1", "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--runs-dir", str(runs)])
    assert done.exit_code == 0, done.output
    assert "reused" in done.output
    file = tmp_path / "suite.yaml"
    file.write_text(f'splits: ["{split}"]\nmetrics: [speech, bits_per_s]\nlimit: 1\ntokenizers: [silence]\n')
    (spec,) = read_suite(file, device="cpu")
    assert evaluate(spec, runs_dir=runs, progress=False).reused


def test_every_set_says_what_it_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for name, meaning in SETS.items():
        assert f"- `{name}`: {meaning}" in page
