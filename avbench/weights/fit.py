"""Putting a published state into a model of ours: every key is accounted for before anything is computed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from avbench.errors import AvbenchError

NAMED = 3  # keys that a message spells out


def fill(model: nn.Module, state: Mapping[str, Any], file: Path | str, kind: str) -> None:
    """Give `model` (on the meta device, say) the tensors of `state` as its own, float32; its integer buffers stay as they are.

    Raises AvbenchError that names `file`, `kind` ("a CAV-MAE Sync encoder") and the keys that are missing, unknown, of another shape
    or no floating-point tensors.
    """
    expected = {name: tensor.shape for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    shared = expected.keys() & state.keys()
    problems = {
        "lacks": expected.keys() - state.keys(),
        "has unknown": state.keys() - expected.keys(),
        "holds no floating-point tensor in": {key for key in shared if not _is_float(state[key])},
        "has mis-shaped": {key for key in shared if _is_float(state[key]) and state[key].shape != expected[key]},
    }
    for what, names in problems.items():
        if names:
            raise AvbenchError(f"{file} is not {kind}: it {what} {_listed(names, expected, state)}")
    model.load_state_dict({key: state[key].float() for key in expected}, strict=False, assign=True)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _listed(names: set[str], expected: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """`a.weight (4, 2), which should be (4, 3), and 7 more`."""
    shown = []
    for name in sorted(names)[:NAMED]:
        found = getattr(state.get(name), "shape", None)
        both = found is not None and name in expected
        shown.append(f"{name} {tuple(found or ())}, which should be {tuple(expected[name])}" if both else name)
    return "; ".join(shown) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
