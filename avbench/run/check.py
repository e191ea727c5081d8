"""The conformance kit: does a tokenizer keep the rules of avbench/tokenizer.py? Each rule is tried and named, none is taken on trust.

A tokenizer that keeps them only while it is checked cannot be told from an honest one by this. That is why a run relies on none of it:
there the decoder is another process (avbench/run/worker.py), which has the bytes and nothing else.
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from avbench import registry
from avbench.contain import plugin_code, time_limit
from avbench.errors import AvbenchError
from avbench.run import payload
from avbench.run.conform import check_duration, check_info, conform, most_codes
from avbench.run.worker import TIMEOUT_S, Worker, room_for
from avbench.switches import Apart, Switches
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


def check(name: str, *, checkpoint: Path | None = None, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Try every rule on synthetic clips of the standard protocol. Raises AvbenchError only if the tokenizer cannot be loaded.

    timeout_s: for each call of encode or decode.
    """
    before, apart = Switches.now(), Apart()
    with apart():
        tokenizer = registry.load_tokenizer(name, checkpoint=checkpoint)
    trial = _Trial(tokenizer=tokenizer, name=name, checkpoint=checkpoint, timeout_s=timeout_s, apart=apart)
    findings = [_attempt("info is complete", trial.info)]
    if findings[0].passed:
        findings += trial.rules(_renamed(synthetic_clips()))
        findings.append(_attempt("leaves torch's switches as it found them", lambda: _switches(apart, before)))
    return findings


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


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A tokenizer under trial; each of its calls as in a run: contained, within a time limit, with switches of its own."""

    tokenizer: Tokenizer
    name: str
    checkpoint: Path | None
    timeout_s: float
    apart: Apart = field(repr=False)

    def info(self) -> str:
        info = self.tokenizer.info
        check_info(info)
        return f"{info.name} {info.revision}: {' and '.join(sorted(info.modalities))}, {info.parameters:,} parameters"

    def rules(self, clips: ClipBatch) -> Iterator[Finding]:
        first = _attempt("tokens: int64 (B, K, L), every code below its vocab size", lambda: self.tokens(clips))
        yield first
        if not first.passed:
            return
        tokens = self.encode(clips)
        yield _attempt("encode twice gives the same tokens", lambda: _same_tokens(tokens, self.encode(clips)))
        yield _attempt("tokens do not depend on the batch", lambda: self.batch_tokens(clips, tokens))
        yield _attempt("every clip has the same streams, codebooks and vocab sizes", lambda: self.formats(clips, tokens))
        shape = _attempt("decode gives every declared modality, at the clip's shape, without NaN", lambda: self.shapes(clips, tokens))
        yield shape
        if not shape.passed:
            return
        recon = self.decode(clips, tokens)
        yield _attempt("decode twice gives the same clip", lambda: _same_clips(recon, self.decode(clips, tokens), 0.0))
        yield _attempt("a clip's decoding does not depend on the batch", lambda: self.batch_clips(clips, recon))
        fresh = "a fresh process decodes the same clip from the token bytes alone"
        yield _attempt(fresh, lambda: self.fresh(clips, tokens, recon))

    def encode(self, clips: ClipBatch) -> Tokens:
        with plugin_code("encode failed"), time_limit(self.timeout_s), self.apart(), torch.inference_mode():
            return self.tokenizer.encode(clips.copy())

    def decode(self, clips: ClipBatch, tokens: Tokens) -> ClipBatch:
        received = payload.from_bytes(_bytes(tokens))
        with plugin_code("decode failed"), time_limit(self.timeout_s), self.apart(), torch.inference_mode():
            made = self.tokenizer.decode(received)
        return conform(clips, made, self.tokenizer.info.modalities)

    def tokens(self, clips: ClipBatch) -> str:
        tokens = self.encode(clips)
        payload.check(tokens, len(clips), most_codes=most_codes(clips))
        check_duration(tokens, clips)
        streams = ", ".join(f"{s}: {tuple(c.shape)} of {tokens.vocab_sizes[s]:,}" for s, c in tokens.codes.items())
        return f"{streams}; {len(payload.to_bytes(tokens, 0)):,} bytes a clip"

    def batch_tokens(self, clips: ClipBatch, tokens: Tokens) -> str:
        for clip in range(len(clips)):
            alone = payload.to_bytes(self.encode(clips.select([clip])), 0)
            if alone != payload.to_bytes(tokens, clip):
                raise AvbenchError(f"clip {clip} encoded alone has other tokens than in a batch of {len(clips)}")
        return "alone and in a batch, bit for bit"

    def formats(self, clips: ClipBatch, tokens: Tokens) -> str:
        """Also of clips without picture and sound: what a format could carry is not counted as bits."""
        empty = replace(
            clips, video=None if clips.video is None else clips.video * 0, audio=None if clips.audio is None else clips.audio * 0
        )
        formats = {payload.format_of(data) for batch in (tokens, self.encode(empty)) for data in _bytes(batch)}
        if len(formats) > 1:
            raise AvbenchError("streams, codebooks, vocab sizes or fixed lengths differ from clip to clip; what differs belongs in codes")
        return "of clips with and without content"

    def shapes(self, clips: ClipBatch, tokens: Tokens) -> str:
        recon = self.decode(clips, tokens)
        parts = {"video": recon.video, "audio": recon.audio}
        return ", ".join(f"{name} {tuple(part.shape)}" for name, part in parts.items() if part is not None)

    def batch_clips(self, clips: ClipBatch, recon: ClipBatch) -> str:
        worst = ""
        for clip in range(len(clips)):
            alone = clips.select([clip])
            worst = _same_clips(recon.select([clip]), self.decode(alone, self.encode(alone)), TOLERANCE)
        return worst

    def fresh(self, clips: ClipBatch, tokens: Tokens, recon: ClipBatch) -> str:
        spec = DecoderSpec(tokenizer=self.name, checkpoint=None if self.checkpoint is None else str(self.checkpoint), seed=0)
        modalities = self.tokenizer.info.modalities
        worker = Worker(spec, torch.device("cpu"), modalities, timeout_s=self.timeout_s)
        try:
            other = worker.decode(_bytes(tokens), seed=0, most=room_for(clips)).clips
        finally:
            worker.close()
        return _same_clips(recon, conform(clips, other, modalities), TOLERANCE)


def _renamed(clips: ClipBatch) -> ClipBatch:
    """Names as files have them: a tokenizer shall not see by a clip's name that it is being checked."""
    names = tuple(f"{secrets.token_hex(6)}_{clip:06d}.mp4" for clip in range(len(clips)))
    return replace(clips, ids=names, labels=("playing harp", "dog barking", "rain"))


