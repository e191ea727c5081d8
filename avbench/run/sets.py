"""Which metrics a run measures: `--metrics psnr,perceptual` mixes names with names of sets (`avbench.metric.SETS`)."""

from collections.abc import Iterable

from avbench import registry
from avbench.errors import AvbenchError, UsageError, unknown_name
from avbench.metric import SETS


def metrics_of(names: Iterable[str], task: str) -> tuple[str, ...]:
    """The metrics that `names` stand for in a run of `task`, each once, in the order given.

    A set has those of its members that are made for the task, whether or not they can run here. Raises UsageError for a name that is
    neither a metric's nor a set's, and for a set that has nothing for the task.
    """
    known = registry.plugins("metric")
    found: dict[str, None] = {}
    for name in names:
        plain = name.replace("-", "_")
        if plain in SETS:
            found |= dict.fromkeys(members(plain, task))
        elif plain in known:
            found[plain] = None
        else:
            raise unknown_name("metric", name, known, also=("a set of metrics", SETS))
    return tuple(found)


def members(name: str, task: str) -> tuple[str, ...]:
    """The metrics of a set that are made for `task`. Raises UsageError where there are none."""
    found = tuple(metric for metric, plugin in registry.plugins("metric").items() if _is_member(plugin, name, task))
    if not found:
        raise UsageError(f"no metric of the set {name} is made for task {task}  (avbench list metrics)")
    return found


def _is_member(plugin: registry.Plugin, name: str, task: str) -> bool:
    try:
        info = registry.info_of(plugin)
    except AvbenchError:
        return name == "all"  # it cannot be imported: its row says so
    return task in info.tasks and (name == "all" or name in info.sets)
