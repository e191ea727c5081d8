"""The ceiling is exact, the floors are what they say."""

import pytest
import torch

from avbench.errors import AvbenchError
from avbench.run import payload
from avbench.tokenizers.controls import Identity, Silence, StaticFrame
from avbench.types import ClipBatch, Tokens


def _clips(frames: int = 5, height: int = 24, width: int = 40, samples: int = 3000, rate: int = 8000) -> ClipBatch:
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (2, frames, 3, height, width), generator=generator).float() / 255
    audio = torch.randint(-32767, 32768, (2, 1, samples), generator=generator).float() / 32767
    return ClipBatch(video=video, audio=audio, fps=frames * rate / samples, sample_rate=rate)


def _through_bytes(tokens: Tokens) -> Tokens:
    return payload.from_bytes([payload.to_bytes(tokens, clip) for clip in range(len(tokens))])


def test_identity_gives_back_8_bit_pixels_and_16_bit_samples_exactly() -> None:
    clips = _clips()
    recon = Identity().decode(_through_bytes(Identity().encode(clips)))
    assert recon.video is not None
    assert recon.audio is not None
    assert torch.equal(recon.video, clips.video)
    assert torch.equal(recon.audio, clips.audio)
    assert (recon.fps, recon.sample_rate) == (pytest.approx(clips.fps), clips.sample_rate)


@pytest.mark.parametrize("missing", ["video", "audio"])
def test_identity_takes_clips_of_one_modality(missing: str) -> None:
    whole = _clips()
    kept = {"video": whole.video, "audio": whole.audio, missing: None}
    recon = Identity().decode(_through_bytes(Identity().encode(ClipBatch(**kept, fps=whole.fps, sample_rate=whole.sample_rate))))
    assert getattr(recon, missing) is None
    other = "audio" if missing == "video" else "video"
    assert torch.equal(getattr(recon, other), kept[other])


def test_static_frame_repeats_the_mean_frame_to_a_grey_level() -> None:
    clips = _clips()
    recon = StaticFrame().decode(_through_bytes(StaticFrame().encode(clips)))
    assert clips.video is not None
    assert recon.video is not None
    expected = clips.video.mean(1, keepdim=True).expand_as(clips.video)
    assert (recon.video - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(recon.video[:, 0], recon.video[:, -1])
    assert recon.fps == pytest.approx(clips.fps)


def test_silence_is_zeros_of_the_clips_length_and_rate() -> None:
    clips = _clips()
    tokens = _through_bytes(Silence().encode(clips))
    recon = Silence().decode(tokens)
    assert tokens.codes["audio"].shape == (2, 1, 1)
    assert recon.audio is not None
    assert torch.equal(recon.audio, torch.zeros(2, 1, 3000))
    assert recon.sample_rate == 8000


def test_an_identity_payload_of_a_wrong_size_is_refused() -> None:
    tokens = Identity().encode(_clips())
    cut = Tokens(codes={"video": tokens.codes["video"][:, :, :-1]}, vocab_sizes={"video": 256}, duration_s=tokens.duration_s)
    with pytest.raises(AvbenchError, match="damaged"):
        Identity().decode(cut)
    with pytest.raises(AvbenchError, match="damaged"):
        StaticFrame().decode(cut)


def test_a_control_says_which_modality_it_lacks() -> None:
    with pytest.raises(AvbenchError, match="encodes video"):
        StaticFrame().encode(ClipBatch(audio=torch.zeros(1, 1, 100), fps=1.0, sample_rate=100))
