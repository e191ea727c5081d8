"""A toy tokenizer: the mean colour of every 16 x 16 block, 5 bits a channel."""

import torch.nn.functional as F

from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

BLOCK, FRAMES, SIDE, LEVELS = 16, 16, 8, 32


class BlockMean:
    """Block means of a 128 x 128 video, smoothly interpolated."""

    info = TokenizerInfo(
        name="block-mean",
        revision="1",
        modalities=frozenset({"video"}),
        resolution=128,
        kind="classical",
    )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Video (B, 16, 3, 128, 128) in [0, 1] -> 3,072 codes a clip, each in [0, 32)."""
        means = F.avg_pool2d(batch.video.flatten(0, 1), BLOCK)
        codes = (means * (LEVELS - 1)).round().long().reshape(len(batch), 1, -1)
        duration = FRAMES / batch.fps
        return Tokens(codes={"video": codes}, vocab_sizes={"video": LEVELS}, duration_s=duration)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The codes alone -> video (B, 16, 3, 128, 128)."""
        means = tokens.codes["video"].reshape(-1, 3, SIDE, SIDE) / (LEVELS - 1)
        frames = F.interpolate(means, scale_factor=BLOCK, mode="bilinear")
        video = frames.unflatten(0, (-1, FRAMES))
        return ClipBatch(video=video, fps=FRAMES / tokens.duration_s, sample_rate=24_000)
