"""A process has one default dtype, one autocast, one number of threads, and a plugin's code may turn any of them.

`Apart` gives a plugin's code a set of its own, from call to call, so that nothing it leaves behind reaches whoever runs next; metrics run
under `fixed`.
"""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Switches:
    """What torch and numpy keep for the whole process and numbers may depend on; seeds apart."""

    default_dtype: torch.dtype = torch.float32
    default_device: str = "cpu"
    autocast: tuple[tuple[bool, torch.dtype], ...] = ((False, torch.bfloat16), (False, torch.float16))  # of cpu, cuda: on, its dtype
    matmul_precision: str = "highest"
    cudnn: tuple[bool, bool, bool] = (False, False, True)  # allow_tf32, benchmark, deterministic
    deterministic: tuple[bool, bool] = (False, False)  # use_deterministic_algorithms, and whether it only warns
    grad: bool = True
    threads: int = 1
    numpy_errors: tuple[tuple[str, str], ...] = (("divide", "warn"), ("invalid", "warn"), ("over", "warn"), ("under", "ignore"))

    @classmethod
    def now(cls) -> "Switches":
        """As they stand."""
        cudnn = torch.backends.cudnn
        return cls(
            default_dtype=torch.get_default_dtype(),
            default_device=str(torch.get_default_device()),
            autocast=tuple((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _DEVICES),
            matmul_precision=torch.get_float32_matmul_precision(),
            cudnn=(cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic),
            deterministic=(torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
            grad=torch.is_grad_enabled(),
            threads=torch.get_num_threads(),
            numpy_errors=tuple(sorted((kind, str(mode)) for kind, mode in np.geterr().items())),
        )

    def set(self) -> None:
        """Turn every switch that stands otherwise."""
        found = Switches.now()
        if found.default_dtype != self.default_dtype:
            torch.set_default_dtype(self.default_dtype)
        if found.default_device != self.default_device:
            torch.set_default_device(None if self.default_device == "cpu" else self.default_device)
        for device, before, (enabled, dtype) in zip(_DEVICES, found.autocast, self.autocast, strict=True):
            if before != (enabled, dtype):
                torch.set_autocast_enabled(device, enabled)
                torch.set_autocast_dtype(device, dtype)
                torch.clear_autocast_cache()
        if found.matmul_precision != self.matmul_precision:
            torch.set_float32_matmul_precision(self.matmul_precision)
        if found.cudnn != self.cudnn:
            cudnn = torch.backends.cudnn
            cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = self.cudnn
        if found.deterministic != self.deterministic:
            torch.use_deterministic_algorithms(self.deterministic[0], warn_only=self.deterministic[1])
        if found.grad != self.grad:
            torch.set_grad_enabled(self.grad)
        if found.threads != self.threads:
            torch.set_num_threads(self.threads)
        if found.numpy_errors != self.numpy_errors:
            np.seterr(**dict(self.numpy_errors))  # type: ignore[arg-type]

    def changed_from(self, before: "Switches") -> list[str]:
        """`default_dtype torch.float64 (was torch.float32)`, for each that differs."""
        names = [field.name for field in fields(self) if getattr(self, field.name) != getattr(before, field.name)]
        return [f"{name} {getattr(self, name)} (was {getattr(before, name)})" for name in names]


class Apart:
    """A plugin's own switches: in force inside `with apart():`, kept for its next call, and never outside."""

    def __init__(self) -> None:
        self._theirs: Switches | None = None

    def left(self, before: Switches) -> list[str]:
        """What its last call left otherwise than in `before`."""
        return [] if self._theirs is None else self._theirs.changed_from(before)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        ours = Switches.now()
        if self._theirs is not None:
            replace(self._theirs, grad=ours.grad).set()
        try:
            yield
        finally:
            self._theirs = Switches.now()
            ours.set()


@contextlib.contextmanager
def fixed() -> Iterator[None]:
    """What metrics run under: float32 and nothing less, fixed seeds, no autotuning, no gradients; whatever they leave is put back."""
    found = Switches.now()
    states = (torch.random.get_rng_state(), np.random.get_state(), random.getstate())
    try:
        Switches(threads=found.threads, grad=found.grad).set()
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        with torch.inference_mode():
            yield
    finally:
        found.set()
        torch.random.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
