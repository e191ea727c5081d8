"""The edges that neural codecs share, around a toy network of 4 samples a code."""

import pytest
import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.protocol import Protocol
from avbench.tokenizer import TokenizerInfo
from avbench.tokenizers.waveform_codec import WaveformCodec
from avbench.types import ClipBatch


class Toy(WaveformCodec):
    """Means of 4 samples in 256 steps; its decoder loses a sample at the end, like an odd stride's."""

    vocab_size, device = 256, torch.device("cpu")

    def __init__(self, sample_rate: int = 24_000) -> None:
        self.info = TokenizerInfo(name="toy", revision="1", modalities=frozenset({"audio"}), sample_rate=sample_rate)
        self.batches: list[int] = []

    def to_codes(self, samples: Tensor) -> Tensor:
        self.batches.append(len(samples))
        padded = torch.nn.functional.pad(samples, (0, -samples.shape[-1] % 4))
        return ((padded.unflatten(2, (-1, 4)).mean(3) + 1) * 127).round().long()

    def to_samples(self, codes: Tensor) -> Tensor:
        return (codes / 127 - 1).repeat_interleave(4, dim=2)[..., :-1]

    def code_shape(self, num_samples: int) -> tuple[int, int]:
        return 1, -(-num_samples // 4)


def _clips(num_samples: int, sample_rate: int = 24_000) -> ClipBatch:
    slope = torch.linspace(-0.5, 0.5, num_samples)
    return ClipBatch(audio=torch.stack([slope, -slope])[:, None], fps=4.0, sample_rate=sample_rate)


@pytest.mark.parametrize("num_samples", [4000, 4001, 4003])
def test_a_clip_comes_back_at_its_own_length(num_samples: int) -> None:
    codec = Toy()
    clips = _clips(num_samples)
    recon = codec.decode(codec.encode(clips)).audio
    assert recon is not None
    assert recon.shape == (2, 1, num_samples)
    assert clips.audio is not None
    assert (recon - clips.audio)[..., :-4].abs().max() < 0.01  # the last code also holds padding


def test_clips_pass_one_at_a_time() -> None:
    codec = Toy()
    codec.encode(_clips(4000))
    assert codec.batches == [1, 1]


@pytest.mark.parametrize("own_rate", [16_000, 44_100])
def test_a_network_of_another_rate_is_resampled_to_at_both_edges(own_rate: int) -> None:
    codec = Toy(own_rate)
    clips = _clips(98_304)
    recon = codec.decode(codec.encode(clips))
    assert (recon.sample_rate, recon.audio.shape) == (24_000, (2, 1, 98_304))  # type: ignore[union-attr]
    assert (recon.audio - clips.audio)[..., 100:-100].abs().max() < 0.01  # type: ignore[operator]


def test_stereo_is_coded_a_channel_at_a_time() -> None:
    toy = Toy()
    toy.protocol = Protocol(channels=2)
    sound = 0.5 * torch.randn(2, 2, 4000, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    tokens = toy.encode(ClipBatch(audio=sound, fps=4.0, sample_rate=24_000))
    alone = [Toy().encode(ClipBatch(audio=sound[:, [channel]], fps=4.0, sample_rate=24_000)) for channel in (0, 1)]
    assert torch.equal(tokens.codes["audio"], torch.cat([part.codes["audio"] for part in alone], dim=2))
    recon = toy.decode(tokens).audio
    assert recon is not None
    assert torch.equal(recon, torch.cat([Toy().decode(part).audio for part in alone], dim=1))
    with pytest.raises(AvbenchError, match="damaged payload"):
        Toy().decode(tokens)  # a mono split's


def test_clips_without_sound_are_refused() -> None:
    with pytest.raises(AvbenchError, match="have none"):
        Toy().encode(ClipBatch(fps=4.0, sample_rate=24_000))
