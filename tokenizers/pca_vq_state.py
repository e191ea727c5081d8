"""What `pca-vq` knows: its configuration, fitting it to clips, and the fitted file."""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from avbench.artifact import read_file, write_file
from avbench.errors import AvbenchError, UsageError
from avbench.nn import linear_vq
from avbench.nn.linear_vq import LinearVq
from avbench.nn.mel import MIN_LOG, NUM_MELS, log_mel
from avbench.nn.patches import MelPatch, VideoPatch, mel_to_patches, video_to_patches
from avbench.tokenizers.edges import need_mono, need_video, to_uint8
from avbench.tokenizers.mel_vocoder import to_mel_rate
from avbench.types import ClipBatch

Patch = TypeVar("Patch", VideoPatch, MelPatch)
# Tokens of a 16x128x128 clip -> patch: frames, height, width.
VIDEO_PATCHES: dict[int, VideoPatch] = {
    64: (16, 16, 16),
    128: (8, 16, 16),
    256: (4, 16, 16),
    512: (2, 16, 16),
    1024: (4, 8, 8),
    2048: (2, 8, 8),
}
# Tokens of an 80x384 mel -> patch: bands, frames. 64, 96, 128, 192 and 384 are whole columns: a sound is a column that lasts.
AUDIO_PATCHES: dict[int, MelPatch] = {
    60: (16, 32),
    64: (80, 6),
    96: (80, 4),
    120: (16, 16),
    128: (80, 3),
    192: (80, 2),
    240: (16, 8),
    384: (80, 1),
    480: (8, 8),
    960: (8, 4),
}
SHAPE, MEL_SHAPE = (16, 128, 128), (NUM_MELS, 384)  # what the token counts of a variant are of
MAX_VALUES = 3 * 16 * 16 * 16  # in a patch
MAX_BITS = 14
MAX_CLIPS = 4096  # the clips are held as uint8 patches while fitting: 0.8 MB each
FORMAT = "pca-vq 1"


