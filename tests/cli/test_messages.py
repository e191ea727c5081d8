"""What a user gets wrong, or a machine lacks, is told in words and never as a traceback."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avbench import world
from avbench.errors import AvbenchError, UsageError
from avbench.paths import cache_root
from avbench.run.store import RunStore
from avbench.world import World, join, pick_device

Command = Callable[..., subprocess.CompletedProcess[str]]
TOY = f"{Path(__file__).parents[1] / 'toy_plugin' / 'block_mean.py'}:BlockMean"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("foo", "--device foo: avbench runs on cpu and cuda"),
        ("mps", "--device mps: avbench runs on cpu and cuda"),
        ("meta", "--device meta: avbench runs on cpu and cuda"),
        ("", "--device : avbench runs on cpu and cuda"),
    ],
)
def test_a_device_that_avbench_does_not_run_on_is_named(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        pick_device(name, World())


def test_a_gpu_that_is_not_there_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"--device cuda: torch \S+ (sees no GPU here|is built without CUDA); --device cpu works"):
        pick_device("cuda", World())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=r"--device cuda:2: this machine has 2 GPU"):
        pick_device("cuda:2", World())
    assert pick_device("cuda:1", World()) == torch.device("cuda", 1)
    assert pick_device("auto", World(rank=3, size=4, local_rank=3)) == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4, but RANK, MASTER_ADDR, MASTER_PORT are not set: unset WORLD_SIZE, or start with torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "here"}, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE and RANK in the environment are no numbers"),
    ],
)
def test_half_an_environment_of_torchrun_says_what_is_lacking(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=says):
        join()


class Frozen:
    """A store in which one process has come, and the other never says a word."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {"pulse 0": 0}

    def add(self, name: str, count: int) -> int:
        self.counts["pulse 0"] += 1
        self.counts[name] = self.counts.get(name, 0) + count
        return self.counts[name]


def test_a_frozen_process_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_store", Frozen)
    monkeypatch.setattr(world, "PEER_S", 0.3)
    with pytest.raises(AvbenchError, match=r"process 1 of 2 has not been heard of for 0\.3 s: frozen"):
        World(rank=0, size=2).wait()


def test_processes_meet_and_one_that_is_slow_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store = torch.distributed.HashStore()
    pulses = [threading.Thread(target=world._beat, args=(store, rank), daemon=True) for rank in range(2)]
    monkeypatch.setattr(world, "_store", lambda: store)
    monkeypatch.setattr(world, "_numbers", iter([0, 0]))
    monkeypatch.setattr(world, "PULSE_S", 0.05)
    monkeypatch.setattr(world, "PEER_S", 0.5)
    for pulse in pulses:
        pulse.start()
    first = threading.Thread(target=World(rank=0, size=2).wait)
    first.start()
    first.join(1.5)
    assert first.is_alive()
    World(rank=1, size=2).wait()
    first.join(5)
    assert not first.is_alive()


def test_a_tilde_in_the_caches_variable_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", "~/somewhere")
    assert cache_root() == Path.home() / "somewhere"


def test_a_terminal_that_knows_no_arrows_gets_the_table(avbench: Command, tmp_path: Path) -> None:
    done = avbench("table", environment={"PYTHONIOENCODING": "latin-1"})  # the published rows have arrows, too
    assert done.returncode == 0, done.stderr
    assert "\\u2191" in done.stdout


def test_a_system_without_fcntl_and_resource_runs(clip_folder: Path, tmp_path: Path, test_cache: Path) -> None:
    call = (
        "import sys; sys.modules['fcntl'] = None; sys.modules['resource'] = None\n"
        f"sys.argv = ['avbench', 'run', '--tokenizer', {TOY!r}, '--split', 'folder:{clip_folder}', '--metrics', 'psnr', '--limit', '2']\n"
        "from avbench.cli.app import main\nmain()"
    )
    environment = {**os.environ, "AVBENCH_CACHE": str(test_cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be locked" in done.stderr


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_finished_run_in_a_folder_that_cannot_be_written_needs_no_lock(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    store.write_json("result.json", {"values": []})
    store.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with RunStore(tmp_path / "run").lock():
            pass
    finally:
        store.folder.chmod(stat.S_IRWXU)


def test_only_a_finished_run_is_shown_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    store = RunStore(tmp_path / "run")
    store.write_json("manifest.json", {})
    monkeypatch.setattr("avbench.run.store.alone", read_only)
    with pytest.raises(AvbenchError, match="cannot be written \\(Read-only file system\\)"), store.lock():
        pass
    monkeypatch.undo()
    store.write_json("result.json", {"values": []})
    monkeypatch.setattr("avbench.run.store.alone", read_only)
    with store.lock():
        assert store.read_result() == {"values": []}


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    go, wait = os.pipe()
    with store.lock():
        child = os.fork()
        if child == 0:
            os.read(go, 1)
            os._exit(0)
    done = threading.Event()

    def lock_again() -> None:
        with store.lock():
            done.set()

    threading.Thread(target=lock_again, daemon=True).start()
    assert done.wait(5)
    os.write(wait, b"x")
    os.waitpid(child, 0)


def test_a_bad_clip_under_torchrun_is_no_crash(clip_folder: Path, tmp_path: Path, test_cache: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "good.mp4").write_bytes((clip_folder / "circle" / "0.mp4").read_bytes())
    (clips / "bad.mp4").write_text("no video")
    arguments = ["run", "--tokenizer", TOY, "--split", f"folder:{clips}", "--metrics", "psnr", "--batch-size", "1"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "avbench", *arguments]
    environment = {**os.environ, "AVBENCH_CACHE": str(test_cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 clips failed: " in done.stderr
    assert "under torchrun the exit code is 0" in done.stderr
    assert "FAILED" not in done.stderr


def test_a_training_with_half_an_environment_of_torchrun_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    from avbench.train.loop import make_accelerator

    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="WORLD_SIZE is 4, but RANK"):
        make_accelerator("cpu")
