"""Weight norm (Salimans & Kingma 2016, arXiv 1602.07868) folded into plain weights, for inference."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from avbench.errors import AvbenchError

Model = TypeVar("Model", bound=nn.Module)

# (weight norm's magnitude, its direction): PyTorch's older and newer names
_NORM_KEYS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))


def fold_weight_norm(state: Mapping[str, Tensor], where: str, *, product_first: bool = False) -> dict[str, Tensor]:
    """Magnitude g and direction v -> `weight` = g v / |v|, the norm over all but the first dimension; other tensors as they are.

    where: for the errors. product_first: rounded as (g v) / |v| instead of as PyTorch does it; a weight differs by at most 1.2e-7.
    Raises AvbenchError where a half is missing, or the two do not fit.
    """
    folded = dict(state)
    for magnitude_key, direction_key in _NORM_KEYS:
        for name in [name for name in folded if name.endswith((magnitude_key, direction_key))]:
            stem = name.removesuffix(magnitude_key).removesuffix(direction_key)
            if f"{stem}weight" not in folded:
                folded[f"{stem}weight"] = _normed(state, stem + magnitude_key, stem + direction_key, where, product_first)
            del folded[name]
    return folded


def without_weight_norm(model: Model) -> Model:
    """The same model with plain weights: what `fold_weight_norm` gives tensors for, and faster."""
    with torch.enable_grad():  # without it, PyTorch leaves weights behind that are no parameters
        for module in list(model.modules()):
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
    return model


def _normed(state: Mapping[str, Tensor], magnitude_key: str, direction_key: str, where: str, product_first: bool) -> Tensor:
    for key in (magnitude_key, direction_key):
        if key not in state:
            raise AvbenchError(f"{where} lacks the tensor {key}: the other half of a weight norm; download it again")
        if not state[key].is_floating_point():
            raise AvbenchError(f"{where}: {key} holds {state[key].dtype} where floating-point numbers are expected")
        if state[key].numel() * state[key].element_size() > state[key].untyped_storage().nbytes():
            raise AvbenchError(f"{where}: {key} claims more numbers than the file holds")
    # In float32, as the official code has it after loading: folded in half precision, 430 of an EnCodec's 4,928 codes differ.
    magnitude, direction = state[magnitude_key].float(), state[direction_key].float()
    if magnitude.shape != (direction.shape[0], *[1] * (direction.dim() - 1)):
        raise AvbenchError(f"{where}: {magnitude_key} has shape {tuple(magnitude.shape)}, {direction_key} {tuple(direction.shape)}")
    if product_first:
        return magnitude * direction / direction.flatten(1).norm(dim=1).view(magnitude.shape)
    return torch._weight_norm(direction, magnitude, 0)