@dataclass(frozen=True, kw_only=True)
class PcaVqConfig:
    """Patch sizes and codebook sizes. `str()` of one that `parse_config` made is its variant: 256x12@120x12, or 1x32x32x12@80x3x12."""

    video_patch: VideoPatch = VIDEO_PATCHES[256]
    video_bits: int = 12
    audio_patch: MelPatch = AUDIO_PATCHES[120]
    audio_bits: int = 12

    def num_tokens(self, shape: tuple[int, int, int], mel_frames: int) -> tuple[int, int]:
        """Video tokens of a clip of `shape` (frames, height, width), and audio tokens of a mel of so many frames."""
        (t, h, w), (bands, frames) = self.video_patch, self.audio_patch
        return (shape[0] // t) * (shape[1] // h) * (shape[2] // w), (NUM_MELS // bands) * (mel_frames // frames)

    def variant(self, video_patches: dict[int, VideoPatch]) -> str:
        """The variant's text: numbers of tokens where the tables offer the patch, else the patch."""
        video, audio = self.num_tokens(SHAPE, MEL_SHAPE[1])
        video_text = _label(self.video_patch, video, video_patches)
        return f"{video_text}x{self.video_bits}@{_label(self.audio_patch, audio, AUDIO_PATCHES)}x{self.audio_bits}"

    def __str__(self) -> str:
        return self.variant(VIDEO_PATCHES)


@dataclass(frozen=True, kw_only=True)
class PcaVqState:
    """A fitted tokenizer. shape: frames, height and width of its clips.

    scenes: sha256 of the bank whose scenes were subtracted from the video, "" where none were; num_scenes: how many, of equal spans.
    """

    config: PcaVqConfig
    shape: tuple[int, int, int]
    trained_on: str
    video: LinearVq
    audio: LinearVq
    scenes: str = ""
    num_scenes: int = 1

    def to(self, device: torch.device | str) -> "PcaVqState":
        """The same on another device."""
        return replace(self, video=self.video.to(device), audio=self.audio.to(device))


def parse_config(
    variants: tuple[str, ...], *, name: str = "pca-vq", video_patches: dict[int, VideoPatch] = VIDEO_PATCHES, audio_tokens: int = 120
) -> PcaVqConfig:
    """("256x12", "120x10") -> its patches and bits; audio takes `audio_tokens` and the video's bits where none is named.

    A patch can be named itself, with its bits: ("1x32x32x12", "80x3x12"). Raises UsageError.
    """
    if len(variants) > 2:
        raise UsageError(f"{name} takes a video and an audio variant, not {len(variants)}; for example {name}@256x12@120x12")
    video_patch, video_bits = _parse(variants[0] if variants else "256x12", name, "video", video_patches, SHAPE, 3)
    audio = variants[1] if len(variants) > 1 else f"{audio_tokens}x{video_bits}"
    audio_patch, audio_bits = _parse(audio, name, "audio", AUDIO_PATCHES, MEL_SHAPE, 1)
    return PcaVqConfig(video_patch=video_patch, video_bits=video_bits, audio_patch=audio_patch, audio_bits=audio_bits)


def fit(batches: Iterable[ClipBatch], config: PcaVqConfig, seed: int, source: str = "clips of the user") -> PcaVqState:
    """PCA and codebooks from clips with video and audio; the same clips in the same order and the same seed give the same state.

    Memory grows with the clips (0.8 MB each). `source` says whose clips they are, for `trained_on`.
    Raises AvbenchError for no clips, more than 4096, clips of several sizes, or too few for the codebook.
    """
    video: list[Tensor] = []
    audio: list[Tensor] = []
    shapes: set[tuple[int, int, int]] = set()
    for batch in batches:
        frames = need_video(batch, "pca-vq")
        mel = pad_mel(log_mel(to_mel_rate(need_mono(batch, "pca-vq"), batch.sample_rate)), config.audio_patch)
        video += video_to_patches(to_uint8(frames), config.video_patch)
        audio += mel_to_patches(mel, config.audio_patch)
        shapes.add((frames.shape[1], frames.shape[3], frames.shape[4]))
        if len(video) > MAX_CLIPS or len(shapes) != 1:
            raise AvbenchError(f"pca-vq is fitted to at most {MAX_CLIPS} clips of one size; these are {len(video)} of {sorted(shapes)}")
    if not video:
        raise AvbenchError("pca-vq: no clips to fit to")
    return PcaVqState(
        config=config,
        shape=shapes.pop(),
        trained_on=f"{source} ({len(video)} clips)",
        video=linear_vq.fit(torch.cat(video), 1 / 255, 2**config.video_bits, seed),
        audio=linear_vq.fit(torch.cat(audio), 1.0, 2**config.audio_bits, seed),
    )


def pad_mel(mel: Tensor, patch: MelPatch) -> Tensor:
    """(B, 80, F) with silent frames up to whole patches."""
    return F.pad(mel, (0, -mel.shape[-1] % patch[1]), value=MIN_LOG)


def save(state: PcaVqState, file: Path) -> None:
    """Write a fitted file, all of it or nothing."""
    about: dict[str, object] = {"format": FORMAT, "config": asdict(state.config), "shape": state.shape, "trained_on": state.trained_on}
    about |= {"scenes": state.scenes} if state.scenes else {}
    about |= {"num_scenes": state.num_scenes} if state.num_scenes > 1 else {}
    write_file(file, _tensors(state), about)


def load(file: Path) -> PcaVqState:
    """Read a fitted file. Raises AvbenchError where it is damaged or of another kind."""
    try:
        about, tensors = read_file(file)
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ValueError(f"it does not say that it is {FORMAT!r}")
        return _state(about, tensors)
    except (AvbenchError, ValueError, KeyError, TypeError) as error:
        raise AvbenchError(f"{file} is not a fitted pca-vq: {error}; remove it and it is fitted again") from error


def _parse(text: str, name: str, stream: str, offered: dict[int, Patch], size: tuple[int, ...], channels: int) -> tuple[Patch, int]:
    """ "256x12" -> (the patch that makes 256 tokens, 12); "4x16x16x12" -> ((4, 16, 16), 12)."""
    numbers = [int(number) for number in text.split("x")] if re.fullmatch(r"\d{1,5}(x\d{1,5})+", text) else [0]
    *patch, bits = numbers
    if len(patch) == 1 and patch[0] in offered and 1 <= bits <= MAX_BITS:
        return offered[patch[0]], bits
    whole = len(patch) == len(size) and all(0 < part <= side and side % part == 0 for side, part in zip(size, patch, strict=True))
    if whole and math.prod(patch) * channels <= MAX_VALUES and 1 <= bits <= MAX_BITS:
        return tuple(patch), bits  # type: ignore[return-value]
    counts, sides = ", ".join(map(str, offered)), "x".join(map(str, size))
    example = "x".join(map(str, [*offered[min(offered)], 12]))
    raise UsageError(
        f'{name}: "{text}" is not {stream} TOKENSxBITS, nor a PATCHxBITS that cuts {sides} into whole parts of at most '
        f"{MAX_VALUES // channels} pixels; tokens: {counts}; bits: 1 to {MAX_BITS}; for example {max(offered)}x12 or {example}"
    )


def _label(patch: Patch, tokens: int, offered: dict[int, Patch]) -> str:
    return str(tokens) if offered.get(tokens) == patch else "x".join(map(str, patch))


def _tensors(state: PcaVqState) -> dict[str, Tensor]:
    parts = {"video": state.video, "audio": state.audio}
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in vars(part).items()}


