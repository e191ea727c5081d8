"""`avtok`: a trained AVTok behind the benchmark's interface."""

from pathlib import Path

import torch
from torch import Tensor

from avbench.artifact import trained_on
from avbench.errors import AvbenchError, UsageError
from avbench.nn.mel import SAMPLE_RATE
from avbench.protocol import Protocol, require
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.avtok import melbox
from avbench.tokenizers.avtok.by_clip import check_codes, detokenize, tokenize
from avbench.tokenizers.avtok.checkpoint import load_checkpoint
from avbench.tokenizers.avtok.config import STREAMS
from avbench.tokenizers.avtok.parts import count_parameters
from avbench.tokenizers.edges import at_split_rate, need_mono
from avbench.tokenizers.mel_vocoder import to_mel_rate, trim
from avbench.tokenizers.vocoders import DEFAULT_VOCODER, load_vocoder
from avbench.types import ClipBatch, Tokens

HERE = Path(__file__).parent


class AVTok:
    """`avtok` (with scenes, scene.py) or `avtok@hifigan`: variant = vocoder.

    Clips with both modalities become ONE stream "joint": [video tokens, audio tokens] over the one codebook, as in the paper. Clips with
    one modality (the condition of audio-to-video and video-to-audio generation) become a stream "video" or "audio" of the same vocabulary.
    """

    shipped = HERE / "checkpoint"
    shipped_generator = HERE / "generator"  # of its tokens: avbench train ar-mini --tokenizer avtok

    def __init__(self, options: TokenizerOptions) -> None:
        """Raises AvbenchError where the checkpoint is missing or damaged, UsageError for an unknown vocoder."""
        if len(options.variants) > 1:
            raise UsageError(f"avtok takes one vocoder, not {', '.join(options.variants)}; for example avtok@hifigan")
        checkpoint = load_checkpoint(self._folder(options), options.device)
        if checkpoint.model.config.streams != STREAMS:
            raise UsageError(f"{options.checkpoint} holds {checkpoint.model.config.name}, a video tokenizer: use --tokenizer larp")
        vocoder = options.variants[0] if options.variants else DEFAULT_VOCODER
        self.model = checkpoint.model
        self.provenance = checkpoint.provenance
        self.vocoder = load_vocoder(vocoder, options.device)
        self.device = options.device
        config = self.model.config
        self.protocol = options.protocol or Protocol()
        frames, size, _ = config.video.size
        require(options.protocol, config.name, num_frames=frames, resolution=size, duration_s=Protocol().duration_s, channels=1)
        self.stream_lengths: dict[str, int] = {name: config.stream(name).length for name in STREAMS}
        self.vocab_size = config.quantizer.entries
        self.info = TokenizerInfo(
            name=config.name if not options.variants else f"{config.name}@{vocoder}",
            revision=f"{checkpoint.revision}-{self.vocoder.revision}",
            modalities=frozenset(STREAMS),
            sample_rate=SAMPLE_RATE,
            resolution=config.video.size[1],
            parameters=count_parameters(self.model) + self.vocoder.parameters,
            trained_on=trained_on(checkpoint.provenance),
            stream_lengths=self.stream_lengths,
            shipped_generator=self.shipped_generator if self.shipped_generator.is_dir() else None,
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Tokens of what the batch has. Raises AvbenchError for clips of another size or with no modality at all."""
        inputs = self._inputs(batch)
        codes = {name: tokenize(self.model, name, x, self.device) for name, x in inputs.items()}
        streams = self.join(codes) if len(codes) == len(STREAMS) else codes
        return Tokens(codes=streams, vocab_sizes=dict.fromkeys(streams, self.vocab_size), duration_s=_duration(batch))

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The clips, from the tokens alone: 16 frames over the duration, and the vocoder's 24 kHz sound at the split's rate."""
        codes = self.split(tokens.codes)
        video = detokenize(self.model, "video", codes["video"], self.device) if "video" in codes else None
        audio = None
        if "audio" in codes:
            mel = melbox.from_box(detokenize(self.model, "audio", codes["audio"], self.device))
            audio = trim(self.vocoder(mel), tokens.duration_s)[:, None].cpu()
            audio = at_split_rate(audio, SAMPLE_RATE, tokens.duration_s, self.protocol)
        frames = self.model.config.video.size[0]
        return ClipBatch(video=video, audio=audio, fps=frames / tokens.duration_s, sample_rate=self.protocol.sample_rate)

    def join(self, codes: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"video": (B, 1, Lv), "audio": (B, 1, La)} -> {"joint": (B, 1, Lv + La)}."""
        return {"joint": torch.cat([codes[name] for name in STREAMS], dim=2)}

    def split(self, codes: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `join`; single streams pass. Raises AvbenchError for other streams, lengths or entries out of range."""
        if "joint" in codes:
            check_codes(codes["joint"], "joint", sum(self.stream_lengths.values()), self.vocab_size, "avtok")
            parts = codes["joint"].split(list(self.stream_lengths.values()), dim=2)
            return dict(zip(self.stream_lengths, parts, strict=True))
        for name, values in codes.items():
            if name not in self.stream_lengths:
                raise AvbenchError(f"avtok: no stream {name!r}; it knows joint, {', '.join(STREAMS)}")
            check_codes(values, name, self.stream_lengths[name], self.vocab_size, "avtok")
        return codes

    def _folder(self, options: TokenizerOptions) -> Path:
        folder = options.checkpoint or self.shipped
        if not folder.is_dir():
            raise AvbenchError(f"no checkpoint in {folder}; train one (avbench train avtok-scene-mini --out DIR) and give --checkpoint DIR")
        return folder

    def _inputs(self, batch: ClipBatch) -> dict[str, Tensor]:
        inputs = {}
        if batch.video is not None:
            inputs["video"] = batch.video
        if batch.audio is not None:
            inputs["audio"] = melbox.to_box(to_mel_rate(need_mono(batch, "avtok"), batch.sample_rate))
        if not inputs:
            raise AvbenchError("avtok: these clips have neither video nor audio")
        return inputs


class PlainAVTok(AVTok):
    """`avtok-plain`: the paper's form at mini size, without scenes, and a generator of its tokens."""

    shipped = HERE / "plain" / "checkpoint"
    shipped_generator = HERE / "plain" / "generator"


def _duration(batch: ClipBatch) -> float:
    if batch.video is not None:
        return batch.video.shape[1] / batch.fps
    assert batch.audio is not None
    return batch.audio.shape[-1] / batch.sample_rate
