"""Rows without a skill to measure: the ceiling (identity) and the floors (static-frame, silence) of every table.

Frame count and size are not known to a decoder, so the video controls put them before the pixels: three numbers of two bytes.
"""

import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.tokenizer import TokenizerInfo
from avbench.tokenizers.edges import BYTE_VOCAB, audio_duration, channels_of, need_video, to_uint8, video_duration
from avbench.types import ClipBatch, Tokens

HEADER_CODES = 6  # frames, height and width, two bytes each
INT16_VOCAB = 65_536
FULL_SCALE = 32_767  # the int16 value of a sample of 1.0
MAX_SAMPLE_RATE = 2**20


class Identity:
    """Raw 8-bit pixels and 16-bit samples: exact for clips that come from such, the ceiling of every metric."""

    info = TokenizerInfo(name="identity", revision="1", modalities=frozenset({"video", "audio"}), kind="control")

    def encode(self, batch: ClipBatch) -> Tokens:
        """Streams "video" (B, 1, 6 + T*3*H*W) of bytes and "audio" (B, C, N) of int16 + 32768; a modality that is absent has none."""
        codes: dict[str, Tensor] = {}
        duration_s = 0.0
        if batch.audio is not None:
            codes["audio"] = (batch.audio.float() * FULL_SCALE).round().clamp(-32_768, 32_767).long() + 32_768
            duration_s = audio_duration(batch, batch.audio)
        if batch.video is not None:
            codes["video"] = _with_header(to_uint8(batch.video), batch.video.shape[1])
            duration_s = video_duration(batch, batch.video)
        vocabs = {"video": BYTE_VOCAB, "audio": INT16_VOCAB}
        return Tokens(codes=codes, vocab_sizes={name: vocabs[name] for name in codes}, duration_s=duration_s)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The clips again. Raises AvbenchError where the header does not fit the number of bytes."""
        video, audio = None, None
        fps, sample_rate = 0.0, 0
        if "video" in tokens.codes:
            frames, pixels = _split_header(tokens.codes["video"])
            video = pixels.unflatten(1, (frames, -1)).unflatten(2, (3, *_size(tokens.codes["video"]))).float() / 255
            fps = frames / tokens.duration_s
        if "audio" in tokens.codes:
            audio = (tokens.codes["audio"] - 32_768).float() / FULL_SCALE
            sample_rate = round(audio.shape[-1] / tokens.duration_s)
        return ClipBatch(video=video, audio=audio, fps=fps, sample_rate=sample_rate)


class StaticFrame:
    """The clip's mean frame, shown throughout: what a video tokenizer reaches that has learned nothing about motion."""

    info = TokenizerInfo(name="static-frame", revision="1", modalities=frozenset({"video"}), kind="control")

    def encode(self, batch: ClipBatch) -> Tokens:
        """Stream "video" (B, 1, 6 + 3*H*W) of bytes."""
        video = need_video(batch, "static-frame")
        codes = _with_header(to_uint8(video.float().mean(1, keepdim=True)), video.shape[1])
        return Tokens(codes={"video": codes}, vocab_sizes={"video": BYTE_VOCAB}, duration_s=video_duration(batch, video))

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Video (B, T, 3, H, W). Raises AvbenchError where the header does not fit the number of bytes."""
        codes = tokens.codes["video"]
        frames, pixels = _split_header(codes, stored_frames=1)
        frame = pixels.unflatten(1, (1, 3, *_size(codes))).float() / 255
        return ClipBatch(video=frame.repeat(1, frames, 1, 1, 1), fps=frames / tokens.duration_s, sample_rate=0)


class Silence:
    """Zeros for audio. Its one token a channel is the sample rate, which a decoder must know to make a second of it."""

    info = TokenizerInfo(name="silence", revision="1", modalities=frozenset({"audio"}), kind="control")

    def encode(self, batch: ClipBatch) -> Tokens:
        """Stream "audio" (B, 1, C)."""
        audio = channels_of(batch, "silence")
        if not 0 < batch.sample_rate < MAX_SAMPLE_RATE:
            raise AvbenchError(f"silence: a sample rate of {batch.sample_rate} Hz; below {MAX_SAMPLE_RATE} is possible")
        codes = torch.full((len(audio), 1, audio.shape[1]), batch.sample_rate, dtype=torch.int64, device=audio.device)
        return Tokens(codes={"audio": codes}, vocab_sizes={"audio": MAX_SAMPLE_RATE}, duration_s=audio_duration(batch, audio))

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Audio (B, C, N) of zeros."""
        codes = tokens.codes["audio"]
        sample_rate = int(codes[0, 0, 0])
        audio = torch.zeros(len(codes), codes.shape[2], round(sample_rate * tokens.duration_s), device=codes.device)
        return ClipBatch(audio=audio, fps=0.0, sample_rate=sample_rate)


def _with_header(pixels: Tensor, frames: int) -> Tensor:
    """uint8 (B, ...) -> codes (B, 1, 6 + ...), `frames`, height and width first."""
    sizes = (frames, *pixels.shape[-2:])
    if max(sizes) >= 2**16:
        raise AvbenchError(f"video of {sizes[0]} frames of {sizes[1]}x{sizes[2]}: each must be below 65,536")
    header = torch.tensor([byte for size in sizes for byte in divmod(size, 256)], device=pixels.device)
    return torch.cat([header.expand(len(pixels), -1), pixels.flatten(1).long()], dim=1).unsqueeze(1)


def _split_header(codes: Tensor, stored_frames: int | None = None) -> tuple[int, Tensor]:
    """Number of frames, and the pixels (B, frames*3*H*W)."""
    frames = _number(codes, 0)
    height, width = _size(codes)
    expected = HEADER_CODES + (stored_frames or frames) * 3 * height * width
    if (
        frames == 0
        or codes.shape[2] != expected
        or not torch.equal(codes[:, 0, :HEADER_CODES], codes[:1, 0, :HEADER_CODES].expand(len(codes), -1))
    ):
        raise AvbenchError(f"damaged payload: {codes.shape[2]} bytes do not hold {frames} frames of {height}x{width}")
    return frames, codes[:, 0, HEADER_CODES:]


def _size(codes: Tensor) -> tuple[int, int]:
    return _number(codes, 1), _number(codes, 2)


def _number(codes: Tensor, index: int) -> int:
    if codes.shape[2] < HEADER_CODES:
        raise AvbenchError(f"damaged payload: {codes.shape[2]} bytes, fewer than the header's {HEADER_CODES}")
    return int(codes[0, 0, 2 * index]) * 256 + int(codes[0, 0, 2 * index + 1])
