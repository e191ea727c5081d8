"""`avbench list metrics`: what each is, its sets, what it needs, whether it can run here, and what gets it."""

import inspect
import textwrap
from collections.abc import Iterator

from avbench import registry, weights
from avbench.cli.doctor import extra_lacks
from avbench.errors import AvbenchError
from avbench.metric import SETS, MetricInfo

WIDTH = 80
_STEP = " " * 8


def listing() -> str:
    """Every metric in a few lines of at most 80 columns, then what its sets are."""
    plugins = registry.plugins("metric").values()
    sets = [f"  {name:<14}{meaning}" for name, meaning in SETS.items()]
    legend = ["", "ok: runs here. --: lacks what the command gets.", "Sets, which --metrics takes beside names:", *sets]
    return "\n".join([*(line for plugin in plugins for line in _lines(plugin)), *legend])


def _lines(plugin: registry.Plugin) -> Iterator[str]:
    try:
        info = registry.info_of(plugin)
        cures = lacks(info)
    except AvbenchError as error:
        yield f"--  {plugin.name}"
        yield from _wrapped(f"broken: {error}")
        return
    origin = "" if plugin.distribution == "avbench" else f"  from {plugin.distribution}"
    yield f"{'--' if cures else 'ok'}  {plugin.name}{origin}"
    yield from _wrapped((inspect.getdoc(plugin.load()) or "").partition("\n")[0])
    yield from _wrapped(f"{_when(info)}; needs {', '.join(_needs(info))}")
    for cure in cures:
        yield f"{_STEP}to get it: {cure}"


def lacks(info: MetricInfo) -> list[str]:
    """What gets the parts of a metric that are not on this machine; empty where it can run here."""
    extra = [extra_lacks(info.extra, info.modules)] if info.extra else []
    return [cure for cure in (*extra, weights.lacks(info.weights)) if cure]


def _when(info: MetricInfo) -> str:
    """Its sets, and the tasks that measure it unasked, or those that it is made for."""
    sets = f"; sets {', '.join(sorted(info.sets))}" if info.sets else ""
    return f"{'default of' if info.default else 'on request, for'} {', '.join(sorted(info.tasks))}{sets}"


def _needs(info: MetricInfo) -> Iterator[str]:
    yield from sorted(info.needs, reverse=True)
    if info.extra:
        yield f"extra {info.extra}"
    here = {row.name: row for row in weights.status()}
    for name in info.weights:
        size = weights.CATALOG[name].size
        facts = [f"{size / 1e6:,.1f} MB"] if size and size > 50_000 else []
        facts += [] if here[name].present or weights.lacks([name]) else ["fetched when first used"]
        yield f"weights {name}" + (f" ({', '.join(facts)})" if facts else "")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=_STEP, subsequent_indent=_STEP, break_on_hyphens=False)
