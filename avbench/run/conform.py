"""Is what came back a clip of the split? Checked, never guessed: what a decoder gets wrong fails the clip and says what was seen."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.task import MODALITIES
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

SLACK = 0.01  # beyond [0, 1] or [-1, 1]: a resampler's or half precision's overshoot is clamped, more is another range


def check_info(info: TokenizerInfo) -> None:
    """Raises AvbenchError for facts that a row, an id or the checks below could not be made of."""
    if not isinstance(info, TokenizerInfo):
        raise AvbenchError(f"info is {type(info).__name__}, not TokenizerInfo")
    for name in ("name", "revision", "trained_on", "kind"):
        text = getattr(info, name)
        if not isinstance(text, str) or not text.isprintable():
            raise AvbenchError(f"info.{name} is {text!r}; one line of printable text is needed")
    if not info.name or not info.revision:
        raise AvbenchError(f"info.name ({info.name!r}) and info.revision ({info.revision!r}) must not be empty")
    if not isinstance(info.modalities, frozenset | set) or not info.modalities or info.modalities - MODALITIES:
        raise AvbenchError(f'info.modalities is {info.modalities!r}; it must be a frozenset of "video", "audio" or both')
    if type(info.parameters) is not int or info.parameters < 0:
        raise AvbenchError(f"info.parameters is {info.parameters!r}; an int of 0 or more is needed")
    for name in ("sample_rate", "resolution", "fps"):
        number, whole = getattr(info, name), name != "fps"
        if number is not None and not (type(number) in ((int,) if whole else (int, float)) and 0 < number < 2**31):
            raise AvbenchError(f"info.{name} is {number!r}; {'an int' if whole else 'a number'} above 0, or None, is needed")
    lengths = info.stream_lengths
    if lengths is not None and not (
        isinstance(lengths, Mapping) and all(type(length) is int and length > 0 for length in lengths.values())
    ):
        raise AvbenchError(f"info.stream_lengths is {lengths!r}; it says how many positions each stream has, in ints above 0")
    if not isinstance(info.entropy_coded, frozenset | set) or not all(isinstance(name, str) for name in info.entropy_coded):
        raise AvbenchError(f"info.entropy_coded is {info.entropy_coded!r}; it must be a frozenset of names of streams")
    if info.shipped_generator is not None and not isinstance(info.shipped_generator, Path):
        raise AvbenchError(f"info.shipped_generator is {info.shipped_generator!r}; a Path, or None, is needed")


def check_duration(tokens: Tokens, reference: ClipBatch) -> None:
    """Raises AvbenchError where the tokens claim another length than the clips have: rates would be of that length."""
    duration = duration_s(reference)
    if abs(tokens.duration_s - duration) > 1e-4 * duration:
        raise AvbenchError(f"the tokens say that a clip lasts {tokens.duration_s:g} s; the split's last {duration:g} s")


def duration_s(clips: ClipBatch) -> float:
    """Seconds of a clip, by its frames, or by its samples where it has none."""
    if clips.video is not None:
        return clips.video.shape[1] / clips.fps
    assert clips.audio is not None
    return clips.audio.shape[2] / clips.sample_rate


def most_codes(clips: ClipBatch) -> int:
    """More codes than this are no tokens of a clip: twice the numbers that it has itself, picture and sound."""
    return sum(2 * part[0].numel() for part in (clips.video, clips.audio) if part is not None)


def conform(reference: ClipBatch, recon: ClipBatch, modalities: frozenset[str]) -> ClipBatch:
    """`recon` with the reference's ids, on its device, audio trimmed. Raises AvbenchError where it does not fit."""
    if not isinstance(recon, ClipBatch):
        raise AvbenchError(f"decode returned {type(recon).__name__}, not ClipBatch")
    video = _video(reference, recon) if "video" in modalities else None
    audio = _audio(reference, recon) if "audio" in modalities else None
    return replace(
        recon, ids=reference.ids, labels=reference.labels, video=video, audio=audio, fps=reference.fps, sample_rate=reference.sample_rate
    )


def _video(reference: ClipBatch, recon: ClipBatch) -> Tensor:
    assert reference.video is not None
    if recon.video is None:
        raise AvbenchError("decode returned no video, though the tokenizer's info declares it")
    if recon.video.shape != reference.video.shape:
        raise AvbenchError(f"decoded video has shape {tuple(recon.video.shape)}, the reference {tuple(reference.video.shape)}")
    if abs(recon.fps - reference.fps) > 1e-4 * reference.fps:
        raise AvbenchError(f"decoded video is at {recon.fps:g} frames a second, the split at {reference.fps:g}")
    return _in_range(recon.video.to(reference.video.device), "video", 0.0)


def _audio(reference: ClipBatch, recon: ClipBatch) -> Tensor:
    assert reference.audio is not None
    if recon.audio is None:
        raise AvbenchError("decode returned no audio, though the tokenizer's info declares it")
    if recon.sample_rate != reference.sample_rate:
        raise AvbenchError(f"decoded audio is at {recon.sample_rate} Hz, the split at {reference.sample_rate} Hz")
    wanted = reference.audio.shape
    if recon.audio.ndim != 3 or recon.audio.shape[:2] != wanted[:2] or recon.audio.shape[2] < wanted[2]:
        raise AvbenchError(f"decoded audio has shape {tuple(recon.audio.shape)}, the reference {tuple(wanted)}; only longer is trimmed")
    return _in_range(recon.audio[..., : wanted[2]].to(reference.audio.device), "audio", -1.0)


def _in_range(x: Tensor, name: str, lowest: float) -> Tensor:
    """Float32 in [lowest, 1]. Raises AvbenchError for integers, NaN, and values that are of another range."""
    low, high = (float(end) for end in x.aminmax()) if x.dtype != torch.bool else (0.0, 1.0)
    if not x.is_floating_point():
        raise AvbenchError(
            f"decoded {name} is {str(x.dtype).removeprefix('torch.')} from {low:g} to {high:g}; floats in [{lowest:g}, 1] belong there"
        )
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise AvbenchError(f"decoded {name} has {bad:,} values that are NaN or infinite")
    if low < lowest - SLACK or high > 1 + SLACK:
        raise AvbenchError(f"decoded {name} goes from {low:.4g} to {high:.4g}; [{lowest:g}, 1] is its range (clamp it where it is made)")
    return x.float().clamp(lowest, 1)