def _state(about: dict[str, object], tensors: dict[str, Tensor]) -> PcaVqState:
    """The state, its shapes checked. Raises ValueError, KeyError or TypeError where they do not fit."""
    raw, shape = about["config"], about["shape"]
    if not isinstance(raw, dict) or not isinstance(shape, list) or len(shape) != 3:
        raise ValueError("its description is incomplete")
    config = PcaVqConfig(
        video_patch=_sizes(raw["video_patch"], 3),  # type: ignore[arg-type]
        video_bits=int(raw["video_bits"]),
        audio_patch=_sizes(raw["audio_patch"], 2),  # type: ignore[arg-type]
        audio_bits=int(raw["audio_bits"]),
    )
    t, h, w = config.video_patch
    video = _part(tensors, "video", 3 * t * h * w, config.video_bits)
    audio = _part(tensors, "audio", config.audio_patch[0] * config.audio_patch[1], config.audio_bits)
    frames, height, width = _sizes(shape, 3)
    if frames % t or height % h or width % w:
        raise ValueError(f"clips of {frames}x{height}x{width} are not whole patches")
    (num_scenes,) = _sizes([about.get("num_scenes", 1)], 1)
    if frames % num_scenes:
        raise ValueError(f"{frames} frames are not {num_scenes} equal spans")
    return PcaVqState(
        config=config,
        shape=(frames, height, width),
        trained_on=str(about["trained_on"]),
        video=video,
        audio=audio,
        scenes=str(about.get("scenes", "")),
        num_scenes=num_scenes,
    )


def _sizes(values: object, count: int) -> tuple[int, ...]:
    if not isinstance(values, list) or len(values) != count or not all(isinstance(v, int) and 0 < v < 2**16 for v in values):
        raise ValueError(f"{values} are not {count} sizes")
    return tuple(values)


def _part(tensors: dict[str, Tensor], name: str, dimensions: int, bits: int) -> LinearVq:
    mean, components, codebook = (tensors[f"{name}.{key}"] for key in ("mean", "components", "codebook"))
    rank = components.shape[-1]
    fits = (mean.shape, components.shape, codebook.shape) == ((dimensions,), (dimensions, rank), (2**bits, rank))
    if not fits or any(x.dtype != torch.float32 or not x.isfinite().all() for x in (mean, components, codebook)):
        raise ValueError(f"the {name} tensors have wrong shapes or values")
    return LinearVq(mean=mean, components=components, codebook=codebook)
