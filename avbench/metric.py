"""What a metric is: it turns each clip into a row, its value is a function of the rows, and its interval resamples the rows.

A per-clip metric (PSNR) gives one number a clip and its value is their mean. A distribution metric (FVD) gives the features of
reference and reconstruction as the row and computes the distance in the end; the two sets need not be of one size.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from avbench.errors import AvbenchError
from avbench.types import ClipBatch, Tokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RECONSTRUCTION = frozenset({"reconstruct"})
GENERATION = frozenset({"a2v", "v2a", "av"})
SETS = {
    "speech": "what speech codecs are judged by",
    "perceptual": "likeness as people see and hear it, clip by clip",
    "v2a": "what video-to-audio generators are judged by",
    "distribution": "how far two sets of clips are apart",
    "all": "every metric that is made for the task",
}  # `--metrics` takes these beside names; every metric is in "all"
_AS_MANY = "generated against the split's real clips, as many of each; "


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """Name, direction and protocol of a metric. Rows whose protocols differ are never ranked together."""

    name: str
    unit: str
    higher_is_better: bool | None  # None: neither, a fact (bits/s)
    needs: frozenset[str]  # of {"video", "audio"}: what reference and reconstruction must have; "tokens": what was encoded
    protocol: str  # backbone, weights' sha256, resize, padding, caps: everything that changes the number
    min_clips: int = 1  # fewer and the value is n/a
    version: int = 1  # raise it when the rows or the value change though `protocol` says the same
    tasks: frozenset[str] = RECONSTRUCTION  # whose runs it is made for
    default: bool = True  # part of a run of these tasks that names no metrics; False: a slower or near-duplicate variant
    sets: frozenset[str] = frozenset()  # of SETS: what `--metrics SET` measures; no part of a run's identity
    best_is_reference: bool = False  # the best value is that of the real clips themselves: rows are ranked by their distance to it
    additive: bool = False  # `compute` looks at nothing but the sum of the rows: they are added up as they come, and kept sparse
    per_clip: bool = False  # rows are one number a clip and the value is their mean: its interval is the bootstrap's
    resampled: bool = False  # rows are (B, 1) and the value is another function of them than the mean (a median): bootstrap too
    distribution: bool = False  # rows are features of both sides, and the value is a distance of two sets: a `DistributionMetric`
    paired: bool = True  # False: a row has one side alone; of the metric as a run of two sets measures it
    tolerance: float = 1e-3  # how far from a stored number the same clips' may be: relative, absolute below 1 (docs/trust.md)
    weights: tuple[str, ...] = ()  # of the catalog (`avbench list weights`): what the constructor raises MetricUnavailable without
    extra: str = ""  # of pyproject.toml, likewise
    modules: tuple[str, ...] = ()  # of the extra's, those that are imported; none: all
    memory_bytes: int = 0  # of a large network that the object holds: such metrics take turns where memory is short


def check_info(info: MetricInfo) -> None:
    """Raises AvbenchError for facts that a result could not hold, or a table not rank by."""
    texts = {"name": info.name, "unit": info.unit, "protocol": info.protocol}
    for key, text in texts.items():
        if not isinstance(text, str) or not text.isprintable() or (key == "name" and not text):
            raise AvbenchError(f"metric's info.{key} is {text!r}; one line of printable text is needed")
    for key, flag in {
        "higher_is_better": info.higher_is_better,
        "best_is_reference": info.best_is_reference,
        "per_clip": info.per_clip,
        "resampled": info.resampled,
        "distribution": info.distribution,
    }.items():
        if flag not in (True, False) and not (flag is None and key == "higher_is_better"):
            raise AvbenchError(f"metric {info.name}: info.{key} is {flag!r}; True or False is needed")
    for key, count in {"min_clips": info.min_clips, "version": info.version}.items():
        if type(count) is not int or count < 1:
            raise AvbenchError(f"metric {info.name}: info.{key} is {count!r}; an int of 1 or more is needed")
    if type(info.tolerance) not in (int, float) or not 0 <= info.tolerance < 1:
        raise AvbenchError(f"metric {info.name}: info.tolerance is {info.tolerance!r}; a number from 0 to below 1 is needed")
    for key, names in {"needs": info.needs, "tasks": info.tasks, "sets": info.sets}.items():
        if not isinstance(names, frozenset | set):
            raise AvbenchError(f"metric {info.name}: info.{key} is {names!r}; a frozenset of names is needed")
    if not info.sets <= SETS.keys():
        raise AvbenchError(f"metric {info.name}: info.sets is {sorted(info.sets)}; known: {', '.join(SETS)}")
    if info.name in SETS:
        raise AvbenchError(f"metric {info.name} is named as a set of metrics is; another name is needed")


def of_generated(info: MetricInfo, *, sets: frozenset[str] = frozenset()) -> MetricInfo:
    """The same distance, called "g...", between the real clips of a split and as many generated ones. sets: as `MetricInfo` has them."""
    return replace(info, name=f"g{info.name}", protocol=f"{_AS_MANY}{info.protocol}", tasks=GENERATION, sets=sets)


def of_sets(info: MetricInfo, num_references: int, num_outputs: int) -> MetricInfo:
    """The same distance between two sets of so many clips."""
    rest = info.protocol.removeprefix(_AS_MANY)
    return replace(info, protocol=f"unpaired: {num_outputs:,} outputs against {num_references:,} references; {rest}", paired=False)


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """What a metric's constructor gets, if it takes an argument.

    cache: folder for features of the reference clips, unique to split checksum and protocol; None: keep nothing.
    classes: labels of the split's clips; None where the clips are not known yet.
    entropy_coded: `TokenizerInfo.entropy_coded` of the row.
    """

    device: torch.device = field(default_factory=_cpu)
    cache: Path | None = None
    classes: frozenset[str] | None = None
    entropy_coded: frozenset[str] = frozenset()


@runtime_checkable
class Metric(Protocol):
    """A metric plugin. Raise `MetricUnavailable` in the constructor where weights or an extra are missing.

    `info` stands on the class, so that a run knows whose default it is before anything is loaded; a constructor may refine its protocol.
    """

    info: MetricInfo

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows of these clips: (B,) float for a per-clip metric, (B, ...) for features. NaN in a (B,) row: no value for this clip."""
        ...

    def compute(self, rows: np.ndarray) -> float:
        """The metric's value over rows (N, ...), as `update` gave them, in the order of the split."""
        ...


