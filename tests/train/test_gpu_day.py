"""scripts/gpu_day.sh from end to end on a CPU: a slim tree, packages that the machine lacks blocked, a kill at a random second."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avbench.tokenizers.avtok.checkpoint import load_checkpoint
from avbench.train.log import read_log

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
RECIPE = "tests/helpers/tiny_day.py:recipe"
MAX_BYTES, MAX_FILES, MAX_FILE = 64 * 2**20, 8, 16 * 2**20
LACKING = ("av", "snac", "selenium")  # and not carried; this Python has them
BLOCK = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LACKING:
            raise ModuleNotFoundError(f"No module named {name!r}, which the machine lacks", name=name)

sys.meta_path.insert(0, Blocked())
"""

BROKEN = """
from dataclasses import replace
from tiny_day import recipe

def wild():
    base = recipe()
    first = base.stages[0]
    loss = replace(first.loss, video=replace(first.loss.video, overall=float("nan")), prior=0.0)
    return replace(base, stages=(replace(first, loss=loss), *base.stages[1:]))
"""


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout


def day(tree: Path, *arguments: str, **environment: object) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    command = ["bash", "scripts/gpu_day.sh", *arguments]
    return subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What travels: a clone of this tree is packed, its visible files are copied, and it is restored."""
    here, there = (tmp_path_factory.mktemp(name) for name in ("here", "there"))
    for file in git(ROOT, "ls-files", "-co", "--exclude-standard").splitlines():
        if (ROOT / file).exists():
            (here / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, here / file, follow_symlinks=False)
    git(here, "init", "-q")
    git(here, "add", "-A")
    git(here, "commit", "-qm", "tree")
    packed = day(here, "pack", DOWNLOAD="no", PYTHON=sys.executable)
    assert packed.returncode == 0, packed.stderr
    travelling = [*git(here, "ls-files", "-co", "--exclude-standard").splitlines(), ".gpu/networks.safetensors"]
    assert not [
        name
        for name in travelling
        if name.startswith(("runs/", "results/", "leaderboards/")) or "/checkpoint/" in name or "/generator/model" in name
    ]
    assert sum((here / name).lstat().st_size for name in travelling) < MAX_BYTES - 6_000_000  # the wheels'
    for name in travelling:
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here / name, there / name, follow_symlinks=False)
    restored = day(here, "restore")
    assert restored.returncode == 0, restored.stderr
    shutil.rmtree(here / ".gpu")
    assert git(here, "status", "--short") == ""
    return there


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    """60 synthetic clips on the CPU; a Python that lacks what the machine lacks."""
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text(f"LACKING = {LACKING!r}\n{BLOCK}")
    return {
        "STATE": tmp_path / "state", "OUT": tmp_path / "out", "AVBENCH_CACHE": tmp_path / "cache", "PYTHON": sys.executable,
        "PYTHONPATH": tmp_path / "block", "CLIPS": 60, "SPLIT": "synthetic-train", "DEVICE": "cpu", "OMP_NUM_THREADS": 1,
        "DAY_ARGS": "--reserve 5 --probe-steps 3",
    }  # fmt: skip


def within_limits(out: Path) -> bool:
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return len(sizes) <= MAX_FILES and max(sizes) <= MAX_FILE and sum(sizes) <= MAX_BYTES


def test_a_day_goes_through_and_what_comes_back_is_a_checkpoint_with_its_log_and_tokens(
    tree: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    done = day(tree, "once", RECIPE, **settings, LIMIT=200 if os.environ.get("CI") else 150)
    log = (tmp_path / "out" / "day.log").read_text()
    assert done.returncode == 0, log
    assert within_limits(tmp_path / "out")
    for line in ("smoke: stage decode", "60 clips are there", "probe: 0.5 of the rates", "training for", "ended with 0"):
        assert line in log
    shutil.copytree(tmp_path / "out", tmp_path / "kept")
    more = day(tree, "more", "synthetic-val", **settings)
    assert more.returncode == 0, more.stderr
    shutil.copytree(tmp_path / "out", tmp_path / "kept", dirs_exist_ok=True)
    joined = day(tree, "join", str(tmp_path / "kept"), str(tmp_path / "joined"))
    assert joined.returncode == 0, joined.stderr
    found = load_checkpoint(tmp_path / "joined")
    assert found.provenance["stage"] == "decode"
    assert {line["stage"] for line in read_log(tmp_path / "joined") if line["kind"] == "train"} == {"video", "audio", "decode"}
    assert list((tmp_path / "joined" / "tokens").rglob("*.safetensors"))
    assert list((tmp_path / "joined" / "pictures").glob("*.png"))


def test_what_a_killed_day_had_lies_in_the_output_folder(tree: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    variables = {**os.environ, **{name: str(value) for name, value in settings.items()}, "LIMIT": "500"}
    command = ["bash", "scripts/gpu_day.sh", "once", RECIPE]
    process = subprocess.Popen(command, cwd=tree, env=variables, start_new_session=True, stdout=subprocess.DEVNULL)
    log, deadline = tmp_path / "out" / "day.log", time.monotonic() + 300
    while time.monotonic() < deadline and not (log.exists() and "checkpoint copied" in log.read_text()):
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    time.sleep(random.uniform(0, 10))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert within_limits(tmp_path / "out")
    joined = day(tree, "join", str(tmp_path / "out"), str(tmp_path / "joined"))
    assert joined.returncode == 0, joined.stderr
    assert load_checkpoint(tmp_path / "joined").provenance["clips_seen"] > 0
    assert "training for" in log.read_text()


def test_a_loss_that_is_not_finite_stops_the_day_in_the_smoke(tree: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN)
    settings["PYTHONPATH"] = f"{settings['PYTHONPATH']}:tests/helpers"
    done = day(tree, "once", f"{broken}:wild", **settings, LIMIT=300)
    log = (tmp_path / "out" / "day.log").read_text()
    assert done.returncode == 1
    assert "stage video on synthetic clips: total, video/l1" in log
    assert "not finite" in log
    assert "ended with 1" in log
