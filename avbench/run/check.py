"""The conformance kit: does a tokenizer keep the rules of avbench/tokenizer.py? Each rule is tried and named, none is taken on trust."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from avbench import registry
from avbench.errors import AvbenchError
from avbench.run import payload
from avbench.run.conform import check_duration, check_info, conform
from avbench.run.worker import Worker
from avbench.task import DecoderSpec
from avbench.tokenizer import Tokenizer
from avbench.types import ClipBatch, Protocol, Tokens

TOLERANCE = 1e-4  # of a pixel in [0, 1] or a sample in [-1, 1]: batched and single matrix products round differently
NUM_CLIPS = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule and how it went. `detail`: what was seen, or what is wrong."""

    rule: str
    passed: bool
    detail: str


def check(name: str, *, checkpoint: Path | None = None) -> list[Finding]:
    """Try every rule on synthetic clips of the standard protocol. Raises AvbenchError only if the tokenizer cannot be loaded."""
    tokenizer = registry.load_tokenizer(name, checkpoint=checkpoint)
    clips = synthetic_clips()
    findings = [_attempt("info is complete", lambda: _info(tokenizer))]
    first = _attempt("tokens: int64 (B, K, L), every code below its vocab size", lambda: _tokens(tokenizer, clips))
    findings.append(first)
    if not first.passed:
        return findings
    with torch.inference_mode():
        tokens = tokenizer.encode(clips.copy())
    return findings + list(_further(name, checkpoint, tokenizer, clips, tokens))


def synthetic_clips(protocol: Protocol | None = None) -> ClipBatch:
    """Clips with motion, edges and tones that no two clips share: video (3, T, 3, H, W), audio (3, 1, N)."""
    protocol = protocol or Protocol()
    size, frames = protocol.resolution, protocol.num_frames
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    time = torch.arange(protocol.num_samples) / protocol.sample_rate
    video = torch.empty(NUM_CLIPS, frames, 3, size, size)
    audio = torch.empty(NUM_CLIPS, 1, protocol.num_samples)
    for clip in range(NUM_CLIPS):
        for frame in range(frames):
            phase = frame / frames
            square = ((x - phase).abs() < 0.1 + 0.05 * clip) & ((y - 0.5).abs() < 0.2)
            video[clip, frame] = torch.stack([0.8 * x + 0.2 * square, 0.5 + 0.5 * torch.sin(6.28 * (y + phase)), square * 1.0])
        tone = 220.0 * 2 ** (clip * 7 / 12)
        audio[clip, 0] = 0.3 * torch.sin(6.283185 * tone * time) * (0.6 + 0.4 * torch.sin(6.283185 * 2 * time))
    names = tuple(f"synthetic/{clip}" for clip in range(NUM_CLIPS))
    return ClipBatch(
        ids=names, labels=names, video=(video * 255).round() / 255, audio=audio, fps=protocol.fps, sample_rate=protocol.sample_rate
    )


def _further(name: str, checkpoint: Path | None, tokenizer: Tokenizer, clips: ClipBatch, tokens: Tokens) -> Iterator[Finding]:
    yield _attempt("encode twice gives the same tokens", lambda: _same_tokens(tokens, _encode(tokenizer, clips)))
    yield _attempt("tokens do not depend on the batch", lambda: _batch_tokens(tokenizer, clips, tokens))
    shape = _attempt("decode gives every declared modality, at the clip's shape, without NaN", lambda: _shapes(tokenizer, clips, tokens))
    yield shape
    if shape.passed:
        recon = _decode(tokenizer, clips, tokens)
        yield _attempt("decode twice gives the same clip", lambda: _same_clips(recon, _decode(tokenizer, clips, tokens), 0.0))
        yield _attempt("a clip's decoding does not depend on the batch", lambda: _batch_clips(tokenizer, clips, recon))
        yield _attempt(
            "a fresh process decodes the same clip from the token bytes alone",
            lambda: _fresh(name, checkpoint, tokenizer.info.modalities, clips, tokens, recon),
        )


