"""Clip -> tokens -> bytes -> tokens -> clip: the part of a run that a tokenizer could cheat in, and the checks that stop it."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.generate.interface import ClipGenerator
from avbench.run import payload
from avbench.tokenizer import Tokenizer
from avbench.types import ClipBatch, ClipFailure, Tokens


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Reference, reconstruction and tokens of the clips that went well, and the failures of the others."""

    reference: ClipBatch
    recon: ClipBatch
    tokens: Tokens
    seconds: dict[str, float]  # "encode", "payload", "decode"

    def select(self, clip: int) -> "Reconstruction":
        """One clip of it."""
        tokens = replace(
            self.tokens,
            codes={name: codes[[clip]] for name, codes in self.tokens.codes.items()},
            lengths=self.tokens.lengths and {name: lengths[[clip]] for name, lengths in self.tokens.lengths.items()},
        )
        return replace(self, reference=self.reference.select([clip]), recon=self.recon.select([clip]), tokens=tokens)


def reconstruct(tokenizer: Tokenizer, reference: ClipBatch) -> tuple[list[Reconstruction], list[ClipFailure]]:
    """The whole batch at once; if anything goes wrong, each clip alone, so that a failure costs its own clip only."""
    try:
        return [_pass(tokenizer, reference)], []
    except Exception as error:
        if len(reference) == 1:
            return [], [_failure(reference, error)]
    done: list[Reconstruction] = []
    failures: list[ClipFailure] = []
    for clip in range(len(reference)):
        ok, bad = reconstruct(tokenizer, reference.select([clip]))
        done += ok
        failures += bad
    return done, failures


def _failure(clip: ClipBatch, error: Exception) -> ClipFailure:
    text = str(error) if isinstance(error, AvbenchError) else f"{type(error).__name__}: {error}"
    return ClipFailure(id=clip.ids[0], label=clip.labels[0], reason=text[:500])


def _pass(tokenizer: Tokenizer, reference: ClipBatch) -> Reconstruction:
    device = next(part.device for part in (reference.video, reference.audio) if part is not None)
    clock = _Clock(device)
    with torch.inference_mode():
        given = reference.copy()  # a tokenizer that writes into its input must not change what it is measured against
        tokens = _attempt("encode", lambda: tokenizer.encode(given))
        clock.lap("encode")
        received = _through_bytes(tokens, len(reference), device)
        clock.lap("payload")
        recon = _attempt("decode", lambda: tokenizer.decode(received))
        clock.lap("decode")
    recon = conform(reference, recon, tokenizer.info.modalities)
    if isinstance(tokenizer, ClipGenerator):
        recon = tokenizer.paired(reference, recon)
    return Reconstruction(reference=reference, recon=recon, tokens=received, seconds=clock.seconds)


def _attempt(stage: str, call):  # type: ignore[no-untyped-def]
    try:
        return call()
    except Exception as error:
        raise AvbenchError(f"{stage} failed: {type(error).__name__}: {error}") from error


def _through_bytes(tokens: Tokens, batch_size: int, device: torch.device) -> Tokens:
    """What the decoder receives: bytes, and nothing else that encode may have known."""
    payload.check(tokens, batch_size)
    received = payload.from_bytes([payload.to_bytes(tokens, clip) for clip in range(batch_size)])
    return replace(received, codes={name: codes.to(device) for name, codes in received.codes.items()})


def conform(reference: ClipBatch, recon: ClipBatch, modalities: frozenset[str]) -> ClipBatch:
    """`recon` with the reference's ids, on its device, clamped to range, audio trimmed. Raises AvbenchError where it does not fit."""
    if not isinstance(recon, ClipBatch):
        raise AvbenchError(f"decode returned {type(recon).__name__}, not ClipBatch")
    video = _video(reference.video, recon.video) if "video" in modalities else None
    audio = _audio(reference, recon) if "audio" in modalities else None
    return replace(recon, ids=reference.ids, labels=reference.labels, video=video, audio=audio)


def _video(reference: Tensor | None, recon: Tensor | None) -> Tensor:
    assert reference is not None
    if recon is None:
        raise AvbenchError("decode returned no video, though the tokenizer's info declares it")
    if recon.shape != reference.shape:
        raise AvbenchError(f"decoded video has shape {tuple(recon.shape)}, the reference {tuple(reference.shape)}")
    return _finite(recon.to(reference.device), "video").clamp(0, 1)


def _audio(reference: ClipBatch, recon: ClipBatch) -> Tensor:
    assert reference.audio is not None
    if recon.audio is None:
        raise AvbenchError("decode returned no audio, though the tokenizer's info declares it")
    if recon.sample_rate != reference.sample_rate:
        raise AvbenchError(f"decoded audio is at {recon.sample_rate} Hz, the split at {reference.sample_rate} Hz")
    wanted = reference.audio.shape
    if recon.audio.ndim != 3 or recon.audio.shape[:2] != wanted[:2] or recon.audio.shape[2] < wanted[2]:
        raise AvbenchError(f"decoded audio has shape {tuple(recon.audio.shape)}, the reference {tuple(wanted)}; only longer is trimmed")
    return _finite(recon.audio[..., : wanted[2]].to(reference.audio.device), "audio").clamp(-1, 1)


def _finite(x: Tensor, name: str) -> Tensor:
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise AvbenchError(f"decoded {name} has {bad:,} values that are NaN or infinite")
    return x.float()


class _Clock:
    """Wall time of each stage; waits for the device so that a GPU's work counts where it was asked for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now
