"""Axes, ticks and lines of a plot in the coordinates of its picture. Numbers in, numbers out; the template plot.svg.j2 draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 10.0, 14.0, 40.0
MAX_TICKS = 6


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values from `low` to `high` along `start` to `end` of the picture, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Coordinate of `value`; what lies outside stands at the edge."""
        low, high, here = self._scaled(self.low), self._scaled(self.high), self._scaled(min(max(value, self.low), self.high))
        return self.start + (here - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """(coordinate, text) of round values."""
        values = log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)
        return [(self.at(value), short(value)) for value in values]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve. style: which of the style sheet's line styles (0, 1, ...), name: what it is called on hover."""

    name: str
    path: str
    style: int


@dataclass(frozen=True, kw_only=True)
class Text:
    """A label. x, y: left end of its base line; leader: the path to the point that it belongs to, empty where that is obvious."""

    text: str
    x: float
    y: float
    leader: str = ""


def x_axis(values: Sequence[float], log: bool = False) -> Axis:
    """The horizontal axis that shows all of `values`."""
    low, high = padded(values, log, 0.08)
    return Axis(low=low, high=high, start=LEFT, end=WIDTH - RIGHT, log=log)


def y_axis(values: Sequence[float], log: bool = False, down: bool = False) -> Axis:
    """The vertical axis; `down`: small values at the top, for a quantity of which less is better."""
    low, high = padded(values, log, 0.08)
    top, bottom = TOP, HEIGHT - BOTTOM
    return Axis(low=low, high=high, start=top if down else bottom, end=bottom if down else top, log=log)


def padded(values: Sequence[float], log: bool, share: float) -> tuple[float, float]:
    """Lowest and highest of `values` with `share` of their span added on either side; never an empty range."""
    low, high = (math.log10(value) for value in (min(values), max(values))) if log else (min(values), max(values))
    margin = (high - low) * share or max(abs(high) * share, 0.1)
    low, high = low - margin, high + margin
    return (10**low, 10**high) if log else (low, high)


def linear_ticks(low: float, high: float) -> list[float]:
    """At most MAX_TICKS multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / (MAX_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw * 0.999)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten, powers of ten alone over many decades."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [step * 10.0**k for k in decades for step in steps if low <= step * 10.0**k <= high]
        if 2 <= len(values) <= MAX_TICKS:
            return values
    stride = max(1, len(decades) // (MAX_TICKS - 1))
    return values[::stride] if len(values) > 1 else linear_ticks(low, high)


def short(value: float) -> str:
    """`1200` -> `1.2k`; `0.05`; `1e-06`."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def path(points: Sequence[tuple[float, float]]) -> str:
    """An SVG path through points of the picture."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A marked value with its interval's ends. shape: "circle", "square", "diamond" or "cross"; href: a page of the site."""

    x: float
    y: float
    low: float
    high: float
    shape: str
    title: str
    href: str


@dataclass(frozen=True, kw_only=True)
class Level:
    """A line across (or, with `upright`, down) the plot at coordinate `at`."""

    at: float
    title: str
    upright: bool = False


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Everything that the template draws. remarks: what could not be drawn or named, in words."""

    title: str
    summary: str
    x_title: str
    y_title: str
    x_axis: Axis
    y_axis: Axis
    points: tuple[Point, ...] = ()
    lines: tuple[Line, ...] = ()
    levels: tuple[Level, ...] = ()
    labels: tuple[Text, ...] = ()
    remarks: tuple[str, ...] = ()
