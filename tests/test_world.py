"""What several processes wait for, tried with two."""

import socket
import time
from pathlib import Path

import pytest
import torch

from avbench import world as worlds
from avbench.world import World


def _process(rank: int, port: int, folder: Path) -> None:
    facts = {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in facts.items():
            patch.setenv(name, value)
        world = worlds.join()
    with (folder / "log").open("a", buffering=1) as log:
        for step in ("first", "second"):
            with world.main_first():
                if world.is_main:
                    time.sleep(0.5)
                log.write(f"{step} {rank}\n")
            world.wait()
        with world.main_first():
            if world.is_main:
                raise SystemExit("the first process fails")
            log.write("the other goes on\n")


@pytest.mark.slow
def test_the_first_process_runs_a_block_before_the_others_and_its_failure_stops_them(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=_process, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert (tmp_path / "log").read_text().splitlines() == ["first 0", "first 1", "second 0", "second 1"]
    assert [process.exitcode for process in processes] == [1, 1]


def test_alone_nobody_is_waited_for() -> None:
    with World().main_first():
        World().wait()