def _attempt(rule: str, trial: Callable[[], str]) -> Finding:
    try:
        return Finding(rule=rule, passed=True, detail=trial())
    except Exception as error:
        text = str(error) if isinstance(error, AvbenchError) else f"{type(error).__name__}: {error}"
        return Finding(rule=rule, passed=False, detail=text)


def _bytes(tokens: Tokens) -> list[bytes]:
    return [payload.to_bytes(tokens, clip) for clip in range(len(tokens))]


def _same_tokens(a: Tokens, b: Tokens) -> str:
    for clip, (one, other) in enumerate(zip(_bytes(a), _bytes(b), strict=True)):
        if one != other:
            raise AvbenchError(f"clip {clip} has other tokens the second time")
    return "bit for bit"


def _same_clips(a: ClipBatch, b: ClipBatch, tolerance: float) -> str:
    largest = 0.0
    for one, other in ((a.video, b.video), (a.audio, b.audio)):
        if one is not None and other is not None:
            largest = max(largest, float((one - other).abs().max()))
    if largest > tolerance:
        raise AvbenchError(f"differs by up to {largest:.3g}; {tolerance:.3g} is allowed")
    return f"largest difference {largest:.3g}"


def _switches(apart: Apart, before: Switches) -> str:
    """Metrics and other plugins have switches of their own, but the other half of an "A+B" shares them."""
    left = apart.left(before)
    if left:
        raise AvbenchError(f"it leaves {'; '.join(left)}; set them around your own code and put them back")
    return "after loading, encode and decode"
