"""Rows of all clips -> result.json: each metric's value with its interval, what the run cost, and what failed."""

import datetime
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from avbench import sparse, stats
from avbench.contain import plugin_code
from avbench.data.splits import Split
from avbench.errors import AvbenchError
from avbench.metric import MetricInfo, sides
from avbench.run.context import Context
from avbench.run.store import BatchResult, ClipRow, RunStore
from avbench.run.worker import peak_memory_mb
from avbench.sparse import Rows
from avbench.switches import fixed
from avbench.types import MetricValue

MAX_REASONS = 10  # of failed clips, in a result


def holds(result: dict[str, Any], context: Context) -> bool:
    """Whether a finished run's result names every metric of `context`. (That its rows are all there is for the caller to know.)"""
    names = {value.get("name") for value in result["values"]}
    return {*context.metrics, *context.metrics.unavailable} <= names and result.get("intervals") == stats.VERSION


def summarise(context: Context, store: RunStore, earlier: dict[str, Any] | None = None) -> dict[str, Any]:
    """The content of result.json; leaves features.npz beside it.

    earlier: the result before this call; its values of metrics that were not asked for now stay while all rows behind them do.
    """
    parts = list(gather(store))
    rows = [row for part in parts for row in part.rows]
    num_failed = sum(row.status == "failed" for row in rows)
    features: dict[str, Rows] = {}
    values: list[dict[str, Any]] = []
    for name, info in context.metrics.infos.items():
        data = _rows_of(name, parts)
        value = _value(info, context.metrics.compute(name), data, parts, context.spec.seed)
        values.append({**asdict(value), **_facts(info, context.metrics.row_keys[name])})
        if data.ndim > 1:
            features[name] = data
    values += [asdict(MetricValue(name=name, value=None, reason=reason)) for name, reason in context.metrics.unavailable.items()]
    stay = _staying(earlier, parts, known={value["name"] for value in values})
    features |= {value["name"]: data for value in stay if (data := _rows_of(value["name"], parts)).ndim > 1}
    store.write_features(features)
    tokenizer = context.task.info
    return {
        "run_id": store.folder.name,
        "spec": context.spec.facts(),
        "tokenizer": tokenizer.facts(),
        "checkpoint_sha256": context.facts["tokenizer"]["checkpoint"],
        "split": split_facts(context.split),
        "protocol": str(context.split.protocol),
        "num_clips": len(rows),
        "num_ok": len(rows) - num_failed,
        "num_failed": num_failed,
        "failures": _reasons(rows),
        "intervals": stats.VERSION,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "values": sorted([*values, *stay], key=lambda value: str(value["name"])) if stay else values,
        "cost": [asdict(value) for value in _cost(context, parts)],
        "seconds": _seconds(parts),
    }


def _reasons(rows: list[ClipRow]) -> dict[str, int]:
    """Why clips failed -> how many, the most frequent first; from MAX_REASONS on, the rest together."""
    counted = Counter(row.reason or "no reason given" for row in rows if row.status == "failed").most_common()
    shown, rest = counted[:MAX_REASONS], counted[MAX_REASONS:]
    return dict(shown) | ({f"{len(rest)} other reasons (clips.jsonl)": sum(count for _, count in rest)} if rest else {})


def _facts(info: MetricInfo, key: str) -> dict[str, Any]:
    """Unit and direction, so that a table can rank a metric that it has never heard of, and the key that `_staying` looks at."""
    return {
        "unit": info.unit,
        "higher_is_better": info.higher_is_better,
        "best_is_reference": info.best_is_reference,
        "version": info.version,
        "key": key,
    }


def _staying(earlier: dict[str, Any] | None, parts: list[BatchResult], known: set[str]) -> list[dict[str, Any]]:
    """Earlier values whose rows every part still holds, made by the same key, and earlier reasons why there is none."""
    found = []
    for value in earlier["values"] if earlier else ():
        keys = {part.measured.get(value["name"]) for part in parts}
        if value["name"] not in known and (keys == {value.get("key")} or (value["value"] is None and keys == {None})):
            found.append(value)
    return found


def split_facts(split: Split) -> dict[str, Any]:
    """What a result says of its split."""
    return {
        "name": split.name,
        "checksum": split.checksum,
        "num_clips": len(split.clips),
        "num_official": split.num_official,
        "note": split.note,
    }


def gather(store: RunStore) -> Iterator[BatchResult]:
    """The batches on disk, their features as small as they can be: all of them are needed at once."""
    for part in store.load():
        yield replace(part, features={name: sparse.compact(sparse.dense(rows)) for name, rows in part.features.items()})


