"""Stored numbers beside those that were made again: what differs by more than its metric's tolerance."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avbench.metric import MetricInfo
from avbench.run.store import ClipRow

INTERVAL = 10.0  # times a metric's tolerance: an interval's end is made of values over parts of the clips
SHOWN = 3  # differences of a kind that are written out
_EXACT = ("protocol", "unit", "higher_is_better", "best_is_reference", "num_clips", "num_failed")  # of a value
_RESULT = ("tokenizer", "checkpoint_sha256", "split", "protocol", "num_clips", "num_ok", "num_failed", "intervals")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What is stored, and what was found instead. what: a metric's name, or the name of a fact. clip: its id; "" for the whole run."""

    what: str
    clip: str = ""
    stored: Any
    found: Any
    tolerance: float | None = None

    def __str__(self) -> str:
        where = f"{self.clip}: " if self.clip else ""
        within = f" (tolerance {self.tolerance:g})" if self.tolerance else ""
        return f"{where}stored {_text(self.stored)}, found {_text(self.found)}{within}"


def same(stored: Any, found: Any, tolerance: float) -> bool:
    """Whether two numbers agree: relative to the larger one, absolute below 1. No number agrees with none."""
    if stored is None or found is None:
        return stored is found
    if isinstance(stored, bool) or not isinstance(stored, int | float) or not math.isfinite(stored):
        return False
    return abs(stored - found) <= tolerance * max(1.0, abs(stored), abs(found))


def of_rows(stored: Sequence[Mapping[str, Any]], found: Sequence[ClipRow], metrics: Mapping[str, MetricInfo]) -> Iterator[Difference]:
    """Clip by clip. A reason why a clip failed is a text and may be another one; that it failed may not."""
    kept, again = {row["id"]: row for row in stored}, {row.id: row for row in found}
    if list(kept) != list(again):
        for clip in [*(kept.keys() - again.keys()), *(again.keys() - kept.keys())]:
            yield Difference(
                what="clips", clip=clip, stored="a row" if clip in kept else "none", found="a row" if clip in again else "none"
            )
        if kept.keys() == again.keys():
            yield Difference(what="clips", stored="another order", found="the split's")
    for clip, row in again.items():
        if clip in kept:
            yield from of_clip(kept[clip], row, metrics)


def of_clip(stored: Mapping[str, Any], found: ClipRow, metrics: Mapping[str, MetricInfo]) -> Iterator[Difference]:
    """One clip's row. Numbers of metrics that are not among `metrics` are differences too: nothing stands behind them."""
    for what, told, seen in (("status", stored["status"], found.status), ("label", stored.get("label"), found.label)):
        if told != seen:
            yield Difference(what=what, clip=found.id, stored=told, found=f"{seen} ({found.reason})" if found.reason else seen)
    if stored["status"] != "ok" or found.status != "ok":
        return
    for name in sorted({*metrics, *stored["metrics"]}):
        before, now = stored["metrics"].get(name), found.metrics.get(name)
        tolerance = metrics[name].tolerance if name in metrics else 0.0
        if not same(before, now, tolerance):
            yield Difference(what=name, clip=found.id, stored=before, found=now, tolerance=tolerance)


def of_results(stored: Mapping[str, Any], found: Mapping[str, Any], metrics: Mapping[str, MetricInfo]) -> Iterator[Difference]:
    """Values with their intervals, and the facts beside them. A stored n/a claims nothing."""
    for key in _RESULT:
        if stored.get(key) != found[key]:
            yield from _facts(key, stored.get(key), found[key])
    again = {value["name"]: value for value in found["values"]}
    for value in stored["values"]:
        name, now = value["name"], again[value["name"]]
        if value.get("value") is None:
            continue
        tolerance = metrics[name].tolerance
        for key in ("value", "ci_low", "ci_high"):
            allowed = tolerance * (1 if key == "value" else INTERVAL)
            if not same(value.get(key), now[key], allowed):
                what = name if key == "value" else f"{name} {key}"
                yield Difference(what=what, stored=value.get(key), found=now[key], tolerance=allowed)
        yield from (
            Difference(what=f"{name} {key}", stored=value.get(key), found=now.get(key)) for key in _EXACT if value.get(key) != now.get(key)
        )
    costs = [{value["name"]: value["value"] for value in result.get("cost", ())} for result in (stored, found)]
    if costs[0].get("parameters") != costs[1].get("parameters"):
        yield Difference(what="parameters", stored=costs[0].get("parameters"), found=costs[1].get("parameters"))


def _facts(key: str, stored: Any, found: Any) -> Iterator[Difference]:
    """Of an object, the entries that differ."""
    if not isinstance(stored, Mapping) or not isinstance(found, Mapping):
        yield Difference(what=key, stored=stored, found=found)
        return
    for name in sorted({*stored, *found}):
        if stored.get(name) != found.get(name):
            yield Difference(what=f"{key}.{name}", stored=stored.get(name), found=found.get(name))


def told(differences: Sequence[Difference]) -> list[str]:
    """Lines for a terminal: the differences of a metric together, the largest first, a few of each."""
    groups: dict[str, list[Difference]] = {}
    for difference in differences:
        groups.setdefault(difference.what, []).append(difference)
    lines = []
    for what, found in groups.items():
        shown = sorted(found, key=_size, reverse=True)[:SHOWN]
        lines += [f"{what}  {shown[0]}", *(f"{'':{len(what)}}  {difference}" for difference in shown[1:])]
        lines += [f"{'':{len(what)}}  and {len(found) - len(shown)} more"] if len(found) > len(shown) else []
    return [line if line.isprintable() else ascii(line)[1:-1] for line in lines]  # ids and texts are anybody's


def _size(difference: Difference) -> float:
    numbers = [value for value in (difference.stored, difference.found) if isinstance(value, int | float)]
    return abs(numbers[0] - numbers[1]) if len(numbers) == 2 else math.inf


def _text(value: Any) -> str:
    if value is None:
        return "no number"
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:250]
