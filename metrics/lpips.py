"""LPIPS of video clips: Zhang et al. (2018), "The unreasonable effectiveness of deep features as a perceptual metric", v0.1.

The distance and its linear heads are those of the authors' package `lpips`; the ImageNet trunks come from `avbench.weights`, so
that nothing is downloaded behind the user's back. Per frame at its own size, mean over frames.
"""

import warnings
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avbench import weights
from avbench.metric import MetricInfo, MetricOptions, PerClipMetric
from avbench.metrics.psnr import check_same_shape, clip_videos
from avbench.types import ClipBatch, Tokens
from avbench.weights import half

Net = Literal["alex", "vgg"]
TRUNKS = {"alex": ("alexnet", "AlexNet_0"), "vgg": ("vgg16", "VGG16_0")}
FRAMES_PER_CHUNK = 16  # bounds the memory: 0.5 GB for VGG16 at 128x128


@torch.inference_mode()
def lpips(reference: Tensor, recon: Tensor, net: Net = "alex") -> Tensor:
    """LPIPS (B,), 0 for identical clips, of clips (B, T, 3, H, W) in [0, 1], on the reference's device.

    net: "alex" or "vgg". Raises WeightsUnavailable where its trunk cannot be had.
    """
    check_same_shape(reference, recon)
    model = load(net, reference.device)
    with torch.backends.cudnn.flags(allow_tf32=False):  # TF32 would make the numbers depend on the machine
        return torch.stack([_frames(model, a, b).flatten().mean() for a, b in zip(reference, recon.to(reference.device), strict=True)])


@torch.inference_mode()
def lpips_maps(reference: Tensor, recon: Tensor, net: Net = "alex") -> Tensor:
    """Where the distance is: maps (B, T, 1, H, W) of clips (B, T, 3, H, W) in [0, 1], on the reference's device.

    Each layer's map of distances is brought to the frame's size (bilinear), and the layers are summed: the authors' "spatial" form.
    """
    check_same_shape(reference, recon)
    model = load(net, reference.device, spatial=True)
    with torch.backends.cudnn.flags(allow_tf32=False):
        return torch.stack([_frames(model, a, b) for a, b in zip(reference, recon.to(reference.device), strict=True)])


def _frames(model: nn.Module, reference: Tensor, recon: Tensor) -> Tensor:
    """What the module says of frames (T, 3, H, W): (T, 1, 1, 1), or (T, 1, H, W) of a spatial one."""
    chunks = zip(reference.split(FRAMES_PER_CHUNK), recon.split(FRAMES_PER_CHUNK), strict=True)
    return torch.cat([model(a.float(), b.float(), normalize=True) for a, b in chunks])


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

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # it draws random trunks, and torchvision deprecates how
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


def _info(name: str, net: Net) -> MetricInfo:
    return MetricInfo(
        name=name,
        unit="",
        higher_is_better=False,
        needs=frozenset({"video"}),
        protocol=f"LPIPS v0.1 {net} (trunk {trunk_name(net)}), no resize; mean over frames, clips",
    )


class LpipsAlex(PerClipMetric):
    """Mean over clips of `lpips` with AlexNet: the table's LPIPS."""

    net: Net = "alex"
    info = _info("lpips", "alex")

    def __init__(self, options: MetricOptions) -> None:
        self.device = options.device
        load(self.net, options.device)

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        reference_video, recon_video = clip_videos(reference, recon)
        return lpips(reference_video.to(self.device), recon_video.to(self.device), self.net).cpu()


class LpipsVgg(LpipsAlex):
    """Mean over clips of `lpips` with VGG16, as LARP reports it."""

    net: Net = "vgg"
    info = _info("lpips_vgg", "vgg")
