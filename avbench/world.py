"""Several processes, one run: which batches are mine, and when everybody is done. Started by torchrun; alone it does nothing.

Processes share the run's folder. Each evaluates whole batches (batch k belongs to process k mod n), so every number is the one
that a single process computes.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed


@dataclass(frozen=True, kw_only=True)
class World:
    """This process's place: `rank` of `size`."""

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
        """Return when every process has come here."""
        if self.size > 1:
            distributed.barrier()


def join() -> World:
    """The world that torchrun describes in the environment; joins its process group (gloo: only barriers go through it)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=timedelta(days=1))
    return World(rank=int(os.environ["RANK"]), size=size, local_rank=int(os.environ.get("LOCAL_RANK", "0")))


def pick_device(name: str, world: World) -> torch.device:
    """ "auto": this process's GPU if there is one, else the CPU; anything else as torch names it. Raises RuntimeError for a bad name."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", world.local_rank % torch.cuda.device_count())
    return torch.device("cpu")
