"""CDPAM's network (Manocha et al. 2021, arXiv 2102.05109): a distance of sounds that was fitted to what people could tell apart.

An encoder of 16 convolutions, whose mean over time has an acoustic and a content half; a small network compares the acoustic halves.
Legend: B clips, N samples at 22,050 Hz, D = 512 acoustic numbers.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench import weights
from avbench.errors import AvbenchError

WEIGHTS = "cdpam"  # in the catalog
SAMPLE_RATE = 22_050  # Hz
LAYERS, CHANNELS, KERNEL = 16, 64, 15
ACOUSTIC = 512  # numbers
WIDTHS = (ACOUSTIC, 256, 64, 16, 4)  # of the comparing network
FULL_SCALE = 32_768.0  # it was trained on 16-bit integers


class Encoder(nn.Module):
    """Sound -> its acoustic numbers. Every fourth layer doubles the channels and halves the rate."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1] + [CHANNELS * 2 ** ((layer + 1) // 4) for layer in range(LAYERS)]
        pairs = list(pairwise(widths))
        self.encoder = nn.ModuleList(nn.Conv1d(before, after, KERNEL, padding=KERNEL // 2) for before, after in pairs)
        self.ebatch = nn.ModuleList(nn.BatchNorm1d(after) for _, after in pairs)

    def forward(self, x_BN: Tensor) -> Tensor:
        """(B, D), of length 1."""
        x = x_BN[:, None]
        for layer, (convolve, normalise) in enumerate(zip(self.encoder, self.ebatch, strict=True)):
            x = F.leaky_relu(normalise(convolve(x)), 0.1)
            x = x[:, :, ::2] if layer % 4 == 3 else x
        return F.normalize(x.mean(2)[:, :ACOUSTIC], dim=1)


class Comparison(nn.Module):
    """Two (B, D) -> distances (B,): weighted absolute differences after each of four layers."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        last = len(pairs) - 1
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), *([nn.LeakyReLU()] if layer < last else []))
            for layer, (before, after) in enumerate(pairs)
        )
        self.chan_w = nn.ParameterList(nn.Parameter(torch.zeros(after)) for _, after in pairs)

    def forward(self, a_BD: Tensor, b_BD: Tensor) -> Tensor:
        distance = a_BD.new_zeros(len(a_BD))
        for layer, weight in zip(self.convs, self.chan_w, strict=True):
            a_BD, b_BD = layer(a_BD), layer(b_BD)
            distance = distance + ((b_BD - a_BD) * weight).abs().sum(1)
        return distance


class Cdpam(nn.Module):
    """Names of the parameters are those of the authors' file."""

    def __init__(self) -> None:
        super().__init__()
        self.base_encoder, self.model_dist = Encoder(), Comparison()

    def forward(self, reference_BN: Tensor, recon_BN: Tensor) -> Tensor:
        """Distances (B,) of sounds in [-1, 1] at 22,050 Hz; they are rounded to 16 bits first, as in training."""
        a, b = (self.base_encoder((x * FULL_SCALE).round()) for x in (reference_BN, recon_BN))
        return torch.as_tensor(self.model_dist(a, b))


def load(device: torch.device) -> Cdpam:
    """Raises WeightsUnavailable where the file cannot be had, AvbenchError where it is not the one of the catalog."""
    path = weights.path(WEIGHTS)
    content = weights.load_old_torch(path, weights.CATALOG[WEIGHTS].sha256 or "")
    model = Cdpam()
    names = model.state_dict().keys()
    try:
        model.load_state_dict({name: tensor for name, tensor in content["state"].items() if name in names})
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise AvbenchError(f"{path} does not hold CDPAM's network: {str(error)[:200]}") from error
    return model.eval().requires_grad_(False).to(device)
