"""I3D (Carreira & Zisserman 2017, "Quo Vadis, Action Recognition?"), trained on Kinetics-400: the feature network of FVD.

Inference only. Batch normalisation is folded into the convolutions, and the 1x1x1 convolutions that open the branches of a
block run as one. Padding is TensorFlow's "SAME", which is asymmetric for even strides. Shapes: B videos, C channels, T frames, H, W.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench import weights
from avbench.weights import half

WEIGHTS = "i3d-k400"
NUM_LOGITS, NUM_CHANNELS = 400, 1024
MIN_FRAMES = 9  # fewer leave one step in time after the strides, and the last pooling needs two
RESOLUTION = 224
BATCH_NORM_EPS = 1e-3
VIDEOS_PER_CHUNK = {"cpu": 4, "cuda": 16}  # about 0.3 GB of activations a video of 16 frames; larger chunks are no faster
LAYOUT = torch.channels_last_3d  # 0.51 s against 0.60 s a video of 16 frames on one core
MIXED_BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")


class Trunk(nn.Module):
    """The network's convolutions up to the block `last`. `variables`: the nested arrays of the weights file."""

    def __init__(self, variables: dict[str, Any], last: str = MIXED_BLOCKS[-1]) -> None:
        super().__init__()
        blocks = MIXED_BLOCKS[: MIXED_BLOCKS.index(last) + 1]
        self.conv_1a = Unit(*_folded(variables, "Conv3d_1a_7x7"), stride=2)
        self.conv_2b = Unit(*_folded(variables, "Conv3d_2b_1x1"))
        self.conv_2c = Unit(*_folded(variables, "Conv3d_2c_3x3"))
        self.mixed = nn.ModuleDict({name: Mixed(variables, f"Mixed_{name}") for name in blocks})
        self.requires_grad_(False).eval()

    def feature_map(self, x: Tensor) -> Tensor:
        """Of videos (B, 3, T, H, W) in [-1, 1]: the last block's, (B, 1024, ceil(T/8), H/32, W/32) of the whole network."""
        x = max_pool(self.conv_1a(x), (1, 3, 3), (1, 2, 2))
        x = max_pool(self.conv_2c(self.conv_2b(x)), (1, 3, 3), (1, 2, 2))
        for name, block in self.mixed.items():
            if name == "4b":
                x = max_pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "5b":
                x = max_pool(x, (2, 2, 2), (2, 2, 2))
            x = block(x)
        return x


