"""Rows that are nearly all zeros: the same numbers in less memory, on disk and off it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from avbench import sparse, stats
from avbench.board.clips import RunClips
from avbench.errors import AvbenchError
from avbench.metric import MetricOptions
from avbench.registry import load_metric
from avbench.run import summary
from avbench.run.store import BatchResult, ClipRow, RunStore


def histograms(num_clips: int, entries: int = 4096, codes: int = 50) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([np.bincount(rng.integers(entries, size=codes) ** 2 // entries, minlength=entries) for _ in range(num_clips)]).astype(
        np.float32
    )


def saved(folder: Path, rows: np.ndarray, batch_size: int = 8) -> RunStore:
    store = RunStore(folder)
    for index, start in enumerate(range(0, len(rows), batch_size)):
        clips = tuple(ClipRow(id=f"{clip:04d}", label=None, status="ok") for clip in range(start, min(start + batch_size, len(rows))))
        features = {"codebook_perplexity": rows[start : start + batch_size]}
        store.save(BatchResult(index=index, rows=clips, features=features, seconds={}, peak_memory_mb=0.0))
    return store


def test_rows_are_kept_sparse_where_that_is_smaller_and_are_the_same_numbers() -> None:
    rows = histograms(20)
    kept = sparse.compact(rows)
    assert isinstance(kept, csr_array)
    np.testing.assert_array_equal(sparse.dense(kept), rows)
    assert isinstance(sparse.compact(np.ones((4, 100))), np.ndarray)
    assert isinstance(sparse.compact(np.zeros((4, 2, 100))), np.ndarray)
    np.testing.assert_array_equal(sparse.total(kept)[0], rows.sum(axis=0))


def test_value_and_interval_are_those_of_the_plain_rows(tmp_path: Path) -> None:
    rows = histograms(60)
    rows[7] = np.nan  # the metric failed there
    metric = load_metric("codebook_perplexity", MetricOptions())
    parts = list(summary.gather(saved(tmp_path / "run", rows)))
    found = summary._rows_of("codebook_perplexity", parts)
    assert isinstance(found, csr_array)
    np.testing.assert_array_equal(sparse.present(found), np.isfinite(rows).all(axis=1))
    plain = np.delete(rows, 7, axis=0)
    kept = np.flatnonzero(sparse.present(found))
    compute = lambda clips: metric.compute(sparse.total(found[clips]))  # noqa: E731
    assert compute(kept) == metric.compute(plain)
    assert stats.jackknife_interval(compute, kept) == stats.jackknife_interval(metric.compute, plain)


def test_features_come_back_from_disk_by_clip(tmp_path: Path) -> None:
    rows = histograms(12)
    store = saved(tmp_path / "run", rows)
    store.write_clips()
    store.write_features({"codebook_perplexity": sparse.compact(rows), "fvd": np.ones((12, 2, 3), np.float32)})
    clips = RunClips.read(store.folder)
    assert clips.feature_names == {"codebook_perplexity", "fvd"}
    np.testing.assert_array_equal(sparse.dense(clips.features("codebook_perplexity", ["0003", "0011"])), rows[[3, 11]])
    assert clips.features("fvd", ["0001"]).shape == (1, 2, 3)


@pytest.mark.parametrize("change", [{"indices": 10**6}, {"indptr": -1}, {"shape": 5}, {"data": "short"}])
def test_parts_that_do_not_fit_each_other_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    rows = histograms(12)
    store = saved(tmp_path / "run", rows)
    store.write_clips()
    arrays = sparse.arrays_of({"codebook_perplexity": sparse.compact(rows)})
    for part, what in change.items():
        name = f"codebook_perplexity~{part}"
        arrays[name] = arrays[name][:-1] if what == "short" else arrays[name].copy()
        if what != "short":
            arrays[name][-1 if part == "indptr" else 0] = what
    np.savez_compressed(store.folder / "features.npz", **arrays)
    with pytest.raises(AvbenchError, match="cannot be read"):
        RunClips.read(store.folder).features("codebook_perplexity", ["0001"])


def test_peak_memory_is_looked_at_when_all_is_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    part = BatchResult(index=0, rows=(), features={}, seconds={}, peak_memory_mb=100.0)
    split = SimpleNamespace(protocol=SimpleNamespace(duration_s=4.0))
    task = SimpleNamespace(info=SimpleNamespace(parameters=0))
    context = SimpleNamespace(device=torch.device("cpu"), spec=SimpleNamespace(batch_size=8, outputs=None), split=split, task=task)
    monkeypatch.setattr(summary, "peak_memory_mb", lambda device: 5000.0)
    costs = {value.name: value.value for value in summary._cost(context, [part])}  # type: ignore[arg-type]
    assert costs["peak_memory_mb"] == 5000.0