class MetricUnavailable(Exception):
    """The metric cannot run here; the text says why and gives the command that mends it. Shown as "n/a"."""


class PerClipMetric:
    """Base of metrics whose value is the mean of one number a clip (clips without a value, NaN, left out); info says per_clip=True."""

    def compute(self, rows: np.ndarray) -> float:
        return float(np.nanmean(rows)) if np.isfinite(rows).any() else float("nan")


class DistributionMetric:
    """Base of distances between two sets of clips (FVD, FAD); info says distribution=True.

    Rows (B, 2, ...): features of the reference, features of what was made. A side of a row that is not all numbers is not there, so that
    the sets may be of different sizes.
    """

    info: MetricInfo

    def features(self, clips: ClipBatch, *, reference: bool) -> Tensor:
        """(B, ...) on the CPU. reference: clips of a split, named by `ids`, whose features may be kept (`MetricOptions.cache`)."""
        raise NotImplementedError

    def distance(self, reference: np.ndarray, recon: np.ndarray) -> float:
        """Between features (N, ...) and (M, ...)."""
        raise NotImplementedError

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        import torch

        return torch.stack([self.features(reference, reference=True), self.features(recon, reference=False)], dim=1)

    def compute(self, rows: np.ndarray) -> float:
        there = sides(rows)
        return self.distance(rows[there[:, 0], 0], rows[there[:, 1], 1])


def sides(rows: np.ndarray) -> np.ndarray:
    """(N, 2) True where a side of a distribution metric's rows (N, 2, ...) is all numbers."""
    return np.asarray(np.isfinite(rows.reshape(len(rows), 2, -1)).all(axis=2))
