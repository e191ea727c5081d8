"""All clips of a split in a device's memory: a step then reads no disk and copies nothing. 7,070 arcade clips take 7.4 GB.

N clips, B of them in a batch, T frames, F mel frames.
"""

import torch
from torch import Tensor

from avbench.nn.mel import log_mel
from avbench.train.data import INT16_SCALE, Clips, TrainBatch

CHUNK = 64  # clips copied at once


class HeldSound:
    """int16 (N, samples) of all training clips."""

    def __init__(self, clips: Clips, device: torch.device) -> None:
        self.device = device
        self.audio = torch.empty(len(clips.indices), clips.split.protocol.num_samples, dtype=torch.int16, device=device)
        for position, index in enumerate(clips.indices):
            self.audio[position] = torch.from_numpy(clips.reader.samples(index).copy())

    def __len__(self) -> int:
        return len(self.audio)

    def index(self, clips: list[int]) -> Tensor:
        """int64 (B,) on the device, without waiting for it."""
        numbers = torch.tensor(clips)
        return numbers.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else numbers

    def crops(self, clips: list[int], first: list[int], length: int) -> Tensor:
        """int16 (B, length) of `clips`, from sample `first` on."""
        positions = self.index(first)[:, None] + torch.arange(length, device=self.device)
        return self.audio[self.index(clips)[:, None], positions]


class HeldClips(HeldSound):
    """Pictures and mels too; `batch` is that of `ClipReader`."""

    def __init__(self, clips: Clips, device: torch.device) -> None:
        super().__init__(clips, device)
        protocol = clips.split.protocol
        shape = (protocol.num_frames, protocol.resolution, protocol.resolution, 3)
        self.video = torch.empty(len(clips.indices), *shape, dtype=torch.uint8, device=device)
        mels = []
        for part in torch.arange(len(clips.indices)).split(CHUNK):
            self.video[part[0] : part[-1] + 1] = clips.reader.frames([clips.indices[position] for position in part.tolist()])
            mels.append(log_mel(self.audio[part[0] : part[-1] + 1].float() * INT16_SCALE).half())
        self.mel = torch.cat(mels)
        self.codes: Tensor | None = None  # of the video, int16 (N, tokens)

    def batch(self, clips: list[int], *, with_video: bool = True, with_audio: bool = False) -> TrainBatch:
        """The clips numbered `clips`, in that order."""
        at = self.index(clips)
        return TrainBatch(
            video=self.video[at].permute(0, 1, 4, 2, 3) if with_video else None,
            mel=self.mel[at],
            audio=self.audio[at] if with_audio else None,
            video_codes=None if self.codes is None else self.codes[at].long(),
        )


class ReadBack:
    """Held clips as a `ClipReader` gives them, on the CPU: their mels were made by the device, at once instead of 6 ms each."""

    def __init__(self, held: HeldClips) -> None:
        self.held = held

    def __len__(self) -> int:
        return len(self.held)

    def batch(self, clips: list[int], *, with_video: bool = True, with_audio: bool = False) -> TrainBatch:
        """The clips numbered `clips`, in that order."""
        return self.held.batch(clips, with_video=with_video, with_audio=with_audio).to(torch.device("cpu"))
