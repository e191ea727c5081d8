"""Which cells of a column may be ranked, and how. avbench/board/table.py's docstring states the rules."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from avbench.board.columns import Column
from avbench.board.results import RunResult
from avbench.types import MetricValue


def footing_of(value: MetricValue) -> tuple[str, int]:
    """Values with the same footing may be ranked: metric protocol, and number of clips behind the value."""
    return value.protocol, value.num_clips


def common_footing(metric: str, runs: Sequence[RunResult]) -> tuple[str, int]:
    """The most common footing of rows that can be ranked (else of sound ones, else of all); a tie goes to more clips, then by name."""
    every = [run for run in runs if metric in run.values]
    sound = [run for run in every if not run.num_failed and run.values[metric].value is not None]
    ranked = [run for run in sound if run.kind != "control"]
    counts = Counter(footing_of(run.values[metric]) for run in ranked or sound or every)
    return min(counts, key=lambda footing: (-counts[footing], -footing[1], footing[0]), default=("", 0))


def ranks(column: Column, runs: Sequence[RunResult], footing: tuple[str, int], reference: float | None = None) -> dict[Path, int]:
    """Run's folder -> 1 or 2. Ranked as shown: two values that print alike share a rank. One row alone has no rank.

    reference: of a column whose best value is that of the real clips: theirs.
    """
    shown = {run.folder: shown_number(column, value) for run in runs if (value := _rankable(column, run, footing)) is not None}
    if len(shown) < 2:
        return {}
    if column.best_is_reference and reference is not None:
        aim = shown_number(column, reference)
        shown = {folder: float(f"{abs(value - aim):.9g}") for folder, value in shown.items()}
        best = sorted(set(shown.values()))[:2]
    elif column.higher_is_better is not None:
        best = sorted(set(shown.values()), reverse=column.higher_is_better)[:2]
    else:
        return {}
    return {folder: best.index(value) + 1 for folder, value in shown.items() if value in best}


def reference_value(references: frozenset[str], column: Column, runs: Sequence[RunResult], footing: tuple[str, int]) -> float | None:
    """What the real clips themselves have, on the same footing; None where the group has no such row."""
    values = [run.values[column.metric] for run in runs if run.tokenizer in references and column.metric in run.values]
    return next((value.value for value in values if footing_of(value) == footing), None)


def shown_number(column: Column, value: float) -> float:
    """`value` in the column's unit, rounded to what the table shows."""
    scaled = value * column.scale + 0.0  # no -0.00
    decimals = column.decimals
    if decimals is None or (scaled and not round(scaled, decimals)):
        return float(f"{scaled:.4g}" if decimals is None else f"{scaled:.2g}")
    return round(scaled, decimals)


def floor_value(floors: frozenset[str], column: Column, runs: Sequence[RunResult], footing: tuple[str, int]) -> float | None:
    """The best value of the group's zero-skill rows, None where there is none to beat."""
    if column.higher_is_better is None:
        return None
    values = [run.values.get(column.metric) for run in runs if set(run.tokenizer.split("+")) <= floors]
    numbers = [value.value for value in values if value is not None and value.value is not None and footing_of(value) == footing]
    return (max if column.higher_is_better else min)(numbers, default=None)


def beats(column: Column, value: float | None, floor: float | None) -> bool:
    """Whether `value` is better than the zero-skill `floor`; True where either is absent."""
    if value is None or floor is None:
        return True
    return value > floor if column.higher_is_better else value < floor


def _rankable(column: Column, run: RunResult, footing: tuple[str, int]) -> float | None:
    value = run.values.get(column.metric)
    if value is None or run.kind == "control" or run.num_failed or footing_of(value) != footing:
        return None
    return value.value
