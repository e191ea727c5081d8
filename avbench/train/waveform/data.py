"""Crops of waveforms: codecs are trained on a second or so of each clip, and tested on whole clips. B clips, N samples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.train.data import INT16_SCALE, Clips, Order, Share, micro_batches
from avbench.train.held import HeldSound
from avbench.train.trainee import Origin
from avbench.train.waveform.config import CodecTraining


@dataclass(frozen=True, kw_only=True)
class Waveforms:
    """samples: int16 (B, N). step: of the run; the same in all processes."""

    samples: Tensor
    step: int

    @property
    def audio(self) -> Tensor:
        """(B, N) float32 in [-1, 1]."""
        return self.samples.float() * INT16_SCALE

    def to(self, device: torch.device) -> "Waveforms":
        """On another device; copies from pinned memory do not wait."""
        return replace(self, samples=self.samples.to(device, non_blocking=True))

    def pinned(self) -> "Waveforms":
        """In page-locked memory."""
        return replace(self, samples=self.samples.pin_memory())


class CodecData:
    """Crops of `train`; `held_out` is for evaluation."""

    def __init__(self, train: Clips, held_out: Clips, config: CodecTraining) -> None:
        """Raises AvbenchError where the split's clips are shorter than a crop, or sampled at another rate."""
        protocol = train.split.protocol
        if protocol.num_samples < config.crop_samples or protocol.sample_rate != config.sample_rate:
            raise AvbenchError(
                f"{config.name} trains on {config.crop_samples} samples at {config.sample_rate} Hz; {train.split.name} has clips of "
                f"{protocol.num_samples} at {protocol.sample_rate} Hz"
            )
        self.train, self.held_out, self.config = train, held_out, config
        self.origin = Origin.of(train)
        self.order = Order(num_clips=len(train.indices), batch_size=config.batch_size, seed=config.seed)
        self.held: HeldSound | None = None

    def batches(self, stage: int, steps: Iterable[int], share: Share, device: torch.device) -> Iterator[Waveforms]:
        """See `trainee.Data`."""
        return micro_batches(self._read, self.order, steps, share, device, held=self.held is not None)

    def hold_on(self, device: torch.device) -> None:
        """See `trainee.Data`."""
        self.held = HeldSound(self.train, device)

    def first(self, count: int) -> Tensor:
        """(count, N): crops of so many clips, as the seed picks them."""
        order = Order(num_clips=self.order.num_clips, batch_size=count, seed=self.config.seed)
        return self._read(0, order.step(0)).audio.cpu()

    def _read(self, step: int, clips: list[int]) -> Waveforms:
        first, length = [self._first(step, clip) for clip in clips], self.config.crop_samples
        if self.held is not None:
            return Waveforms(samples=self.held.crops(clips, first, length), step=step)
        crops = [self.train.reader.samples(clip)[begin : begin + length] for clip, begin in zip(clips, first, strict=True)]
        return Waveforms(samples=torch.from_numpy(np.stack(crops)), step=step)

    def _first(self, step: int, clip: int) -> int:
        starts = self.train.split.protocol.num_samples - self.config.crop_samples + 1
        return int(np.random.Generator(np.random.PCG64([self.config.seed, step, clip])).integers(starts))
