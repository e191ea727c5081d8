"""Every metric's rows of a batch of reconstructions. What a metric raises costs the clip it raised on, and is written down."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from avbench.contain import plugin_code
from avbench.errors import AvbenchError
from avbench.metric import Metric, MetricUnavailable
from avbench.run.passage import Reconstruction, total
from avbench.run.store import BatchResult, ClipRow
from avbench.run.worker import peak_memory_mb
from avbench.switches import fixed
from avbench.types import ClipFailure


def measure_batch(
    metrics: Mapping[str, Metric],
    reconstructions: Sequence[Reconstruction],
    failures: Sequence[ClipFailure],
    *,
    index: int,
    ids: Sequence[str],
    device: torch.device,
) -> BatchResult:
    """Rows (in the order of `ids`), features and timings of batch number `index`."""
    measured = [_measure(metrics, clips) for clips in reconstructions]
    return BatchResult(
        index=index,
        rows=_in_order(ids, [row for part in measured for row in part.rows], failures),
        features=_joined([(part.features, len(part.rows)) for part in measured]),
        seconds=total([part.seconds for part in measured]),
        peak_memory_mb=max([peak_memory_mb(device), *(clips.peak_memory_mb for clips in reconstructions)]),
    )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    rows: list[ClipRow]
    features: dict[str, np.ndarray]
    seconds: dict[str, float]


def _measure(metrics: Mapping[str, Metric], clips: Reconstruction) -> _Measured:
    values: list[dict[str, float | None]] = [{} for _ in clips.reference.ids]
    errors: list[dict[str, str]] = [{} for _ in clips.reference.ids]
    features: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    foreign = {name for name, metric in metrics.items() if not type(metric).__module__.startswith("avbench.")}
    given = clips.copy() if foreign else clips
    for name, metric in metrics.items():
        started = time.perf_counter()
        rows, reasons = _update(metric, given, clips)
        # Metrics share what they get, and features of it, until one writes into it. Comparing takes as long as PSNR, and a copy of ten
        # seconds at 256x256 is 0.8 GB, so only a plugin's are looked at; tests/run/test_measure.py has every one of ours leave its clips
        # as they were.
        if name in foreign and not given.same_as(clips):
            given = clips.copy()
        if rows is None or rows.ndim == 1:
            for clip, row in enumerate(values):
                row[name] = float(rows[clip]) if rows is not None and np.isfinite(rows[clip]) else None
        else:
            features[name] = rows
        for clip, reason in reasons.items():
            errors[clip][name] = reason
        seconds[f"metric {name}"] = time.perf_counter() - started
    facts = zip(clips.reference.ids, clips.reference.labels, values, errors, strict=True)
    rows_out = [ClipRow(id=i, label=label, status="ok", metrics=v, errors=e) for i, label, v, e in facts]
    return _Measured(rows=rows_out, features=features, seconds=seconds)


def _update(metric: Metric, given: Reconstruction, clips: Reconstruction) -> tuple[np.ndarray | None, dict[int, str]]:
    """A metric's rows (B, ...), NaN for clips on which it raised, and the reasons; None where it raised on all.

    given: what it gets, `clips` that may be written into.
    """
    try:
        return _rows(metric, given), {}
    except (AvbenchError, MetricUnavailable) as error:
        if len(clips.reference) == 1:
            return None, {0: str(error)[:300]}
    singles = [clips.select(clip) for clip in range(len(clips.reference))]
    alone = [_update(metric, single.copy(), single) for single in singles]
    shape = next((rows.shape for rows, _ in alone if rows is not None), None)
    reasons = {clip: reason[0] for clip, (_, reason) in enumerate(alone) if reason}
    if shape is None:
        return None, reasons
    return np.concatenate([np.full(shape, np.nan) if rows is None else rows for rows, _ in alone]), reasons


def _rows(metric: Metric, clips: Reconstruction) -> np.ndarray:
    with plugin_code("", MetricUnavailable), fixed():
        array = metric.update(clips.reference, clips.recon, clips.tokens).detach().float().cpu().numpy()
        if array.ndim == 0 or array.shape[0] != len(clips.reference):
            raise ValueError(f"{metric.info.name} gave rows of shape {array.shape} for {len(clips.reference)} clips")
        return array


def _joined(parts: list[tuple[dict[str, np.ndarray], int]]) -> dict[str, np.ndarray]:
    """Features of a batch that was reconstructed in pieces: a metric without rows in one piece has NaN rows there."""
    shapes = {name: rows.shape[1:] for features, _ in parts for name, rows in features.items()}
    return {
        name: np.concatenate([f[name] if name in f else np.full((count, *shape), np.nan, np.float32) for f, count in parts])
        for name, shape in shapes.items()
    }


def _in_order(ids: Sequence[str], rows: list[ClipRow], failures: Sequence[ClipFailure]) -> tuple[ClipRow, ...]:
    found = {row.id: row for row in rows}
    found |= {f.id: ClipRow(id=f.id, label=f.label, status="failed", reason=f.reason) for f in failures}
    return tuple(found[clip_id] for clip_id in ids)
