"""A run of so many seconds instead of so many clips: for a machine that is lent for a while.

Each stage gets its share of the seconds that are left when it begins, and its learning rate falls to the end within them, however many
clips that turns out to be. Such a run depends on the machine's speed, so it cannot be repeated to the bit, nor resumed: what it exported
can be begun with (`init`).

Below: the rate at which this device multiplies matrices, and what a model asks of it. Utilisation is the one against the other.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, kw_only=True)
class Budget:
    """seconds: of training, from the first step on. shares: of the stages, in any unit; None: as their operations are."""

    seconds: float
    shares: tuple[float, ...] | None = None


class Clock:
    """What is over of the run and of the stage at work, both in [0, 1]."""

    def __init__(self, seconds: float, shares: tuple[float, ...]) -> None:
        self.shares = shares
        self.begin = time.monotonic()
        self.end = self.begin + seconds
        self.stage_begin = self.stage_end = self.begin

    def begin_stage(self, stage: int) -> None:
        """From now on, the stage's share of what is left of the run."""
        self.stage_begin = time.monotonic()
        left = max(0.0, self.end - self.stage_begin)
        self.stage_end = self.stage_begin + left * self.shares[stage] / sum(self.shares[stage:])

    @property
    def run(self) -> float:
        """Share of the run."""
        return _share(self.begin, self.end)

    @property
    def stage(self) -> float:
        """Share of the stage."""
        return _share(self.stage_begin, self.stage_end)


def _share(begin: float, end: float) -> float:
    return 1.0 if end <= begin else min(1.0, (time.monotonic() - begin) / (end - begin))


def counted(forward: Callable[[], torch.Tensor]) -> float:
    """Multiplications and additions of matrix products and convolutions in `forward` and in the backward pass from its sum."""
    with FlopCounterMode(display=False) as counter:
        forward().sum().backward()
    return float(counter.get_total_flops())


@torch.no_grad()
def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product on this device with the threads of this process: what utilisation is measured against."""
    size, repeats = (8192, 20) if device.type == "cuda" else (1024, 10)
    a = torch.randn(size, size, device=device, dtype=dtype)
    for _ in range(3):
        a @ a
    _wait(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        a @ a
    _wait(device)
    return repeats * 2 * size**3 / (time.perf_counter() - begin)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
