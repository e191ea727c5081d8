"""The linear control at equal tokens: PCA of patches and a k-means codebook, one for video and one for mels.

`pca-vq@256x12`: 256 video tokens of 12 bits; `pca-vq@256x12@480x10` also says how many audio tokens of how many bits. Where the patch
matters it is named itself: `pca-vq@1x32x32x12@80x3x12` is 256 video tokens and 128 audio tokens too. A learned tokenizer that is below this
row at its own number of tokens has not been trained. It is fitted on first use and kept in the cache.
"""

import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from avbench.errors import AvbenchError, UsageError
from avbench.nn.mel import HOP, NUM_MELS, SAMPLE_RATE, log_mel
from avbench.nn.patches import mel_to_patches, patches_to_mel, patches_to_video, video_to_patches
from avbench.paths import cache_root
from avbench.protocol import Protocol, require
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.edges import at_split_rate, audio_duration, need_mono, need_video, video_duration
from avbench.tokenizers.mel_vocoder import to_mel_rate, trim
from avbench.tokenizers.pca_vq_state import PcaVqConfig, PcaVqState, fit, load, pad_mel, parse_config, save
from avbench.tokenizers.vocoders import DEFAULT_VOCODER, load_vocoder
from avbench.types import ClipBatch, Tokens
from avbench.weights import sha256_of

__all__ = ["PcaVq", "PcaVqConfig", "PcaVqState", "fit", "load", "save"]

TRAIN_SPLIT = "arcade-train"
TRAIN_CLIPS = 404  # four of each of its 101 games
FIT_BATCH = 8
FIT_VERSION = 1  # raise it when `fit` changes: a fit of older code in somebody's cache must not pass for this one


class PcaVq:
    """Video and audio through `LinearVq`; audio as mel patches, made sound by the default vocoder."""

    name = "pca-vq"

    def __init__(self, options: TokenizerOptions) -> None:
        """Variants: see above. A checkpoint is a fitted file (`save`). Raises UsageError for a variant that is not offered."""
        file = options.checkpoint
        if file is not None and options.variants:
            raise UsageError("pca-vq: a fitted file says itself how many tokens it makes; give --checkpoint or a variant, not both")
        file = file or fitted_file(parse_config(options.variants), options.seed)
        state = load(file)
        if state.scenes:
            raise AvbenchError(f"{file} was fitted to what scenes leave of clips: it belongs to scene-vq")
        self._hold(state, f"pca-vq@{state.config}", sha256_of(file)[:16], options)

    def _hold(self, state: PcaVqState, name: str, revision: str, options: TokenizerOptions) -> None:
        frames, size, _ = state.shape
        require(options.protocol, name, num_frames=frames, resolution=size, channels=1)
        self.state, self.protocol = state.to(options.device), options.protocol or Protocol()
        self.vocoder = load_vocoder(DEFAULT_VOCODER, options.device)
        self.info = TokenizerInfo(
            name=name,
            revision=f"{revision}-{self.vocoder.revision}",
            modalities=frozenset({"video", "audio"}),
            sample_rate=SAMPLE_RATE,
            resolution=state.shape[1],
            parameters=state.video.parameters + state.audio.parameters,
            trained_on=state.trained_on,
            kind="linear",
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Streams "video" and "audio", (B, 1, L) each. Raises AvbenchError for clips of another size than it was fitted to."""
        video, audio = need_video(batch, self.name), need_mono(batch, self.name)
        if (video.shape[1], *video.shape[3:]) != self.state.shape:
            size, fitted = ("x".join(map(str, s)) for s in ((video.shape[1], *video.shape[3:]), self.state.shape))
            raise AvbenchError(f"{self.name} was fitted to clips of {fitted}, these are {size}; fit it on clips like these (--checkpoint)")
        if abs(video_duration(batch, video) - audio_duration(batch, audio)) > 1 / SAMPLE_RATE:
            raise AvbenchError(f"{self.name}: video and audio of these clips differ in length")
        codes = {"video": self._encode_video(video), "audio": self._encode_audio(to_mel_rate(audio, batch.sample_rate))}
        vocabs = {"video": len(self.state.video.codebook), "audio": len(self.state.audio.codebook)}
        return Tokens(codes=codes, vocab_sizes=vocabs, duration_s=video_duration(batch, video))

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Video (B, T, 3, H, W) and audio (B, 1, N) at 24 kHz. Raises AvbenchError where the numbers of tokens do not fit."""
        state, (frames, _, _) = self.state, self.state.shape
        expected = state.config.num_tokens(state.shape, self._mel_frames(tokens.duration_s))
        found = tuple(tokens.codes[name].shape[2] for name in ("video", "audio"))
        if found != expected:
            raise AvbenchError(f"damaged payload: {found} video and audio tokens, {expected} make {tokens.duration_s:g} s")
        video = self._decode_video(tokens)
        mels = [patches_to_mel(state.audio.decode(c), state.config.audio_patch, NUM_MELS) for c in tokens.codes["audio"]]
        audio = trim(self.vocoder(torch.cat(mels)), tokens.duration_s)
        audio = at_split_rate(audio, SAMPLE_RATE, tokens.duration_s, self.protocol)[:, None]
        return ClipBatch(video=video.clamp(0, 1), audio=audio, fps=frames / tokens.duration_s, sample_rate=self.protocol.sample_rate)

    def _encode_video(self, video: Tensor) -> Tensor:
        """A clip at a time: the same products whatever the batch."""
        patch = self.state.config.video_patch
        clips = (video_to_patches(clip[None].float(), patch)[0] for clip in video)
        return torch.stack([self.state.video.encode(patches) for patches in clips])[:, None]

    def _decode_video(self, tokens: Tokens) -> Tensor:
        state = self.state
        clips = [patches_to_video(state.video.decode(codes[0]), state.config.video_patch, state.shape) for codes in tokens.codes["video"]]
        return torch.cat(clips)

    def _encode_audio(self, audio: Tensor) -> Tensor:
        patch = self.state.config.audio_patch
        clips = (mel_to_patches(pad_mel(log_mel(clip[None]), patch), patch)[0] for clip in audio)
        return torch.stack([self.state.audio.encode(patches) for patches in clips])[:, None]

    def _mel_frames(self, duration_s: float) -> int:
        """Frames of a mel of so many seconds, filled up to whole patches."""
        width = self.state.config.audio_patch[1]
        frames = math.ceil(round(duration_s * SAMPLE_RATE) / HOP)
        return math.ceil(frames / width) * width


def fitted_file(config: PcaVqConfig, seed: int) -> Path:
    """The file fitted on the first 404 clips of arcade-train; fits it where it is not in the cache."""
    from avbench.data import splits

    split = splits.load(TRAIN_SPLIT, limit=TRAIN_CLIPS)
    file = cache_root() / "fitted" / f"pca-vq-{config}-seed{seed}-fit{FIT_VERSION}-{split.checksum[:12]}.safetensors"
    if not file.exists():
        print(f"fitting pca-vq@{config} to {len(split.clips)} clips of {TRAIN_SPLIT}, once (about a minute)", file=sys.stderr)
        clips = (batch.clips for batch in splits.batches(split, FIT_BATCH) if batch.clips is not None)
        save(fit(clips, config, seed, f"{TRAIN_SPLIT} {split.checksum[:12]}"), file)
    return file
