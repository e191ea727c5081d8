"""What several tokenizers do at their edges: take a modality out of a batch, and carry byte strings as codes."""

import numpy as np
import torch
import torchaudio
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.protocol import Protocol
from avbench.types import ClipBatch, Tokens

BYTE_VOCAB = 256


def need_video(batch: ClipBatch, name: str) -> Tensor:
    """Video (B, T, 3, H, W) of the batch. Raises AvbenchError where there is none."""
    if batch.video is None:
        raise AvbenchError(f"{name} encodes video, but these clips have none")
    return batch.video


def need_mono(batch: ClipBatch, name: str) -> Tensor:
    """Audio of the batch without its channel axis: (B, N). Raises AvbenchError where there is none or it is not mono."""
    if batch.audio is None:
        raise AvbenchError(f"{name} encodes audio, but these clips have none")
    if batch.audio.shape[1] != 1:
        raise AvbenchError(f"{name} encodes mono audio; these clips have {batch.audio.shape[1]} channels")
    return batch.audio[:, 0]


def channels_of(batch: ClipBatch, name: str) -> Tensor:
    """Audio (B, C, N) of the batch. Raises AvbenchError where there is none."""
    if batch.audio is None:
        raise AvbenchError(f"{name} encodes audio, but these clips have none")
    return batch.audio


def at_split_rate(audio: Tensor, rate: int, duration_s: float, protocol: Protocol) -> Tensor:
    """(..., N) at `rate` Hz -> at the split's, cut to the clips' length, in [-1, 1] (resampling overshoots)."""
    if rate == protocol.sample_rate:
        return audio
    audio = torchaudio.functional.resample(audio, rate, protocol.sample_rate)
    return audio[..., : round(duration_s * protocol.sample_rate)].clamp(-1, 1)


def video_duration(batch: ClipBatch, video: Tensor) -> float:
    """Seconds of video: frames over frame rate."""
    return video.shape[1] / batch.fps


def audio_duration(batch: ClipBatch, audio: Tensor) -> float:
    """Seconds of audio: samples over sample rate."""
    return audio.shape[-1] / batch.sample_rate


def to_uint8(video: Tensor) -> Tensor:
    """Pixels in [0, 1] -> uint8, exact for those that were x/255."""
    return (video.float() * 255).round().clamp(0, 255).to(torch.uint8)


def bytes_tokens(stream: str, clips: list[bytes], duration_s: float) -> Tokens:
    """One byte string a clip, as codes (B, 1, longest) with vocab 256 and each clip's own length."""
    codes = torch.zeros(len(clips), 1, max(map(len, clips), default=0), dtype=torch.int64)
    for row, data in zip(codes, clips, strict=True):
        row[0, : len(data)] = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).astype(np.int64))
    lengths = torch.tensor([len(data) for data in clips], dtype=torch.int64)
    return Tokens(codes={stream: codes}, vocab_sizes={stream: BYTE_VOCAB}, duration_s=duration_s, lengths={stream: lengths})


def clip_bytes(tokens: Tokens, stream: str, clip: int) -> bytes:
    """The byte string of one clip that `bytes_tokens` stored."""
    return bytes(tokens.codes[stream][clip, 0, : tokens.length(stream, clip)].cpu().to(torch.uint8).numpy())


def stack(clips: list[Tensor], name: str) -> Tensor:
    """Decoded clips as a batch. Raises AvbenchError where their shapes differ, which clips of one split never do."""
    shapes = {tuple(clip.shape) for clip in clips}
    if len(shapes) != 1:
        raise AvbenchError(f"{name}: clips of one batch decoded to the shapes {sorted(shapes)}; one of the payloads is damaged")
    return torch.stack(clips)
