"""Several processes, one run: which batches are mine, and when everybody is done. Started by torchrun; alone it does nothing.

Processes share the run's folder. Each evaluates whole batches (batch k belongs to process k mod n), so every number is the one
that a single process computes.
"""

import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import distributed

from avbench.errors import AvbenchError, UsageError

PEER_S = 300.0  # without a pulse of a process, until the others give it up: it is frozen, or its machine is gone
PULSE_S = 5.0
_numbers = itertools.count()  # of the meetings so far


@dataclass(frozen=True, kw_only=True)
class World:
    """Which process this is: `rank` of `size`."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """True for the one process that prepares, prints and writes the result."""
        return self.rank == 0

    def mine(self, batches: Iterable[int]) -> list[int]:
        """The batches that this process evaluates."""
        return [index for index in batches if index % self.size == self.rank]

    def wait(self) -> None:
        """Return when every process has come here. Raises AvbenchError where one has not been heard of for PEER_S seconds."""
        if self.size > 1:
            try:
                self._meet(f"meeting {next(_numbers)}")
            except RuntimeError as error:  # of the store
                raise AvbenchError(f"the first process cannot be reached any more ({error}); the same command resumes") from error

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The first process runs the block alone, then the others do: they find what it has made.

        Where it raises there, the others wait until its process has ended, and then raise, too.
        """
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    def _meet(self, name: str) -> None:
        store, pause, silent, pulses = _store(), 0.02, [0.0] * self.size, [0] * self.size
        store.add(name, 1)
        while store.add(name, 0) < self.size:
            time.sleep(pause)
            for rank in range(self.size):
                pulse = store.add(f"pulse {rank}", 0)
                # Its own sleep is counted, not the clock: a job that is stopped and continued finds everybody alive.
                silent[rank] = silent[rank] + pause if pulse == pulses[rank] else 0.0
                pulses[rank] = pulse
                if silent[rank] > PEER_S:
                    raise AvbenchError(
                        f"process {rank} of {self.size} has not been heard of for {PEER_S:g} s: frozen, or its machine is gone. End the "
                        "others, too; the same command resumes"
                    )
            pause = min(1.5 * pause, 0.5)
        store.add(f"{name} left", 1)
        deadline = time.monotonic() + PULSE_S
        while self.is_main and store.add(f"{name} left", 0) < self.size and time.monotonic() < deadline:
            time.sleep(0.02)  # the others read what this process may hold


@cache
def _store() -> distributed.Store:
    """What all processes write to and read: torchrun's, or the first process's. This process's pulse beats in it from now on."""
    store, rank, _ = next(iter(distributed.rendezvous("env://")))
    shared = distributed.PrefixStore("avbench", store)
    threading.Thread(target=_beat, args=(shared, rank), daemon=True).start()
    return shared


def _beat(store: distributed.Store, rank: int) -> None:
    try:
        while True:
            store.add(f"pulse {rank}", 1)
            time.sleep(PULSE_S)
    except RuntimeError:  # the store has gone: `wait` says so
        return


def join() -> World:
    """The world that torchrun describes in the environment, and a place to meet there."""
    world = described()
    if world.size > 1:
        _store()
    return world


def alone() -> World:
    """This process only, on its own GPU."""
    return World(local_rank=described().local_rank)


def described() -> World:
    """The world that torchrun describes in the environment.

    Raises UsageError where the environment names a number of processes and not how to reach them.
    """
    try:
        size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    except ValueError as error:
        raise UsageError(f"WORLD_SIZE and RANK in the environment are no numbers ({error}); unset them, or start with torchrun") from error
    if size == 1:
        return World()
    lacking = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if lacking:
        raise UsageError(
            f"WORLD_SIZE is {size}, but {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set: unset WORLD_SIZE, or start "
            f"with torchrun --nproc-per-node {size} -m avbench ..."
        )
    return World(rank=rank, size=size, local_rank=int(os.environ.get("LOCAL_RANK", "0")))


def pick_device(name: str, world: World) -> torch.device:
    """ "auto": this process's GPU if there is one, else the CPU; else "cpu", "cuda" or "cuda:1". Raises UsageError for what is not here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", world.local_rank % torch.cuda.device_count())
        return torch.device("cpu")
    try:
        device: torch.device | None = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: avbench runs on cpu and cuda (cuda:1 is the second GPU); auto takes a GPU where there is one")
    if device.type == "cuda" and not torch.cuda.is_available():
        built = f"torch {torch.__version__} sees no GPU here" if torch.version.cuda else f"torch {torch.__version__} is built without CUDA"
        raise UsageError(f"--device {name}: {built}; --device cpu works everywhere")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: this machine has {torch.cuda.device_count()} GPU(s), counted from cuda:0")
    return device
