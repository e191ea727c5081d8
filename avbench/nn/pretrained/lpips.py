"""The network of LPIPS v0.1 (Zhang et al. 2018): the distance and linear heads of the authors' package `lpips`.

The ImageNet trunks come from `avbench.weights`, so that nothing is downloaded behind the user's back.
"""

import warnings
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import nn

from avbench import weights
from avbench.weights import half

Net = Literal["alex", "vgg"]
TRUNKS = {"alex": ("alexnet", "AlexNet_0"), "vgg": ("vgg16", "VGG16_0")}


@lru_cache(maxsize=4)
def load(net: Net, device: torch.device | str = "cpu", *, spatial: bool = False) -> nn.Module:
    """The authors' module with the catalog's trunk; a spatial one gives maps instead of their means.

    Raises WeightsUnavailable where the trunk cannot be had.
    """
    if net not in TRUNKS:
        raise ValueError(f'net "{net}" is not known; LPIPS has {", ".join(TRUNKS)}')
    return _built(net, convolutions(net), device, spatial=spatial)


def load_for_training(device: torch.device) -> nn.Module:
    """LPIPS with VGG16, of the half-precision file where there is one."""
    return _built("vgg", half.arrays(TRUNKS["vgg"][0]) or convolutions("vgg"), device)


def convolutions(net: Net) -> dict[str, Any]:
    """The trunk's arrays. Raises WeightsUnavailable where it cannot be had."""
    name, key = TRUNKS[net]
    item = weights.CATALOG[name]
    assert item.sha256 is not None
    return weights.load_array_pickle(weights.path(name), item.sha256)[key]  # type: ignore[no-any-return]


def _built(net: Net, arrays: dict[str, Any], device: torch.device | str, *, spatial: bool = False) -> nn.Module:
    from lpips import LPIPS

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # it makes random trunks, and torchvision deprecates how
        warnings.simplefilter("ignore", UserWarning)
        model = LPIPS(net=net, version="0.1", spatial=spatial, pnet_rand=True, verbose=False)
    _fill(model.net, arrays)
    return model.requires_grad_(False).eval().to(device)  # type: ignore[no-any-return]


def _fill(trunk: nn.Module, convolutions: dict[str, Any]) -> None:
    """Put kernels (H, W, I, O) `Conv_0`, `Conv_1`, ... into the trunk's convolutions, in order; every one must fit."""
    layers = [layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d)]
    for number, layer in enumerate(layers):
        arrays = convolutions[f"Conv_{number}"]
        weight = torch.from_numpy(arrays["kernel"].transpose(3, 2, 0, 1).copy())
        layer.load_state_dict({"weight": weight, "bias": torch.from_numpy(arrays["bias"].copy())})
    assert len(layers) == len(convolutions)


def trunk_name(net: Net) -> str:
    """The trunk and the start of its file's sha256, for protocols."""
    name = TRUNKS[net][0]
    return f"{name} {(weights.CATALOG[name].sha256 or '')[:8]}"
