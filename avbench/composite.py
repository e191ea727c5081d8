"""Two tokenizers as one: one for video, one for audio (`larp+encodec`)."""

from dataclasses import replace

from avbench.errors import AvbenchError, UsageError
from avbench.tokenizer import Tokenizer, TokenizerInfo
from avbench.types import ClipBatch, Tokens

MAX_DRIFT_S = 0.001  # by which the parts' idea of a clip's length may differ: less than a frame of any codec here


class Composite:
    """A video and an audio tokenizer side by side; each sees its own modality only, and the payloads are joined."""

    def __init__(self, first: Tokenizer, second: Tokenizer) -> None:
        """The parts in either order. Raises UsageError unless one covers video alone and the other audio alone."""
        video_only, audio_only = ([t for t in (first, second) if t.info.modalities == {name}] for name in ("video", "audio"))
        if len(video_only) != 1 or len(audio_only) != 1:
            has = " and ".join(f"{t.info.name} covers {'+'.join(sorted(t.info.modalities))}" for t in (first, second))
            raise UsageError(f'{has}; a composite joins a video and an audio tokenizer, for example "static-frame+silence"')
        self.video, self.audio = video_only[0], audio_only[0]
        self.info = _join(self.video.info, self.audio.info, f"{first.info.name}+{second.info.name}")

    def encode(self, batch: ClipBatch) -> Tokens:
        """The streams of both parts. Raises AvbenchError where a part names a stream that is not its modality's."""
        video = self.video.encode(replace(batch, audio=None))
        audio = self.audio.encode(replace(batch, video=None))
        for part, tokens, stream in ((self.video, video, "video"), (self.audio, audio, "audio")):
            if {name.partition(".")[0] for name in tokens.codes} != {stream}:
                raise AvbenchError(
                    f'{part.info.name} gave the streams {sorted(tokens.codes)}; a composite\'s {stream} part gives "{stream}" alone'
                )
        if abs(video.duration_s - audio.duration_s) > MAX_DRIFT_S:
            raise AvbenchError(f"the video lasts {video.duration_s:g} s and the audio {audio.duration_s:g} s; a clip has one length")
        return Tokens(
            codes={**video.codes, **audio.codes},
            vocab_sizes={**video.vocab_sizes, **audio.vocab_sizes},
            duration_s=video.duration_s,
            lengths={**(video.lengths or {}), **(audio.lengths or {})} or None,
        )

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Video of the one part, audio of the other."""
        video = self.video.decode(_stream(tokens, "video"))
        audio = self.audio.decode(_stream(tokens, "audio"))
        return ClipBatch(video=video.video, audio=audio.audio, fps=video.fps, sample_rate=audio.sample_rate)


def _stream(tokens: Tokens, name: str) -> Tokens:
    """The tokens of one modality alone: its stream, and those that are called after it ("audio.scale")."""
    if name not in tokens.codes:
        raise AvbenchError(f'payload lacks the stream "{name}"; it has {sorted(tokens.codes)}')
    names = [stream for stream in tokens.codes if stream.partition(".")[0] == name]
    lengths = {stream: tokens.lengths[stream] for stream in names if stream in tokens.lengths} if tokens.lengths else None
    return replace(
        tokens,
        codes={stream: tokens.codes[stream] for stream in names},
        vocab_sizes={stream: tokens.vocab_sizes[stream] for stream in names},
        lengths=lengths or None,
    )


def _join(video: TokenizerInfo, audio: TokenizerInfo, name: str) -> TokenizerInfo:
    """Facts of both: parameters added, kinds and training data named side by side."""
    trained = [part.trained_on for part in (video, audio) if part.trained_on != "nothing"]
    return TokenizerInfo(
        name=name,
        revision=f"{video.revision}+{audio.revision}",
        modalities=frozenset({"video", "audio"}),
        sample_rate=audio.sample_rate,
        fps=video.fps,
        resolution=video.resolution,
        parameters=video.parameters + audio.parameters,
        trained_on="; ".join(dict.fromkeys(trained)) or "nothing",
        kind=_kind({video.kind, audio.kind}),
        entropy_coded=video.entropy_coded | audio.entropy_coded,
    )


def _kind(kinds: set[str]) -> str:
    """The most elaborate kind of the parts: a learned part makes the whole learned."""
    return next((kind for kind in ("learned", "linear", "classical") if kind in kinds), "control")
