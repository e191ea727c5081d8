"""Clips as AVTok sees them. The samples themselves come along only where a teacher listens."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from avbench.tokenizers.avtok.config import StreamName
from avbench.tokenizers.avtok.melbox import mel_to_box
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.train.config import AVTokSettings
from avbench.train.data import Clips, Order, Share, TrainBatch, micro_batches
from avbench.train.held import HeldClips
from avbench.train.trainee import Origin

ENCODED = 32  # clips at once


class AVTokData:
    """Batches of `train`; `held_out` is for evaluation."""

    def __init__(self, train: Clips, held_out: Clips, config: AVTokSettings) -> None:
        self.train, self.held_out, self.config = train, held_out, config
        self.origin = Origin.of(train)
        self.order = Order(num_clips=len(train.indices), batch_size=config.batch_size, seed=config.seed)
        self.held: HeldClips | None = None

    def batches(self, stage: int, steps: Iterable[int], share: Share, device: torch.device) -> Iterator[TrainBatch]:
        """See `trainee.Data`."""
        settings = self.config.stages[stage]
        with_audio = "audio" in settings.streams and bool(settings.loss.audio.alignment)
        encoded = self.held is not None and self.held.codes is not None
        with_video = "video" in settings.streams or (settings.hears_video and not encoded)

        def read(step: int, clips: list[int]) -> TrainBatch:
            return (self.held or self.train.reader).batch(clips, with_video=with_video, with_audio=with_audio)

        return micro_batches(read, self.order, steps, share, device, held=self.held is not None)

    def hold_on(self, device: torch.device) -> None:
        """See `trainee.Data`."""
        self.held = HeldClips(self.train, device)

    @torch.no_grad()
    def encode_video(self, model: AVTokModel) -> None:
        """The video of all clips that are held on the device, as the frozen encoder sees it: what stage audio's prior is given."""
        if self.held is not None:
            parts = torch.arange(len(self.train.indices)).split(ENCODED)
            videos = (self.held.batch(part.tolist()).video for part in parts)
            self.held.codes = torch.cat([model.tokenize("video", video).short() for video in videos if video is not None])


def stream_inputs(batch: TrainBatch) -> dict[StreamName, Tensor]:
    """Stream -> (B, T, C, H, W) of what the batch has: uint8 frames, and the log-mel as a grey frame in [0, 1]."""
    boxes: dict[StreamName, Tensor] = {} if batch.video is None else {"video": batch.video}
    return boxes | {"audio": mel_to_box(batch.mel.float())}
