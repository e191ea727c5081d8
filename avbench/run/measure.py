"""One batch: reconstruct it and ask every metric for its rows. What fails costs the clip it fails on, and is written down."""

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from avbench.data.splits import Batch
from avbench.metric import Metric, MetricUnavailable
from avbench.run.reconstruct import Reconstruction, reconstruct
from avbench.run.store import BatchResult, ClipRow
from avbench.tokenizer import Tokenizer
from avbench.types import ClipFailure


def measure_batch(
    tokenizer: Tokenizer, metrics: Mapping[str, Metric], batch: Batch, ids: Sequence[str], device: torch.device, seed: int
) -> tuple[BatchResult, list[Reconstruction]]:
    """Rows (in the order of `ids`), features and timings of `batch`, and its reconstructions (for samples)."""
    torch.manual_seed(seed * 1_000_003 + batch.index)
    started = time.perf_counter()
    reconstructions: list[Reconstruction] = []
    failures = list(batch.failures)
    if batch.clips is not None:
        reconstructions, failed = reconstruct(tokenizer, batch.clips.to(device))
        failures += failed
    measured = [_measure(metrics, clips) for clips in reconstructions]
    seconds = _add([clips.seconds for clips in reconstructions] + [part.seconds for part in measured])
    seconds["total"] = time.perf_counter() - started
    result = BatchResult(
        index=batch.index,
        rows=_in_order(ids, [row for part in measured for row in part.rows], failures),
        features=_joined([(part.features, len(part.rows)) for part in measured]),
        seconds=seconds,
        peak_memory_mb=peak_memory_mb(device),
    )
    return result, reconstructions


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
    for name, metric in metrics.items():
        started = time.perf_counter()
        rows, reasons = _update(metric, clips)
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


def _update(metric: Metric, clips: Reconstruction) -> tuple[np.ndarray | None, dict[int, str]]:
    """A metric's rows (B, ...), NaN for clips on which it raised, and the reasons; None where it raised on all."""
    try:
        return _rows(metric, clips), {}
    except Exception as error:
        if len(clips.reference) == 1:
            text = str(error) if isinstance(error, MetricUnavailable) else f"{type(error).__name__}: {error}"
            return None, {0: text[:300]}
    alone = [_update(metric, clips.select(clip)) for clip in range(len(clips.reference))]
    shape = next((rows.shape for rows, _ in alone if rows is not None), None)
    reasons = {clip: reason[0] for clip, (_, reason) in enumerate(alone) if reason}
    if shape is None:
        return None, reasons
    return np.concatenate([np.full(shape, np.nan) if rows is None else rows for rows, _ in alone]), reasons


def _rows(metric: Metric, clips: Reconstruction) -> np.ndarray:
    with torch.inference_mode():
        rows = metric.update(clips.reference, clips.recon, clips.tokens)
    array = rows.detach().float().cpu().numpy()
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


def _in_order(ids: Sequence[str], rows: list[ClipRow], failures: list[ClipFailure]) -> tuple[ClipRow, ...]:
    found = {row.id: row for row in rows}
    found |= {f.id: ClipRow(id=f.id, label=f.label, status="failed", reason=f.reason) for f in failures}
    return tuple(found[clip_id] for clip_id in ids)


def _add(parts: list[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for stage, value in part.items():
            total[stage] = total.get(stage, 0.0) + value
    return total


def peak_memory_mb(device: torch.device) -> float:
    """Most memory this process has held so far, in MB: of the GPU on a CUDA device, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
