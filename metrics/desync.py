"""DeSync: by how many seconds Synchformer takes a clip's sound to be early or late, as av-benchmark measures it (Cheng et al. 2024,
arXiv 2412.15322).

The likeliest of 21 offsets in [-2, 2] s, absolute, mean of the first and the last 4.8 s. A clip shorter than 4.8 s is looped to that
length, where the two are one and the same. Guessing offsets at random has 22 / 21 = 1.048 s.
"""

import torch
from torch import Tensor

from avbench import weights
from avbench.metric import GENERATION, MetricInfo, MetricOptions, PerClipMetric
from avbench.metrics.features import synchformer
from avbench.metrics.features.synchformer import OFFSETS, Synchformer
from avbench.types import ClipBatch, Tokens

_SHA256 = (weights.CATALOG[synchformer.WEIGHTS].sha256 or "not pinned")[:10]
STEP_S = 0.2  # from one offset to the next


def desync(model: Synchformer, video: Tensor, audio: Tensor, fps: float, sample_rate: int) -> Tensor:
    """DeSync (B,) in seconds, 0 to 2, lower is better, of clips (B, T, 3, H, W) in [0, 1] and their sound (B, C, N) in [-1, 1]."""
    clips = zip(video, audio, strict=True)
    return torch.stack([mean_offset(logits(model, frames, sound, fps, sample_rate)) for frames, sound in clips])


@torch.inference_mode()
def logits(model: Synchformer, frames: Tensor, sound: Tensor, fps: float, sample_rate: int) -> Tensor:
    """Logits (2, 21) of the offsets in the first and the last 4.8 s of one clip (T, 3, H, W), (C, N), all on the model's device."""
    seen = synchformer.video_segments(frames, fps)
    heard = synchformer.audio_segments(sound, sample_rate, len(frames) / fps)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 would make the numbers depend on the machine
        return model(seen, heard)  # type: ignore[no-any-return]


def mean_offset(logits: Tensor) -> Tensor:
    """Seconds (), float64, on the CPU: mean absolute offset of the largest of logits (..., 21), which stand for -2, -1.8, ... 2 s."""
    return ((logits.argmax(-1) - OFFSETS // 2).abs().cpu().double() * STEP_S).mean()


class DeSync(PerClipMetric):
    """Seconds between a clip's own sound and picture, by Synchformer.

    Of the (generated) clip alone; compare with that of `identity`, the real clips'.
    """

    info = MetricInfo(
        name="desync",
        unit="s",
        higher_is_better=False,
        needs=frozenset({"video", "audio"}),
        per_clip=True,
        tasks=GENERATION,
        sets=frozenset({"v2a"}),
        weights=(synchformer.WEIGHTS,),
        memory_bytes=947_478_612,
        protocol=(
            f"DeSync, Synchformer 24-01-04T16-39-21 (weights {_SHA256}); clips shorter than 4.8 s looped to 4.8 s; 25 fps by repeating "
            "frames by time, short side to 224 bicubic, centre 224x224; 16 kHz mono, torchaudio resample; 14 segments of 0.64 s, half "
            "overlapping; argmax of 21 offsets in [-2, 2] s, absolute, mean of first and last 14 segments; float32"
        ),
    )

    def __init__(self, options: MetricOptions) -> None:
        """Raises WeightsUnavailable where the file is absent, AvbenchError where it holds something else."""
        self.device = torch.device(options.device)
        self.model = synchformer.load(weights.path(synchformer.WEIGHTS)).to(self.device)

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert recon.video is not None
        assert recon.audio is not None
        video, audio = recon.video.to(self.device), recon.audio.to(self.device)
        return desync(self.model, video, audio, reference.fps, reference.sample_rate)
