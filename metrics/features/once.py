"""Something expensive, made when it is first needed, that many metrics and clips ask for."""

from collections.abc import Callable
from typing import Generic, TypeVar

from avbench.errors import AvbenchError
from avbench.metric import MetricUnavailable

Made = TypeVar("Made")


class Once(Generic[Made]):
    """What `make` gives, at the first `get` and ever after.

    A failure is kept as well: a run asks again for each clip that is left without value, and preparing thousands of training clips for
    each of them, to fail at the same place, would never end.
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
