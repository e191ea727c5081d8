"""Every recipe and every feature network passes a trace on `cuda`, without a GPU: devices fit, and no step waits for a number."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avbench.registry import plugins

pytestmark = pytest.mark.slow
HELPERS = Path(__file__).parents[1] / "helpers"
RECIPES = sorted(name for name, plugin in plugins("recipe").items() if plugin.distribution == "avbench")
NETWORKS = ("i3d", "aisfx", "lpips alex", "lpips vgg", "vggish", "synchformer", "imagebind", "clap", "cav-mae-sync", "hifigan")
FAMILIES = ("ar-", "avtok-mini", "avtok-scene", "avtok-small", "avtok-base", "larp-", "encodec-", "wavtokenizer-")


def trace(*names: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HELPERS / "cuda_traces.py"), *names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.stdout.splitlines() == [f"traced {name}" for name in names], done.stderr[-4000:]


def test_every_recipe_is_of_a_family() -> None:
    assert [name for name in RECIPES if not name.startswith(FAMILIES)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_every_stage_of_every_recipe_runs_on_the_device_and_waits_for_nothing(family: str) -> None:
    trace(*(name for name in RECIPES if name.startswith(family)))


def test_every_feature_network_runs_on_the_device() -> None:
    trace(*NETWORKS)


def test_a_table_that_stayed_on_the_cpu_and_a_number_that_is_asked_for_are_found() -> None:
    trace("mistakes")
