"""Progress of work that a metric does inside a run, whose own bar is then on the screen already."""

import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import track

LINE_EVERY_S = 20.0


def bar_fits() -> bool:
    """Whether a bar can be drawn on stderr: on a terminal, and no other bar of rich there (two would write over each other)."""
    return sys.stderr.isatty() and not hasattr(sys.stderr, "rich_proxied_file")


def tracked(numbers: Sequence[int], title: str) -> Iterator[int]:
    """`numbers` one after another, under a bar on stderr; where none fits, with a line of how far it is now and then."""
    if bar_fits():
        yield from track(numbers, title, console=Console(stderr=True), transient=True)
        return
    told, before = time.monotonic(), 0
    for done, number in enumerate(numbers):
        passed = time.monotonic() - told
        if passed > LINE_EVERY_S:
            left = passed / (done - before) * (len(numbers) - done) / 60  # at the last pace: what a killed run had made passes in no time
            print(f"{title}: {done / len(numbers):.0%}, about {left:.0f} min left", file=sys.stderr, flush=True)
            told, before = told + passed, done
        yield number
