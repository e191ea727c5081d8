"""The real clips that class agreement and the memorisation check know: the first 2,020 of arcade-train, twenty of each of its 101 games.

Twenty a game are what the generators here are trained on; the features of all 7,070 would cost 68 minutes of a core instead of 20
(0.52 s of video and 0.06 s of audio a clip), and emulating them first. What is made of them is made once (`Once`), under a bar of its own
where the run's is not on the screen.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Generic, TypeVar

from rich.console import Console
from rich.progress import track

from avbench.data import arcade, shards, splits
from avbench.errors import AvbenchError
from avbench.metric import MetricUnavailable

SPLIT = "arcade-train"
CLIPS = 2020
LINE_EVERY_S = 20.0  # of progress
Made = TypeVar("Made")


def labels() -> tuple[str, ...]:
    """The class of each, in order."""
    return tuple(clip.label or "" for clip in splits.find(SPLIT).clips[:CLIPS])


def episodes() -> tuple[int, ...]:
    """The episode of its game that each is cut from, in order: 0 or 1. Clips of one episode follow each other and look alike."""
    return tuple(arcade.place(SPLIT, index).episode for index in range(CLIPS))


def identity() -> str:
    """12 hex digits over protocol, ids, labels and pinned content: known without preparing a clip."""
    source = splits.find(SPLIT)
    clips = [(clip.id, clip.label, source.stamp(index)) for index, clip in enumerate(source.clips[:CLIPS])]
    return hashlib.sha256(json.dumps([asdict(source.protocol), clips]).encode()).hexdigest()[:12]


def check_classes(classes: frozenset[str] | None) -> None:
    """Raises MetricUnavailable, before anything is computed, where a split's classes are all strange to arcade-train."""
    if classes is None:
        return
    known = set(labels())
    if not classes & known:
        here = f'none of the classes here, such as "{min(classes)}"' if classes else "these clips have no labels"
        raise MetricUnavailable(f"looks at clips with the eyes of the {len(known)} games of {SPLIT}, and {here}; use an arcade split")


def load() -> splits.Split:
    """The clips, prepared where they are not. Raises AvbenchError where they cannot be."""
    source = splits.find(SPLIT)
    prepared = shards.read_index(source.root)
    missing = sum(clip.id not in prepared for clip in source.clips[:CLIPS])
    if missing:
        print(f"preparing {missing} clips of {SPLIT}, once (about 12 a second on two cores)", file=sys.stderr, flush=True)
    return splits.load(SPLIT, limit=CLIPS, progress=bar_fits())


class Once(Generic[Made]):
    """What `make` gives, at the first `get` and ever after.

    A failure is kept as well: a run asks again for each clip that is left without value, and preparing thousands of training clips for
    each of them, to fail at the same one, would never end.
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: list[Made] = []
        self._reason: str | None = None  # not the exception: its traceback would hold a batch of clips

    def get(self) -> Made:
        """Raises MetricUnavailable with the reason where `make` raised AvbenchError, MetricUnavailable or OSError."""
        if self._reason is None and not self._made:
            try:
                self._made.append(self._make())
            except (AvbenchError, MetricUnavailable, OSError) as error:
                self._reason = str(error)
        if self._reason is not None:
            raise MetricUnavailable(self._reason)
        return self._made[0]


def bar_fits() -> bool:
    """Whether a bar can be drawn on stderr: on a terminal, and no other bar of rich there (two would write over each other)."""
    return sys.stderr.isatty() and not hasattr(sys.stderr, "rich_proxied_file")


def tracked(numbers: Sequence[int], title: str) -> Iterator[int]:
    """`numbers` one after another, under a bar on stderr; where none fits, with a line of how far it is now and then."""
    if bar_fits():
        yield from track(numbers, title, console=Console(stderr=True), transient=True)
        return
    since, before = time.monotonic(), 0
    for done, number in enumerate(numbers):
        passed = time.monotonic() - since
        if passed > LINE_EVERY_S:
            left = passed / (done - before) * (len(numbers) - done) / 60  # at the last pace: what a killed run had made passes in no time
            print(f"{title}: {done / len(numbers):.0%}, about {left:.0f} min left", file=sys.stderr, flush=True)
            since, before = since + passed, done
        yield number
