"""Plugins that are really installed with pip: found by name, used, and harmless when broken."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy_plugin"
Command = Callable[..., subprocess.CompletedProcess[str]]

BROKEN_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "avbench-broken"
version = "0.1.0"

[project.entry-points."avbench.tokenizers"]
broken = "broken_plugin:Broken"

[project.entry-points."avbench.metrics"]
broken_metric = "broken_plugin:Metric"

[tool.hatch.build.targets.wheel]
include = ["broken_plugin.py"]
"""


def install(project: Path, target: Path) -> dict[str, str]:
    """pip install `project` into `target`; the environment in which it is found."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target), str(project)]
    subprocess.run(pip, check=True, timeout=300)
    return {"PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)}


@pytest.fixture(scope="module")
def with_toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return install(TOY, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def with_broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    project = tmp_path_factory.mktemp("broken")
    (project / "pyproject.toml").write_text(BROKEN_PROJECT)
    (project / "broken_plugin.py").write_text("raise RuntimeError('half installed')\n")
    return install(project, tmp_path_factory.mktemp("site"))


def test_the_readmes_plugin_is_short() -> None:
    assert len((TOY / "block_mean.py").read_text().splitlines()) < 40


def test_the_page_for_plugin_authors_shows_the_plugin_as_it_is() -> None:
    assert (TOY / "block_mean.py").read_text() in (TOY.parents[1] / "docs" / "add-a-tokenizer.md").read_text()


def test_an_installed_plugin_is_listed_with_its_distribution(avbench: Command, with_toy: dict[str, str]) -> None:
    listed = avbench("list", "tokenizers", environment=with_toy).stdout
    assert any("block-mean" in line and "avbench-block-mean" in line for line in listed.splitlines())


def test_an_installed_plugin_keeps_the_rules(avbench: Command, with_toy: dict[str, str]) -> None:
    done = avbench("check", "block-mean", environment=with_toy)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_installed_plugin_is_evaluated_by_name(avbench: Command, with_toy: dict[str, str], clip_folder: Path) -> None:
    done = avbench("run", "--tokenizer", "block-mean", "--split", f"folder:{clip_folder}", "--metrics", "psnr", environment=with_toy)
    assert done.returncode == 0, done.stderr
    assert "block-mean" in done.stdout


def test_an_installed_plugins_recipe_is_listed_and_trained(
    avbench: Command, with_toy: dict[str, str], clip_folder: Path, tmp_path: Path
) -> None:
    listed = avbench("list", "recipes", environment=with_toy).stdout
    assert any("toy-codec" in line and "avbench-block-mean" in line for line in listed.splitlines())
    done = avbench("train", "toy-codec", "--split", f"folder:{clip_folder}", "--out", "out", "--device", "cpu", environment=with_toy)
    assert done.returncode == 0, done.stderr
    assert "toy-codec: finished; 64 clips seen" in done.stdout
    assert (tmp_path / "out" / "codec.pt").is_file()


def test_a_broken_plugin_is_named_and_takes_no_other_down(avbench: Command, with_broken: dict[str, str], clip_folder: Path) -> None:
    listed = avbench("list", "tokenizers", environment=with_broken)
    assert listed.returncode == 0, listed.stderr
    assert "half installed" in listed.stdout
    used = avbench("run", "--tokenizer", "broken", "--split", f"folder:{clip_folder}", environment=with_broken)
    assert used.returncode == 1
    assert "avbench-broken" in used.stderr
    assert "Traceback" not in used.stderr


def test_a_broken_metric_plugin_is_na_in_every_run(avbench: Command, with_broken: dict[str, str], clip_folder: Path) -> None:
    toy = f"{TOY / 'block_mean.py'}:BlockMean"
    arguments = ("run", "--tokenizer", toy, "--split", f"folder:{clip_folder}", "--metrics", "psnr,broken_metric")
    done = avbench(*arguments, environment=with_broken)
    assert done.returncode == 0, done.stderr
    assert "half installed" in done.stdout


def test_doctor_names_a_broken_plugin(avbench: Command, with_broken: dict[str, str]) -> None:
    screen = avbench("doctor", environment=with_broken).stdout
    assert "avbench-broken" in screen