class I3D(Trunk):
    """The network up to its logits."""

    def __init__(self, variables: dict[str, Any]) -> None:
        super().__init__(variables)
        head = variables["params"]["Logits/Conv3d_0c_1x1"]["Conv_0"]
        self.logits_weight = nn.Parameter(torch.from_numpy(head["kernel"].reshape(NUM_CHANNELS, NUM_LOGITS).T.copy()))
        self.logits_bias = nn.Parameter(torch.from_numpy(head["bias"].copy()))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 400), averaged over time, of videos (B, 3, T, 224, 224) in [-1, 1]."""
        pooled = F.avg_pool3d(self.feature_map(x), (2, 7, 7), stride=1)
        # The logits are linear in the pooled features, so their mean over time is that of the features.
        return F.linear(pooled.mean(dim=(2, 3, 4)), self.logits_weight, self.logits_bias)


class Unit(nn.Module):
    """Convolution with "SAME" padding, then ReLU. weight (O, I, T, H, W), bias (O,)."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        kernel = tuple(self.weight.shape[2:])
        if self.stride == 1:  # odd kernels: symmetric, so the convolution pads by itself
            return F.conv3d(x, self.weight, self.bias, padding=tuple(size // 2 for size in kernel)).relu_()
        padded = pad_same(x, kernel, (self.stride,) * 3)
        return F.conv3d(padded, self.weight, self.bias, stride=self.stride).relu_()


class Mixed(nn.Module):
    """Inception block: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | max pool, 1x1x1, joined along the channels."""

    def __init__(self, variables: dict[str, Any], name: str) -> None:
        super().__init__()
        opening = [_folded(variables, name, f"Branch_{i}/Conv3d_0a_1x1") for i in range(3)]
        self.opening = Unit(torch.cat([weight for weight, _ in opening]), torch.cat([bias for _, bias in opening]))
        self.widths = [len(bias) for _, bias in opening]
        self.branch_1 = Unit(*_folded(variables, name, "Branch_1/Conv3d_0b_3x3"))
        self.branch_2 = Unit(*_folded(variables, name, "Branch_2/Conv3d_0b_3x3"))
        self.branch_3 = Unit(*_folded(variables, name, "Branch_3/Conv3d_0b_1x1"))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.opening(x).split(self.widths, dim=1)
        pooled = F.max_pool3d(x, 3, stride=1, padding=1)
        return torch.cat([first, self.branch_1(second), self.branch_2(third), self.branch_3(pooled)], dim=1)


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros around (B, C, T, H, W) as TensorFlow's "SAME" puts them: the odd one at the end."""
    padding: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding) if any(padding) else x


def max_pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Max pooling with "SAME" padding. Zeros pad as well as TensorFlow's -inf do, because x is what a ReLU gave."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


def _folded(variables: dict[str, Any], *names: str) -> tuple[Tensor, Tensor]:
    """Weight (O, I, T, H, W) and bias (O,) of a convolution with its batch normalisation (no scale) folded in."""
    params, stats = variables["params"], variables["batch_stats"]
    for name in names:
        params, stats = params[name], stats[name]
    mean, var = (stats["BatchNorm_0"][key].reshape(-1).astype(np.float64) for key in ("mean", "var"))
    scale = 1 / np.sqrt(var + BATCH_NORM_EPS)
    weight = (params["Conv_0"]["kernel"] * scale).transpose(4, 3, 0, 1, 2)
    bias = params["BatchNorm_0"]["bias"] - mean * scale
    return torch.from_numpy(weight.astype(np.float32).copy()), torch.from_numpy(bias.astype(np.float32))


@lru_cache(maxsize=2)
def load(device: torch.device | str = "cpu") -> I3D:
    """The network on `device`. Raises WeightsUnavailable where its file cannot be had."""
    model = I3D(_variables())
    model = model.to(memory_format=LAYOUT)  # type: ignore[call-overload]  # torch's stubs lack it
    return model.to(device)


def load_trunk(device: torch.device | str, last: str) -> Trunk:
    """The convolutions up to block `last`, for a training: of the half-precision file where there is one."""
    variables = half.arrays(WEIGHTS) or _variables()
    return Trunk(variables, last).to(memory_format=LAYOUT).to(device)  # type: ignore[no-any-return, call-overload]


def trunk_variables(last: str) -> dict[str, Any]:
    """What `Trunk` reads of the weights file."""
    names = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3", *(f"Mixed_{name}" for name in MIXED_BLOCKS[: MIXED_BLOCKS.index(last) + 1]))
    return {kind: {name: values[name] for name in names} for kind, values in _variables().items()}


def _variables() -> dict[str, Any]:
    item = weights.CATALOG[WEIGHTS]
    assert item.sha256 is not None
    return weights.load_array_pickle(weights.path(WEIGHTS), item.sha256)


@torch.inference_mode()
def logits(model: I3D, videos: Tensor) -> Tensor:
    """(B, 400) on the model's device, of videos (B, T, 3, H, W) in [0, 1], T >= 9; resized to 224x224, a few at a time."""
    if videos.shape[1] < MIN_FRAMES:
        raise ValueError(f"I3D needs {MIN_FRAMES} frames or more, got {videos.shape[1]}")
    device = model.logits_bias.device
    chunks = videos.split(VIDEOS_PER_CHUNK.get(device.type, 1))
    with torch.backends.cudnn.flags(allow_tf32=False):  # TF32 would make the numbers depend on the machine
        return torch.cat([model(preprocess(chunk.to(device))) for chunk in chunks])


def preprocess(videos: Tensor) -> Tensor:
    """(B, T, 3, H, W) in [0, 1] -> (B, 3, T, 224, 224) in [-1, 1]; bilinear, align_corners False, no antialiasing."""
    frames = F.interpolate(videos.float().flatten(0, 1), size=(RESOLUTION, RESOLUTION), mode="bilinear", align_corners=False)
    return (2 * frames - 1).unflatten(0, videos.shape[:2]).transpose(1, 2).contiguous(memory_format=LAYOUT)
