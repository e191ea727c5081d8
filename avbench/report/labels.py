"""Where to write names in a plot so that none covers another, a point, or the frame. Greedy: each takes the nearest free place."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from avbench.report.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Text, path

LETTER = 6.8  # a letter's width at the style sheet's 10.5 pixels, on the wide side of common fonts
HEIGHT_OF_TEXT = 13.0
MAX_LETTERS = 26
RADII = (8.0, 14.0, 22.0, 32.0, 44.0, 58.0, 74.0, 92.0)
DIRECTIONS = 16
OBVIOUS = 15.0  # a label this near needs no line to its point


@dataclass(frozen=True)
class Box:
    """A rectangle of the picture."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: "Box") -> bool:
        """Whether the two share an area."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )

    @property
    def in_frame(self) -> bool:
        """Whether it lies within the plot's axes."""
        return (
            self.x >= LEFT + 1 and self.x + self.width <= WIDTH - RIGHT and self.y >= TOP - 10 and self.y + self.height <= HEIGHT - BOTTOM
        )


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point, or a level line across the plot (`across`), or one that stands upright in it, that wants a name.

    low, high: ends of the point's whisker, which labels avoid where they can.
    """

    name: str
    x: float
    y: float
    across: bool = False
    upright: bool = False
    low: float = 0.0
    high: float = 0.0


def place(marks: Sequence[Mark]) -> tuple[list[Text], list[str]]:
    """The labels that fit, and the names of those that do not. Points are kept free of labels, those of lines come first."""
    taken = [Box(mark.x - 5, mark.y - 5, 10, 10) for mark in marks if not (mark.across or mark.upright)]
    whiskers = [Box(mark.x - 2, min(mark.low, mark.high), 4, abs(mark.high - mark.low)) for mark in marks if mark.low != mark.high]
    texts, left_out = [], []
    for mark in sorted(marks, key=lambda mark: (not mark.across, mark.x, mark.y)):
        name = mark.name if len(mark.name) <= MAX_LETTERS else f"{mark.name[: MAX_LETTERS - 1]}…"
        free = [box for box in _places(mark, LETTER * len(name)) if box.in_frame and not any(map(box.meets, taken))]
        if not free:
            left_out.append(mark.name)
            continue
        box = next((box for box in free if not any(map(box.meets, whiskers))), free[0])
        taken.append(box)
        texts.append(_text(name, box, mark))
    return texts, left_out


def _places(mark: Mark, width: float) -> Iterator[Box]:
    if mark.across:
        for x in (WIDTH - RIGHT - width - 2, LEFT + 4, (LEFT + WIDTH - RIGHT - width) / 2):
            for y in (mark.y - HEIGHT_OF_TEXT - 1, mark.y + 1):
                yield Box(x, y, width, HEIGHT_OF_TEXT)
        return
    if mark.upright:
        for row in range(4):
            for x in (mark.x + 3, mark.x - width - 3):
                yield Box(x, mark.y + row * HEIGHT_OF_TEXT - HEIGHT_OF_TEXT / 2, width, HEIGHT_OF_TEXT)
        return
    for radius in RADII:
        for k in range(DIRECTIONS):
            angle = 2 * math.pi * k / DIRECTIONS
            across, down = math.cos(angle), math.sin(angle)
            yield Box(  # the side of the box that faces the point lies on the circle
                mark.x + radius * across - width * (1 - across) / 2,
                mark.y + radius * down - HEIGHT_OF_TEXT * (1 - down) / 2,
                width,
                HEIGHT_OF_TEXT,
            )


def _text(name: str, box: Box, mark: Mark) -> Text:
    nearest = (min(max(mark.x, box.x), box.x + box.width), min(max(mark.y, box.y), box.y + box.height))
    far = not (mark.across or mark.upright) and math.dist(nearest, (mark.x, mark.y)) > OBVIOUS
    return Text(
        text=name, x=round(box.x, 1), y=round(box.y + HEIGHT_OF_TEXT - 3, 1), leader=path([nearest, (mark.x, mark.y)]) if far else ""
    )
