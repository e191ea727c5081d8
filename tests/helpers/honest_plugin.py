"""A plugin that keeps every rule, as source: what the cheats of other tests are made from."""

HONEST = '''
import torch
from torch.nn.functional import avg_pool2d, interpolate
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

class Honest:
    info = TokenizerInfo(name="honest", revision="1", modalities=frozenset({"video"}), kind="classical")
    def encode(self, batch):
        codes = (avg_pool2d(batch.video.flatten(0, 1), 16) * 63).round().long().reshape(len(batch), 1, -1)
        return Tokens(codes={"video": codes}, vocab_sizes={"video": 64}, duration_s=16 / batch.fps)
    def decode(self, tokens):
        means = tokens.codes["video"].reshape(-1, 3, 8, 8) / 63
        video = interpolate(means, scale_factor=16, mode="nearest").unflatten(0, (-1, 16))
        return ClipBatch(video=video, fps=16 / tokens.duration_s, sample_rate=24_000)

class OneBit(Honest):
    """Sends one bit a clip."""
    def encode(self, batch):
        codes = torch.zeros(len(batch), 1, 1, dtype=torch.int64)
        return Tokens(codes={"video": codes}, vocab_sizes={"video": 2}, duration_s=16 / batch.fps)
'''
