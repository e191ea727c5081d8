"""Rate against quality: for each metric of a group, bits per second (log) against value. Up is better in every plot.

A point is a run with its interval. Runs of one tokenizer at several settings (h264@20k, h264@5k; pca-vq@128x12, ...) are joined to
a curve. Controls have no rate worth the name: they are level lines. Zero-skill ones are always in the picture, ceilings where they fit.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from avbench.board.columns import Column
from avbench.board.table import Cell, Group, Row
from avbench.board.text import format_spread, format_value
from avbench.report.labels import Mark, place
from avbench.report.plot import Axis, Level, Line, Plot, Point, path, x_axis, y_axis

RATE = "bits_per_s"
SHAPES = {"learned": "circle", "classical": "square", "linear": "diamond"}
LOG_RATIO = 8.0  # positive values of which less is better, spread wider than this, are drawn on a log axis
NEAR = 0.5  # of the points' span: a ceiling nearer than this is drawn, another is named in words


@dataclass(frozen=True, kw_only=True)
class _Spot:
    """A row that has a rate and a value."""

    row: Row
    rate: float
    cell: Cell
    value: float


def rate_plots(group: Group, floors: frozenset[str], pages: Mapping[str, str]) -> list[Plot]:
    """A plot for each ranked metric of which some tokenizer has a value. pages: run id -> its page."""
    plots = [_plot(group, column, floors, pages) for column in group.columns if column.higher_is_better is not None]
    return [plot for plot in plots if plot is not None]


def family(label: str) -> str:
    """The tokenizer behind a label, whatever its settings: `h264@20k-opus@6k` -> `h264-opus`, `pca-vq@256x12@120x12` -> `pca-vq`."""
    return re.sub(r"@[^-+@]*", "", label)


def _plot(group: Group, column: Column, floors: frozenset[str], pages: Mapping[str, str]) -> Plot | None:
    protocol = dict(group.legend).get(column.title, "")
    usable = {row.label: row.cells[column.metric] for row in group.rows if _usable(row.cells.get(column.metric), protocol)}
    spots = [spot for row in group.rows if row.kind != "control" and (spot := _spot(row, usable)) is not None]
    if not spots:
        return None
    levels = {row.label: usable[row.label].value or 0.0 for row in group.rows if row.kind == "control" and row.label in usable}
    zero_skill = {label for label in levels if set(label.split("+")) <= floors}
    log = column.higher_is_better is False and _wide([spot.value for spot in spots] + [levels[label] for label in zero_skill])
    shown, off = _in_picture(spots, levels, zero_skill, log)
    rates = x_axis([spot.rate for spot in spots], log=True)
    ends = [_bounded(end, log) for spot in spots for end in (spot.value, spot.cell.ci_low, spot.cell.ci_high) if end is not None]
    values = y_axis([end for end in ends if end is not None] + list(shown.values()), log=log, down=column.higher_is_better is False)
    points = [_point(spot, column, rates.at(spot.rate), values, log, pages) for spot in spots]
    marks = [
        Mark(name=_name(spot.row), x=point.x, y=point.y, low=point.low, high=point.high) for spot, point in zip(spots, points, strict=True)
    ]
    marks += [Mark(name=label, x=0, y=values.at(value), across=True) for label, value in shown.items()]
    labels, left_out = place(marks)
    unit = f" {column.unit}" if column.unit else ""
    return Plot(
        title=" ".join(part for part in (column.title, column.unit) if part),
        summary=_summary(column, spots),
        x_title="bits per second",
        y_title=f"{column.title}{unit}, better is up",
        x_axis=_shown_as(rates, 1.0),
        y_axis=_shown_as(values, column.scale),
        points=tuple(points),
        lines=tuple(_curves(spots, points)),
        levels=tuple(Level(at=values.at(value), title=f"{label}: {format_value(column, usable[label])}") for label, value in shown.items()),
        labels=tuple(labels),
        remarks=tuple(_remarks(column, group, usable, off, left_out, spots)),
    )


def _usable(cell: Cell | None, protocol: str) -> bool:
    """A value of the protocol that the group is ranked by."""
    return cell is not None and cell.value is not None and cell.protocol in (protocol, "")


def _spot(row: Row, usable: Mapping[str, Cell]) -> _Spot | None:
    rate, cell = row.cells.get(RATE), usable.get(row.label)
    if rate is None or not rate.value or rate.value <= 0 or cell is None or cell.value is None:
        return None
    return _Spot(row=row, rate=rate.value, cell=cell, value=cell.value)


def _wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > LOG_RATIO


def _bounded(value: float, log: bool) -> float | None:
    return None if log and value <= 0 else value


def _in_picture(
    spots: Sequence[_Spot], levels: Mapping[str, float], zero_skill: set[str], log: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """Levels that are drawn, and those that would squeeze the points together."""
    values = [spot.value for spot in spots] + [levels[label] for label in zero_skill]
    low, high = min(values), max(values)
    margin = NEAR * (high - low)

    def near(value: float) -> bool:
        return (low / 3 <= value <= high * 3) if log else (low - margin <= value <= high + margin)

    shown = {label: value for label, value in levels.items() if label in zero_skill or near(value)}
    return shown, {label: value for label, value in levels.items() if label not in shown}


def _point(spot: _Spot, column: Column, x: float, values: Axis, log: bool, pages: Mapping[str, str]) -> Point:
    ends = [spot.value if end is None else _bounded(end, log) for end in (spot.cell.ci_low, spot.cell.ci_high)]
    low, high = (values.at(values.low if end is None else end) for end in ends)
    rate = f"{spot.rate / 1000:.4g} kbit/s"
    value = f"{format_value(column, spot.cell)} {format_spread(column, spot.cell)}".strip()
    return Point(
        x=x,
        y=values.at(spot.value),
        low=low,
        high=high,
        shape=SHAPES.get(spot.row.kind, "cross"),
        title=f"{spot.row.label} ({spot.row.kind}): {column.title} {value} at {rate}, {spot.row.num_ok}/{spot.row.num_clips} clips",
        href=pages.get(spot.row.run_id, ""),
    )


def _curves(spots: Sequence[_Spot], points: Sequence[Point]) -> Iterator[Line]:
    """One line for each tokenizer with several rates, in the order of their rates."""
    pairs = sorted(zip(spots, points, strict=True), key=lambda pair: (family(pair[0].row.label), pair[0].rate))
    for style, (name, members) in enumerate(groupby(pairs, key=lambda pair: family(pair[0].row.label))):
        places = [(point.x, point.y) for _, point in members]
        if len(places) > 1:
            yield Line(name=name, path=path(places), style=style % 4)


def _name(row: Row) -> str:
    failed = (row.num_clips or 0) - (row.num_ok or 0)
    return f"{row.label} ({failed} failed)" if failed else row.label


def _shown_as(axis: Axis, scale: float) -> Axis:
    return replace(axis, low=axis.low * scale, high=axis.high * scale)


def _summary(column: Column, spots: Sequence[_Spot]) -> str:
    """The plot in words, for who does not see it."""
    said = [f"{spot.row.label} {format_value(column, spot.cell)} at {spot.rate / 1000:.3g} kbit/s" for spot in spots]
    return f"{column.title} against bits per second. " + "; ".join(said)


def _remarks(
    column: Column, group: Group, usable: Mapping[str, Cell], off: Mapping[str, float], left_out: Sequence[str], spots: Sequence[_Spot]
) -> Iterator[str]:
    if off:
        yield "Off the scale: " + ", ".join(f"{label} {format_value(column, usable[label])}" for label in off)
    if left_out:
        yield "No room for the names of " + ", ".join(left_out)
    drawn = {spot.row.label for spot in spots} | {row.label for row in group.rows if row.kind == "control"}
    valued = [row.label for row in group.rows if (cell := row.cells.get(column.metric)) is not None and cell.value is not None]
    missing = [label for label in valued if label not in drawn]
    if missing:
        yield "Not drawn, another protocol or no rate: " + ", ".join(missing)
