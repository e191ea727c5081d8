"""LPIPS of video clips: Zhang et al. (2018), "The unreasonable effectiveness of deep features as a perceptual metric", v0.1.

The network: avbench/nn/pretrained/lpips.py. Per frame at its own size, mean over frames.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from avbench.metric import MetricInfo, MetricOptions, PerClipMetric
from avbench.metrics.psnr import check_same_shape, clip_videos
from avbench.nn.pretrained.lpips import TRUNKS, Net, load, trunk_name
from avbench.types import ClipBatch, Tokens

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


def _info(name: str, net: Net) -> MetricInfo:
    return MetricInfo(
        name=name,
        unit="",
        higher_is_better=False,
        tolerance=1e-4,
        needs=frozenset({"video"}),
        per_clip=True,
        sets=frozenset({"perceptual"}),
        weights=(TRUNKS[net][0],),
        protocol=f"LPIPS v0.1 {net} (trunk {trunk_name(net)}), no resize; mean over frames, clips",
    )


class LpipsAlex(PerClipMetric):
    """LPIPS with the AlexNet trunk, mean over frames: the table's LPIPS."""

    net: Net = "alex"
    info = _info("lpips", "alex")

    def __init__(self, options: MetricOptions) -> None:
        self.device = options.device
        load(self.net, options.device)

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        reference_video, recon_video = clip_videos(reference, recon)
        return lpips(reference_video.to(self.device), recon_video.to(self.device), self.net).cpu()


class LpipsVgg(LpipsAlex):
    """LPIPS with the VGG16 trunk, as LARP reports it."""

    net: Net = "vgg"
    info = replace(_info("lpips_vgg", "vgg"), default=False)
