"""The metrics of a run: all loaded at the start, so that what cannot be had is known before any compute.

Where the networks that they hold (`MetricInfo.memory_bytes`) do not fit into memory together, metrics take turns: those of a turn are in
memory at once, and the bytes that were kept are decoded again for each turn. All together then need no more than the largest.
"""

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from avbench import registry
from avbench.errors import AvbenchError
from avbench.metric import Metric, MetricInfo, MetricOptions, MetricUnavailable, PerClipMetric
from avbench.run import identity
from avbench.switches import fixed
from avbench.task import Task

SHARE = 0.5  # of the free memory that networks may take; the rest is for clips, activations, and a file while it is read


class Metrics(Mapping[str, Metric]):
    """Name -> metric, loaded again where it had to go. Whoever keeps what this gave keeps it in memory.

    infos, row_keys (`identity.metric_key`) and unavailable (name -> why it is n/a) are known without any of them.
    """

    def __init__(self, names: Iterable[str], task: Task, options: MetricOptions, *, limit: int | None = None) -> None:
        """limit: bytes that networks may take; None: SHARE of what is free now."""
        self.task, self.options = task, replace(options, entropy_coded=task.info.entropy_coded)
        self.limit = int(SHARE * free_bytes(options.device)) if limit is None else limit
        self.infos: dict[str, MetricInfo] = {}
        self.row_keys: dict[str, str] = {}
        self.unavailable: dict[str, str] = {}
        self._held: dict[str, Metric] = {}  # the one used last at the end
        for name in names:
            name = name.replace("-", "_")
            try:
                info = registry.metric_info(name)
                reason = task.missing(info)
                if reason is None:
                    self._load(name, info)
                else:
                    self.unavailable[name] = reason
            except (MetricUnavailable, AvbenchError) as error:
                self.unavailable[name] = str(error)

    def __getitem__(self, name: str) -> Metric:
        if name not in self._held:
            return self._load(name, self.infos[name])
        self._held[name] = self._held.pop(name)
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    def compute(self, name: str) -> Callable[[np.ndarray], float]:
        """The metric's `compute`. Of one whose value is the mean, and which has gone, without loading it."""
        absent = name not in self._held
        return PerClipMetric().compute if absent and self.infos[name].per_clip else self[name].compute

    @property
    def turns(self) -> tuple[frozenset[str], ...]:
        """Names that are in memory at once: a single turn where all fit. What is in memory now comes first."""
        heavy = sorted((name for name, info in self.infos.items() if info.memory_bytes), key=lambda name: name not in self._held)
        groups = [[name for name in self.infos if name not in heavy]]
        for name in heavy:
            if self._bytes([*groups[-1], name]) > self.limit and self._bytes(groups[-1]):
                groups.append([])
            groups[-1].append(name)
        return tuple(frozenset(group) for group in groups)

    def _load(self, name: str, declared: MetricInfo) -> Metric:
        """The metric, in memory from now on; those not used for longest go where all do not fit."""
        heavy = [held for held in self._held if self.infos[held].memory_bytes]
        while heavy and declared.memory_bytes and declared.memory_bytes + self._bytes(heavy) > self.limit:
            del self._held[heavy.pop(0)]
            gc.collect()  # a network may be a ring of objects
        with fixed():
            loaded = registry.load_metric(name, self.options)
        metric = self.task.measured_by(loaded)
        self._held[name], self.infos[name], self.row_keys[name] = metric, metric.info, identity.metric_key(loaded)
        return metric

    def _bytes(self, names: Iterable[str]) -> int:
        return sum(self.infos[name].memory_bytes for name in names)


def free_bytes(device: torch.device) -> int:
    """Memory that can be had now: of the GPU on a CUDA device, else this process's part of what the machine, or its container, has left."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    left = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_machine(), *_container()]
    return min(left) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _machine() -> Iterator[int]:
    """Linux: what programs can have without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return
    yield from (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _container() -> Iterator[int]:
    """A control group's limit less what it holds beside files' pages, where there is one."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, held = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        pages = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        yield limit - held + int(pages["inactive_file"])
    except (OSError, ValueError, KeyError):  # no group, or no limit ("max")
        return
