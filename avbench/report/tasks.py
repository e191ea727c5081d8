"""What pages say and show of each task: its own words (avbench/task.py)."""

from avbench import registry
from avbench.task import Words


def words_of(task: str) -> Words:
    """What pages say of `task`."""
    return registry.load_task(task).words


def shown_of(task: str, kind: str, modalities: frozenset[str]) -> frozenset[str]:
    """Modalities that a row shows: what it made, not its condition again. Controls that are whole real clips say so by their modalities."""
    made = words_of(task).shows
    return made | modalities if kind == "control" else made


def kind_of(task: str, kind: str, name: str) -> str:
    """The kind of a row, and of a control of real clips which clips they are."""
    control = words_of(task).controls.get(name) if kind == "control" else None
    return f"{kind}: {control}" if control else kind