def _attempt(rule: str, trial: Callable[[], str]) -> Finding:
    try:
        return Finding(rule=rule, passed=True, detail=trial())
    except Exception as error:
        text = str(error) if isinstance(error, AvbenchError) else f"{type(error).__name__}: {error}"
        return Finding(rule=rule, passed=False, detail=text)


def _info(tokenizer: Tokenizer) -> str:
    info = tokenizer.info
    check_info(info)
    return f"{info.name} {info.revision}: {' and '.join(sorted(info.modalities))}, {info.parameters:,} parameters"


def _encode(tokenizer: Tokenizer, clips: ClipBatch) -> Tokens:
    with torch.inference_mode():
        return tokenizer.encode(clips.copy())


def _decode(tokenizer: Tokenizer, clips: ClipBatch, tokens: Tokens) -> ClipBatch:
    received = payload.from_bytes([payload.to_bytes(tokens, clip) for clip in range(len(clips))])
    with torch.inference_mode():
        return conform(clips, tokenizer.decode(received), tokenizer.info.modalities)


def _tokens(tokenizer: Tokenizer, clips: ClipBatch) -> str:
    tokens = _encode(tokenizer, clips)
    payload.check(tokens, len(clips))
    check_duration(tokens, clips)
    streams = ", ".join(f"{s}: {tuple(c.shape)} of {tokens.vocab_sizes[s]:,}" for s, c in tokens.codes.items())
    return f"{streams}; {len(payload.to_bytes(tokens, 0)):,} bytes a clip"


def _same_tokens(a: Tokens, b: Tokens) -> str:
    for clip in range(len(a)):
        if payload.to_bytes(a, clip) != payload.to_bytes(b, clip):
            raise AvbenchError(f"clip {clip} has other tokens the second time")
    return "bit for bit"


def _batch_tokens(tokenizer: Tokenizer, clips: ClipBatch, tokens: Tokens) -> str:
    for clip in range(len(clips)):
        alone = payload.to_bytes(_encode(tokenizer, clips.select([clip])), 0)
        if alone != payload.to_bytes(tokens, clip):
            raise AvbenchError(f"clip {clip} encoded alone has other tokens than in a batch of {len(clips)}")
    return "alone and in a batch, bit for bit"


def _shapes(tokenizer: Tokenizer, clips: ClipBatch, tokens: Tokens) -> str:
    recon = _decode(tokenizer, clips, tokens)
    parts = {"video": recon.video, "audio": recon.audio}
    return ", ".join(f"{name} {tuple(part.shape)}" for name, part in parts.items() if part is not None)


def _batch_clips(tokenizer: Tokenizer, clips: ClipBatch, recon: ClipBatch) -> str:
    worst = ""
    for clip in range(len(clips)):
        alone = clips.select([clip])
        worst = _same_clips(recon.select([clip]), _decode(tokenizer, alone, _encode(tokenizer, alone)), TOLERANCE)
    return worst


def _same_clips(a: ClipBatch, b: ClipBatch, tolerance: float) -> str:
    largest = 0.0
    for one, other in ((a.video, b.video), (a.audio, b.audio)):
        if one is not None and other is not None:
            largest = max(largest, float((one - other).abs().max()))
    if largest > tolerance:
        raise AvbenchError(f"differs by up to {largest:.3g}; {tolerance:.3g} is allowed")
    return f"largest difference {largest:.3g}"


def _fresh(name: str, checkpoint: Path | None, modalities: frozenset[str], clips: ClipBatch, tokens: Tokens, recon: ClipBatch) -> str:
    spec = DecoderSpec(tokenizer=name, checkpoint=None if checkpoint is None else str(checkpoint), seed=0)
    worker = Worker(spec, torch.device("cpu"), modalities)
    try:
        other = worker.decode([payload.to_bytes(tokens, clip) for clip in range(len(clips))], seed=0).clips
    finally:
        worker.close()
    return _same_clips(recon, conform(clips, other, modalities), TOLERANCE)
