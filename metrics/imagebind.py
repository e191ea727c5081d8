"""IB-score: how well a clip's sound and picture go together in ImageBind's space (Girdhar et al. 2023, arXiv 2305.05665).

The cosine of a clip's video and audio embedding, times 1; some papers print it times 100. It sees what is heard and shown, not when.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench import weights
from avbench.metric import GENERATION, MetricInfo, MetricOptions, PerClipMetric
from avbench.metrics.features import imagebind
from avbench.types import ClipBatch, Tokens

_SHA256 = (weights.CATALOG[imagebind.WEIGHTS].sha256 or "not pinned")[:10]


def ib_score(model: imagebind.ImageBind, video: Tensor, audio: Tensor, fps: float, sample_rate: int) -> Tensor:
    """Cosine (B,) in [-1, 1] of the embeddings of clips (B, T, 3, H, W) in [0, 1] and their sound (B, C, N) in [-1, 1]."""
    return F.cosine_similarity(imagebind.embed_video(model, video, fps), imagebind.embed_audio(model, audio, sample_rate))


class IbScore(PerClipMetric):
    """How well a clip's own sound and picture go together, by ImageBind.

    Of the (generated) clip alone; compare with that of `identity`, the real clips'.
    """

    info = MetricInfo(
        name="ib_score",
        unit="",
        higher_is_better=True,
        needs=frozenset({"video", "audio"}),
        per_clip=True,
        tasks=GENERATION,
        sets=frozenset({"v2a"}),
        weights=(imagebind.WEIGHTS,),
        memory_bytes=2_876_260_352,
        protocol=(
            f"IB-score, x1: mean cosine of ImageBind-huge embeddings (weights {_SHA256}) of the clip's video (5 spans of 2 s at the "
            "split's fps, first and last frame of each, short side to 224 bilinear, 3 crops, which are one for a square picture) and audio "
            "(16 kHz mono, torchaudio resample; 3 spans of 2 s, 128 Kaldi mel bands x 204 frames, mean -4.268, std 9.138), float32"
        ),
    )

    def __init__(self, options: MetricOptions) -> None:
        """Raises WeightsUnavailable where the file is absent, AvbenchError where it holds something else."""
        self.device = torch.device(options.device)
        self.model = imagebind.load(weights.path(imagebind.WEIGHTS)).to(self.device)

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert recon.video is not None
        assert recon.audio is not None
        video, audio = recon.video.to(self.device), recon.audio.to(self.device)
        return ib_score(self.model, video, audio, reference.fps, reference.sample_rate).cpu()
