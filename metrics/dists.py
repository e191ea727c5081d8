"""DISTS of video clips: Ding, Ma, Wang & Simoncelli (2020), "Image quality assessment: unifying structure and texture similarity"
(arXiv 2004.07728).

Means (texture) and covariances (structure) of six sets of maps are compared as SSIM compares luminance and structure: the picture itself
and VGG16's last map of each stage, with the authors' 2 x 1,475 weights. It forgives texture that is another sample of the same kind,
which LPIPS does not. Per frame at its own size, mean over frames. Maps are (B, C, H, W).
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench import weights
from avbench.metric import MetricInfo, MetricOptions, PerClipMetric
from avbench.metrics.psnr import check_same_shape, clip_videos
from avbench.nn.pretrained.lpips import TRUNKS, convolutions, trunk_name
from avbench.types import ClipBatch, Tokens
from avbench.weights.load import tensors

WEIGHTS = "dists"
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # VGG16's convolutions between poolings
CHANNELS = (3, *(stage[-1] for stage in STAGES))
FLOOR = 1e-6  # the paper's c1 and c2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
FRAMES_PER_CHUNK = 16  # bounds the memory: 0.5 GB at 128x128


class Dists(nn.Module):
    """The network. `alpha` weighs the means and `beta` the covariances of each channel, (1475,), summing to 1 together."""

    mean: Tensor
    std: Tensor
    window: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        widths = (3, *(width for stage in STAGES for width in stage))
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        hann = torch.tensor(np.hanning(5)[1:-1], dtype=torch.float32)
        self.register_buffer("window", torch.outer(hann, hann) / hann.sum() ** 2)
        for name, values in {"mean": MEAN, "std": STD}.items():
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / total)
        self.register_buffer("beta", beta / total)

    def forward(self, reference: Tensor, recon: Tensor) -> Tensor:
        """DISTS (B,) of pictures (B, 3, H, W) in [0, 1]."""
        likeness = torch.zeros(len(reference), device=reference.device)
        channel_weights = zip(self.alpha.split(CHANNELS), self.beta.split(CHANNELS), strict=True)
        for x, y, (alpha, beta) in zip(self.maps(reference), self.maps(recon), channel_weights, strict=True):
            mean_x, mean_y = x.mean(dim=(2, 3), keepdim=True), y.mean(dim=(2, 3), keepdim=True)
            texture = (2 * mean_x * mean_y + FLOOR) / (mean_x.square() + mean_y.square() + FLOOR)
            x, y = x - mean_x, y - mean_y
            variances = x.square().mean(dim=(2, 3)) + y.square().mean(dim=(2, 3))
            structure = (2 * (x * y).mean(dim=(2, 3)) + FLOOR) / (variances + FLOOR)
            likeness = likeness + (alpha * texture.flatten(1) + beta * structure).sum(dim=1)
        return 1 - likeness

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """The pictures themselves, and the last map of each stage."""
        found, x, layers = [pictures], (pictures - self.mean) / self.std, iter(self.layers)
        for number, stage in enumerate(STAGES):
            x = self._pooled(x) if number else x
            for _ in stage:
                x = F.relu(next(layers)(x))
            found.append(x)
        return found

    def _pooled(self, x: Tensor) -> Tensor:
        """Half the size: the root of the squares' mean under a Hann window."""
        window = self.window.expand(x.shape[1], 1, -1, -1)
        return torch.sqrt(F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12)


@lru_cache(maxsize=2)
def load(device: torch.device | str = "cpu") -> Dists:
    """The authors' weights over VGG16. Raises WeightsUnavailable where either file cannot be had."""
    file = weights.path(WEIGHTS)
    heads = tensors(weights.load_torch(file, weights.CATALOG[WEIGHTS].sha256), file)
    model = Dists(heads["alpha"].flatten(), heads["beta"].flatten())
    arrays = convolutions("vgg")
    for number, layer in enumerate(model.layers):
        kernel, bias = (torch.from_numpy(arrays[f"Conv_{number}"][key].copy()) for key in ("kernel", "bias"))
        layer.load_state_dict({"weight": kernel.permute(3, 2, 0, 1), "bias": bias})
    return model.requires_grad_(False).eval().to(device)


@torch.inference_mode()
def dists(reference: Tensor, recon: Tensor) -> Tensor:
    """DISTS (B,), 0 for identical clips and at most 1, of clips (B, T, 3, H, W) in [0, 1], on the reference's device.

    Raises WeightsUnavailable where a file cannot be had.
    """
    check_same_shape(reference, recon)
    model, clips = load(reference.device), zip(reference.float(), recon.to(reference.device).float(), strict=True)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 would make the numbers depend on the machine
        return torch.stack([_frames(model, a, b).mean() for a, b in clips])


def _frames(model: Dists, reference: Tensor, recon: Tensor) -> Tensor:
    chunks = zip(reference.split(FRAMES_PER_CHUNK), recon.split(FRAMES_PER_CHUNK), strict=True)
    return torch.cat([model(a, b) for a, b in chunks])


class DistsMetric(PerClipMetric):
    """Structure and texture as VGG16 sees them (DISTS), mean over frames."""

    info = MetricInfo(
        name="dists",
        unit="",
        higher_is_better=False,
        tolerance=1e-4,
        needs=frozenset({"video"}),
        per_clip=True,
        default=False,
        sets=frozenset({"perceptual"}),
        weights=(TRUNKS["vgg"][0], WEIGHTS),
        protocol=f"DISTS 0.1 (trunk {trunk_name('vgg')}, weights {(weights.CATALOG[WEIGHTS].sha256 or '')[:8]}), RGB in [0,1], no resize, "
        "float32; mean over frames, clips",
    )

    def __init__(self, options: MetricOptions) -> None:
        self.device = options.device
        load(options.device)

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        reference_video, recon_video = clip_videos(reference, recon)
        return dists(reference_video.to(self.device), recon_video.to(self.device)).cpu()
