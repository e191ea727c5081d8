"""Standard codecs at a stated bit rate: H.264, H.265, VP9, AV1 and VVC for pictures, Opus for sound, and H.264 with Opus.

The rate is a promise about the payload of every clip: never above it (unless the codec cannot go so low), and close to it where the
content can use it. `bits_per_s` measures what was really spent.
"""

import re
from dataclasses import replace
from typing import ClassVar

import av
import torch

from avbench.composite import Composite
from avbench.errors import UsageError
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers import ffmpeg, opus, video_codec
from avbench.tokenizers.edges import audio_duration, bytes_tokens, channels_of, clip_bytes, need_video, stack, to_uint8, video_duration
from avbench.tokenizers.video_codec import VideoCodec
from avbench.types import ClipBatch, Tokens

VIDEO_RATE, OPUS_RATE = "20k", "6k"  # the defaults
MAX_RATE = 100_000_000
_UNITS = {"": 1, "k": 1000, "m": 1_000_000}


class Video:
    """A video codec at a stated rate; which, its subclasses say."""

    codec: ClassVar[VideoCodec]
    name: ClassVar[str]

    def __init__(self, options: TokenizerOptions) -> None:
        """Variant: the bit rate. Raises UsageError for anything else, or a checkpoint; AvbenchError where the extra `codecs` is missing."""
        rate = _only_variant(options, self.name, VIDEO_RATE)
        self.bit_rate = parse_rate(rate, f"{self.name}@{VIDEO_RATE}")
        encoded_by = f"ffmpeg-{ffmpeg.version(self.codec.title)}-" if self.codec.format else ""
        self.info = TokenizerInfo(
            name=f"{self.name}@{rate}",
            revision=f"{self.codec.version}-{self.codec.library}-{encoded_by}{_library()}-{self.bit_rate}bps",
            modalities=frozenset({"video"}),
            kind="classical",
            entropy_coded=frozenset({"video"}),
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Stream "video": bytes of an elementary stream."""
        video = need_video(batch, self.name)
        duration_s = video_duration(batch, video)
        budget = int(self.bit_rate * duration_s / 8)
        streams = [video_codec.encode_within(self.codec, clip, batch.fps, budget) for clip in to_uint8(video)]
        return bytes_tokens("video", streams, duration_s)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Video (B, T, 3, H, W). Raises AvbenchError for a damaged stream."""
        clips = [video_codec.decode(self.codec, clip_bytes(tokens, "video", clip)) for clip in range(len(tokens))]
        video = stack(clips, self.name).to(tokens.codes["video"].device).float() / 255
        return ClipBatch(video=video, fps=video.shape[1] / tokens.duration_s, sample_rate=0)


class H264(Video):
    """`h264@20k`: libx264 at 20 kbit/s."""

    codec, name = video_codec.H264, "h264"


class H265(Video):
    """`h265@20k`: libx265 at 20 kbit/s."""

    codec, name = video_codec.H265, "h265"


class VP9(Video):
    """`vp9@20k`: libvpx at 20 kbit/s."""

    codec, name = video_codec.VP9, "vp9"


class AV1(Video):
    """`av1@20k`: libaom at 20 kbit/s (extra `codecs`)."""

    codec, name = video_codec.AV1, "av1"


class VVC(Video):
    """`vvc@20k`: vvenc at 20 kbit/s, 4:2:0 (extra `codecs`)."""

    codec, name = video_codec.VVC, "vvc"


class Opus:
    """`opus@6k`: libopus at 6 kbit/s, mono or stereo as the split is (the rate is of both channels together)."""

    def __init__(self, options: TokenizerOptions) -> None:
        """Variant: the bit rate. Raises UsageError for anything else, a checkpoint, or more than two channels."""
        rate = _only_variant(options, "opus", OPUS_RATE)
        self.channels = options.protocol.channels if options.protocol else 1
        if self.channels not in opus.LAYOUTS:
            raise UsageError(f"opus takes mono and stereo, not {self.channels} channels")
        self.bit_rate = parse_rate(rate, "opus@6k")
        self.info = TokenizerInfo(
            name=f"opus@{rate}",
            revision=f"libopus-{_library()}-{self.bit_rate}bps",
            modalities=frozenset({"audio"}),
            kind="classical",
            entropy_coded=frozenset({"audio"}),
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Stream "audio": sample rate and Opus packets."""
        audio = channels_of(batch, "opus")
        duration_s = audio_duration(batch, audio)
        budget = int(self.bit_rate * duration_s / 8)
        return bytes_tokens("audio", [opus.encode_within(clip, batch.sample_rate, budget, duration_s) for clip in audio], duration_s)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Audio (B, C, N). Raises AvbenchError for a damaged payload."""
        clips = [opus.decode(clip_bytes(tokens, "audio", clip), tokens.duration_s, self.channels) for clip in range(len(tokens))]
        audio: torch.Tensor = stack([samples for samples, _ in clips], "opus")
        return ClipBatch(audio=audio.to(tokens.codes["audio"].device), fps=0.0, sample_rate=clips[0][1])


class H264Opus(Composite):
    """`h264@20k-opus@6k`: both."""

    def __init__(self, options: TokenizerOptions) -> None:
        """Variants: none, or both bit rates. Raises UsageError for anything else, or a checkpoint."""
        rates = options.variants or (VIDEO_RATE, OPUS_RATE)
        if len(rates) != 2:
            raise UsageError(f"h264-opus takes two bit rates or none, not {len(rates)}; for example h264@20k-opus@6k")
        parts = [replace(options, variants=(rate,)) for rate in rates]
        super().__init__(H264(parts[0]), Opus(parts[1]))
        self.info = replace(self.info, name=f"h264@{rates[0]}-opus@{rates[1]}")


def parse_rate(text: str, example: str) -> int:
    """`20k` -> 20,000 bit/s; also `1.5m` and `900`. Raises UsageError with `example` for anything else."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([km]?)", text.lower())
    rate = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if not 0 < rate <= MAX_RATE:
        raise UsageError(f'"{text}" is not a bit rate above 0 and up to {MAX_RATE // 1_000_000}m bit/s; for example {example}')
    return rate


def _only_variant(options: TokenizerOptions, name: str, default: str) -> str:
    """The one variant, or the default. Raises UsageError for more, or for a checkpoint."""
    if options.checkpoint is not None:
        raise UsageError(f"{name} has no weights, so --checkpoint does not apply")
    if len(options.variants) > 1:
        raise UsageError(f"{name} takes one bit rate, not {', '.join(options.variants)}; for example {name}@{default}")
    return options.variants[0] if options.variants else default


def _library() -> str:
    """libavcodec's version: its wheel carries libx264, libx265, libvpx and libopus, whose own versions it does not tell."""
    return ".".join(map(str, av.library_versions["libavcodec"]))
