"""Features of the clips at hand, computed once: FVD, class accuracy and novelty ask the same network about the same batch."""

import weakref
from collections.abc import Callable

from torch import Tensor

_recent: dict[str, tuple[weakref.ref[Tensor], Tensor]] = {}


def features_of(content: Tensor, key: str, extract: Callable[[Tensor], Tensor]) -> Tensor:
    """`extract(content)` on the CPU; the last batch's is kept. key: names the network, its weights and preprocessing, as in `cache`."""
    name = f"{key} {content.device}"
    kept = _recent.get(name)
    if kept is None or kept[0]() is not content:
        kept = (weakref.ref(content), extract(content).cpu())
        _recent[name] = kept
    return kept[1]
