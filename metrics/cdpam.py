"""CDPAM: a distance of sounds in a network that was fitted to what people could tell apart (Manocha et al. 2021, arXiv 2102.05109)."""

import torch
from torch import Tensor
from torchaudio.functional import resample

from avbench import weights
from avbench.metric import MetricInfo, MetricOptions, PerClipMetric
from avbench.nn.pretrained import cdpam as network
from avbench.types import ClipBatch, Tokens


def cdpam(model: network.Cdpam, reference: Tensor, recon: Tensor, sample_rate: int) -> Tensor:
    """Distance of each clip, 0 for identical clips, lower is better: (B,) on the model's device.

    Args:
        reference, recon: audio (B, C, N) in [-1, 1] at `sample_rate` Hz; channels are averaged.
    """
    device = next(model.parameters()).device
    a, b = (resample(x.float().mean(1).to(device), sample_rate, network.SAMPLE_RATE) for x in (reference, recon))
    return torch.cat([model(a[clip : clip + 1], b[clip : clip + 1]) for clip in range(len(a))]) if len(a) else a.new_zeros(0)


class CdpamDistance(PerClipMetric):
    """Distance in CDPAM, a network fitted to what people could tell apart."""

    info = MetricInfo(
        name="cdpam",
        unit="",
        higher_is_better=False,
        needs=frozenset({"audio"}),
        per_clip=True,
        default=False,
        sets=frozenset({"perceptual"}),
        weights=(network.WEIGHTS,),
        memory_bytes=104_899_040,
        protocol=(
            f"CDPAM (weights {(weights.CATALOG[network.WEIGHTS].sha256 or '')[:8]}), 22.05 kHz mono (channels averaged, torchaudio "
            "resample), 16 bits, float32; mean over clips"
        ),
    )

    def __init__(self, options: MetricOptions) -> None:
        """Raises WeightsUnavailable where the file is absent."""
        self.model = network.load(options.device)

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert reference.audio is not None
        assert recon.audio is not None
        return cdpam(self.model, reference.audio, recon.audio, reference.sample_rate).cpu()
