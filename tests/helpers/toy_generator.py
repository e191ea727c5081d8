"""A toy tokenizer that generators can be trained on, and a tiny recipe."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from avbench.data.splits import Split, batches
from avbench.generate.model import GeneratorConfig
from avbench.generate.tasks import TASKS
from avbench.generate.trainee import GeneratorTraining
from avbench.tokenizer import TokenizerInfo
from avbench.train.config import OptimConfig, StageConfig
from avbench.types import ClipBatch, Tokens

MODEL = GeneratorConfig(name="tiny", width=32, layers=1, heads=2, hidden=32)


class Toy:
    """Six video tokens (brightness of single frames) and four audio tokens (loudness), in one codebook or two."""

    info = TokenizerInfo(name="toy", revision="1", modalities=frozenset({"video", "audio"}))
    vocab: ClassVar[int] = 8

    def __init__(self, *, unified: bool = True, mixes: bool = False) -> None:
        self.unified, self.mixes = unified, mixes
        if unified:
            self.info = replace(self.info, stream_lengths={"video": 6, "audio": 4})
        self.seen: list[ClipBatch] = []

    def encode(self, batch: ClipBatch) -> Tokens:
        self.seen.append(batch)
        assert batch.video is not None
        assert batch.audio is not None
        loud = batch.audio.abs().unflatten(2, (4, -1)).mean((1, 3))
        bright = batch.video[:, :6].mean((2, 3, 4)) + (loud.mean() if self.mixes else 0)
        video, audio = (self._codes(values) for values in (bright, loud))
        codes = {"joint": torch.cat([video, audio], dim=2)} if self.unified else {"video": video, "audio": audio}
        return Tokens(codes=codes, vocab_sizes=dict.fromkeys(codes, self.vocab), duration_s=4.096)

    def decode(self, tokens: Tokens) -> ClipBatch:
        codes = tokens.codes
        if self.unified:
            codes = dict(zip(("video", "audio"), codes["joint"].split([6, 4], dim=2), strict=True))
        brightness = codes["video"][:, 0, torch.arange(16) * 6 // 16].float() / self.vocab
        frames = brightness[:, :, None, None, None].expand(-1, -1, 3, 128, 128)
        sound = (codes["audio"].float() / self.vocab).repeat_interleave(24_576, dim=2)
        return ClipBatch(video=frames, audio=sound, fps=3.90625, sample_rate=24_000)

    def _codes(self, values: Tensor) -> Tensor:
        return (values * 40 % self.vocab).long()[:, None]


class Other(Toy):
    """The same tokens under another revision."""

    info = replace(Toy.info, revision="2")


def clips_of(split: Split) -> ClipBatch:
    """The first batch, which must have clips."""
    batch = next(iter(batches(split, 8)))
    assert batch.clips is not None
    return batch.clips


def toy_training(tasks: tuple = TASKS, clips: int = 48) -> GeneratorTraining:
    optim = OptimConfig(adam=1e-2, weight_decay=0.05, ema_decay=0.5)
    return GeneratorTraining(
        name="tiny", model=MODEL, stages=(StageConfig(name="tokens", clips=clips, optim=optim),), batch_size=2, tokenizer="toy",
        tasks=tasks, log_steps=6, save_minutes=0.0, eval_clips=1, compute_dtype="float32",
    )  # fmt: skip
