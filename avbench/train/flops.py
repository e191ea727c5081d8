"""The rate at which this device multiplies matrices, and what a model asks of it: utilisation is the one against the other."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


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
