"""Clips as AVTok sees them. The samples themselves come along only where a teacher listens."""

from collections.abc import Iterator

import torch
from torch import Tensor

from avbench.tokenizers.avtok.config import StreamName
from avbench.tokenizers.avtok.melbox import mel_to_box
from avbench.tokenizers.avtok.train.config import AVTokTraining
from avbench.train.clips import Clips
from avbench.train.data import Order, Share, TrainBatch, micro_batches
from avbench.train.trainee import Origin


class AVTokData:
    """Batches of `train`; `held_out` is for evaluation."""

    def __init__(self, train: Clips, held_out: Clips, config: AVTokTraining) -> None:
        self.train, self.held_out, self.config = train, held_out, config
        self.origin = Origin.of(train)
        self.order = Order(num_clips=len(train.indices), batch_size=config.batch_size, seed=config.seed)

    def batches(self, stage: int, steps: range, share: Share, device: torch.device) -> Iterator[TrainBatch]:
        """See `trainee.Data`."""
        streams, loss = self.config.stages[stage].streams, self.config.stages[stage].loss
        with_audio = "audio" in streams and bool(loss.audio.alignment)

        def read(step: int, clips: list[int]) -> TrainBatch:
            return self.train.reader.batch(clips, with_audio=with_audio)

        return micro_batches(read, self.order, steps, share, device)


def stream_inputs(batch: TrainBatch) -> dict[StreamName, Tensor]:
    """Stream -> (B, T, C, H, W): uint8 frames, and the log-mel as a grey frame in [0, 1]."""
    return {"video": batch.video, "audio": mel_to_box(batch.mel.float())}
