"""A control that has learned nothing but its training clips: one token names the nearest mean frame, one the nearest sound.

What a learned tokenizer must beat to have done more than recognise the scene. `nearest-train@6144`: only the first 6,144 clips.
"""

import math

from avbench.errors import AvbenchError, UsageError
from avbench.nn.mel import HOP, SAMPLE_RATE, log_mel
from avbench.protocol import Protocol, require
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.banks import TRAIN_CLIPS, bank_file, load_bank, source
from avbench.tokenizers.edges import at_split_rate, audio_duration, need_mono, need_video, video_duration
from avbench.tokenizers.mel_vocoder import to_mel_rate, trim
from avbench.tokenizers.vocoders import DEFAULT_VOCODER, load_vocoder
from avbench.types import ClipBatch, Tokens
from avbench.weights import sha256_of

FRAMES = 16  # that a decoder shows: the protocol's


class NearestTrain:
    """Mean frames and mels of arcade-train, both compared by Euclidean distance; the mel through the default vocoder."""

    def __init__(self, options: TokenizerOptions) -> None:
        """Variant: number of training clips. A checkpoint is a folder with scenes.safetensors and mels.safetensors (`banks.save_bank`)."""
        clips = _clips(options)
        if options.checkpoint is None:
            scenes, mels = bank_file("scenes", clips), bank_file("mels", clips)
        else:
            scenes, mels = options.checkpoint / "scenes.safetensors", options.checkpoint / "mels.safetensors"
        self.scenes = load_bank(scenes, "scenes").to(options.device)
        self.mels = load_bank(mels, "mels").to(options.device)
        self.vocoder, self.protocol = load_vocoder(DEFAULT_VOCODER, options.device), options.protocol or Protocol()
        size = self.scenes.items.shape[-1]
        require(options.protocol, "nearest-train", num_frames=FRAMES, resolution=size, duration_s=Protocol().duration_s, channels=1)
        self.info = TokenizerInfo(
            name="nearest-train" if clips == TRAIN_CLIPS else f"nearest-train@{clips}",
            revision=f"{sha256_of(scenes)[:8]}-{sha256_of(mels)[:8]}-{self.vocoder.revision}",
            modalities=frozenset({"video", "audio"}),
            sample_rate=SAMPLE_RATE,
            resolution=self.scenes.items.shape[-1],
            parameters=self.scenes.items.numel() + self.mels.items.numel(),
            trained_on=source(clips) if options.checkpoint is None else f"clips of the user ({len(self.scenes)} clips)",
            kind="control",
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Streams "video" and "audio", (B, 1, 1) each. Raises AvbenchError for clips of another size or length."""
        video, audio = need_video(batch, "nearest-train"), need_mono(batch, "nearest-train")
        mel_frames = math.ceil(round(video_duration(batch, video) * SAMPLE_RATE) / HOP)
        size, fitted = (FRAMES, *self.scenes.items.shape[1:], self.mels.items.shape[-1]), (*video.shape[1:], mel_frames)
        if size != fitted:
            raise AvbenchError(f"nearest-train: frames, channels, height, width and mel frames of these clips are {fitted}, its own {size}")
        if abs(video_duration(batch, video) - audio_duration(batch, audio)) > 1 / SAMPLE_RATE:
            raise AvbenchError("nearest-train: video and audio of these clips differ in length")
        mel = log_mel(to_mel_rate(audio, batch.sample_rate))
        codes = {"video": self.scenes.encode(video.float().mean(1)), "audio": self.mels.encode(mel[:, None])}
        return Tokens(
            codes={name: code[:, None, None] for name, code in codes.items()},
            vocab_sizes={"video": len(self.scenes), "audio": len(self.mels)},
            duration_s=video_duration(batch, video),
        )

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Video (B, 16, 3, H, W) and audio (B, 1, N) at 24 kHz."""
        pictures = self.scenes.decode(tokens.codes["video"][:, 0, 0].to(self.scenes.items.device))
        mels = self.mels.decode(tokens.codes["audio"][:, 0, 0].to(self.mels.items.device))[:, 0]
        audio = trim(self.vocoder(mels), tokens.duration_s)
        video = pictures[:, None].repeat(1, FRAMES, 1, 1, 1)
        audio = at_split_rate(audio, SAMPLE_RATE, tokens.duration_s, self.protocol)[:, None]
        return ClipBatch(video=video, audio=audio, fps=FRAMES / tokens.duration_s, sample_rate=self.protocol.sample_rate)


def _clips(options: TokenizerOptions) -> int:
    """The number of training clips that the variant asks for. Raises UsageError."""
    if not options.variants:
        return TRAIN_CLIPS
    text = options.variants[0]
    if options.checkpoint is not None or len(options.variants) > 1 or not text.isdecimal() or not 2 <= int(text) <= TRAIN_CLIPS:
        raise UsageError(
            f"nearest-train takes one number of training clips, 2 to {TRAIN_CLIPS}, or a checkpoint; for example nearest-train@6144"
        )
    return int(text)