def _rows_of(name: str, parts: list[BatchResult]) -> Rows:
    """A metric's rows (number of ok clips, ...) in the split's order, NaN where it gave none."""
    shape = next((part.features[name].shape[1:] for part in parts if name in part.features), ())
    pieces = [_piece(name, part, shape) for part in parts]
    return sparse.joined(pieces) if pieces else np.empty((0, *shape))


def _piece(name: str, part: BatchResult, shape: tuple[int, ...]) -> Rows:
    ok = [row for row in part.rows if row.status == "ok"]
    if name in part.features:
        return part.features[name]
    if shape:
        return np.full((len(ok), *shape), np.nan)
    return np.array([np.nan if row.metrics.get(name) is None else row.metrics[name] for row in ok], dtype=np.float64)


def _value(info: MetricInfo, compute: Callable[[np.ndarray], float], rows: Rows, parts: list[BatchResult], seed: int) -> MetricValue:
    usable, num_rows, sets = sparse.present(rows), rows.shape[0], None
    if not info.paired and rows.ndim > 2:
        there = sides(sparse.dense(rows))
        usable, sets = np.asarray(there.any(axis=1)), there[:, 0]
    errors = Counter(row.errors[info.name] for part in parts for row in part.rows if info.name in row.errors)
    blank = MetricValue(name=info.name, value=None, num_clips=int(usable.sum()), num_failed=sum(errors.values()), protocol=info.protocol)
    reason = errors.most_common(1)[0][0] if errors else None
    if reason and blank.num_failed < num_rows:
        reason = f"{blank.num_failed} of {num_rows} clips: {reason}"
    if blank.num_clips < info.min_clips:
        return replace(blank, reason=reason or f"needs {info.min_clips} clips, has {blank.num_clips}")
    if sets is not None and min(smaller := (int(sets.sum()), int((usable & ~sets).sum()))) < info.min_clips:
        needed = f"needs {info.min_clips} references and as many outputs, has {smaller[0]} and {smaller[1]}"
        return replace(blank, reason=reason or needed)

    try:
        with plugin_code("compute failed"), fixed():
            kept = np.flatnonzero(usable)
            value, low, high = stats.estimate(
                compute,
                rows[kept],
                per_clip=info.per_clip,
                resampled=info.resampled,
                additive=info.additive,
                seed=seed,
                sets=None if sets is None else sets[kept],
            )
    except AvbenchError as error:  # the other metrics stand
        return replace(blank, reason=str(error))
    if not np.isfinite(value):
        return replace(blank, reason=reason or "the value is not a finite number")
    return replace(blank, value=value, ci_low=low, ci_high=high, reason=reason)


def _cost(context: Context, parts: list[BatchResult]) -> Iterator[MetricValue]:
    """Facts about speed and size. Timings differ from run to run, so they stand apart from the metrics."""
    if context.spec.outputs is not None:
        yield from (MetricValue(name=name, value=None, reason="made elsewhere") for name in ("encode_rtf", "decode_rtf", "parameters"))
        return
    hardware = f"{context.device.type}, batch {context.spec.batch_size}"
    for stage in ("encode", "decode"):
        protocol = f"seconds of {stage} per second of clip, median over batches; {hardware}"
        yield MetricValue(name=f"{stage}_rtf", **_rtf(stage, parts, context.split.protocol.duration_s), protocol=protocol)
    yield MetricValue(name="parameters", value=float(context.task.info.parameters), protocol="used for encode and decode")
    peak = max([peak_memory_mb(context.device), *(part.peak_memory_mb for part in parts)])  # this process's: with all that came before
    kind = "GPU memory" if context.device.type == "cuda" else "resident memory"
    yield MetricValue(
        name="peak_memory_mb", value=peak, protocol=f"most {kind} of a process of the whole run, metrics included; {hardware}"
    )


def _rtf(stage: str, parts: list[BatchResult], duration_s: float) -> dict[str, Any]:
    ok = [(part, sum(row.status == "ok" for row in part.rows)) for part in parts]
    ratios = [part.seconds[stage] / (count * duration_s) for part, count in ok if count and stage in part.seconds]
    if not ratios:
        return {"value": None, "reason": "no clip succeeded"}
    return {"value": float(np.median(ratios)), "num_clips": sum(count for _, count in ok)}


def _seconds(parts: list[BatchResult]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part.seconds)
    return {stage: round(value, 3) for stage, value in total.most_common()}
