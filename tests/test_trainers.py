"""`avbench.Callback` in accelerate's loop and in Lightning's Trainer: docs/python.md's own blocks, run as they stand there."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import ROOT, blocks

PAGE = [block.code for block in blocks(ROOT / "docs" / "python.md") if block.kind == "python"]


def block(what: str) -> str:
    """The page's block that holds `what`."""
    (found,) = (code for code in PAGE if what in code)
    return found


@pytest.fixture
def place(tmp_path: Path, clip_folder: Path) -> Path:
    """A folder with model.py and my_videos/."""
    shutil.copytree(clip_folder, tmp_path / "my_videos")
    (tmp_path / "model.py").write_text(block("class Model"))
    return tmp_path


def run(place: Path, cache: Path, script: str, *launcher: str) -> list[str]:
    """What the script prints, a line each; on the CPU."""
    (place / "train.py").write_text(script)
    environment = {**os.environ, "AVBENCH_CACHE": str(cache), "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, *launcher, "train.py"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def history(line: str) -> list[dict[str, float]]:
    """The list in a line."""
    found = ast.literal_eval(line[line.index("[") : line.index("]") + 1])
    assert isinstance(found, list)
    return found


def is_of_two_evaluations(found: list[dict[str, float]]) -> bool:
    """At steps 2 and 4; the gain goes from 0.5 to 1, and the pictures with it."""
    return [entry["step"] for entry in found] == [2, 4] and 10 < found[0]["psnr"] < found[1]["psnr"]


def test_accelerates_loop(place: Path, test_cache: Path) -> None:
    pytest.importorskip("accelerate")
    (line,) = run(place, test_cache, block("import Accelerator"))
    assert is_of_two_evaluations(history(line))


def test_accelerates_first_process_evaluates_and_the_others_wait(place: Path, test_cache: Path) -> None:
    pytest.importorskip("accelerate")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    first, second = sorted(run(place, test_cache, block("import Accelerator"), *launcher))
    assert is_of_two_evaluations(history(first))
    assert second == "1 []"


def test_lightnings_trainer_calls_and_logs(place: Path, test_cache: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed: pip install lightning")
    script = block("import lightning") + "assert training.model.training\n"
    line = run(place, test_cache, script)[-1]
    found = history(line)
    assert is_of_two_evaluations(found)
    assert f"{found[-1]['psnr']:.1f}" in line.partition("]")[2]


def test_batches_of_accumulated_gradients_are_one_step(place: Path, test_cache: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed: pip install lightning")
    script = block("import lightning").replace("max_steps=4", "max_steps=2, accumulate_grad_batches=3")
    assert [entry["step"] for entry in history(run(place, test_cache, script)[-1])] == [2]
