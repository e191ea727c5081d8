"""A vocoder by itself: the reference's own mel -> waveform. The ceiling of every tokenizer of mels, not a codec."""

import torchaudio
from torch import Tensor

from avbench.errors import AvbenchError, UsageError
from avbench.nn.mel import MIN_LOG, NUM_MELS, PAD, SAMPLE_RATE, log_mel
from avbench.protocol import Protocol, require
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.edges import at_split_rate, audio_duration, need_mono
from avbench.tokenizers.vocoders import DEFAULT_VOCODER, load_vocoder
from avbench.types import ClipBatch, Tokens

LEVELS = 65_536
MAX_LOG = 4.0  # full-scale sines and square waves reach 2.0 and 2.4
STEP = (MAX_LOG - MIN_LOG) / (LEVELS - 1)  # 2.4e-4 of a natural logarithm: 0.002 dB


class MelVocoder:
    """`mel-vocoder` or `mel-vocoder@hifigan`: 16-bit log-mel values as codes, a vocoder as decoder."""

    def __init__(self, options: TokenizerOptions) -> None:
        """Variant: the vocoder. Raises UsageError for an unknown one or a checkpoint, WeightsUnavailable where its weights are missing."""
        if options.checkpoint is not None:
            raise UsageError("mel-vocoder takes no checkpoint; the vocoder is a variant, for example mel-vocoder@hifigan")
        if len(options.variants) > 1:
            raise UsageError(f"mel-vocoder takes one vocoder, not {', '.join(options.variants)}; for example mel-vocoder@hifigan")
        name = options.variants[0] if options.variants else DEFAULT_VOCODER
        self.vocoder, self.protocol = load_vocoder(name, options.device), options.protocol or Protocol()
        require(options.protocol, "mel-vocoder", channels=1)
        self.info = TokenizerInfo(
            name=f"mel-vocoder@{name}",
            revision=f"1-{self.vocoder.revision}",
            modalities=frozenset({"audio"}),
            sample_rate=SAMPLE_RATE,
            parameters=self.vocoder.parameters,
            trained_on=self.vocoder.trained_on,
            kind="learned" if self.vocoder.parameters else "control",
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Stream "audio": (B, 80 bands, frames), 16 bits a value."""
        audio = need_mono(batch, "mel-vocoder")
        mel = log_mel(to_mel_rate(audio, batch.sample_rate))
        codes = ((mel - MIN_LOG) / STEP).round().clamp(0, LEVELS - 1).long()
        return Tokens(codes={"audio": codes}, vocab_sizes={"audio": LEVELS}, duration_s=audio_duration(batch, audio))

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Audio (B, 1, N) at the split's rate. Raises AvbenchError where the codes are not 80 bands or too few for the duration."""
        codes = tokens.codes["audio"]
        if codes.shape[1] != NUM_MELS:
            raise AvbenchError(f"mel-vocoder: {codes.shape[1]} bands in the payload; it writes {NUM_MELS}")
        audio = trim(self.vocoder(codes.float() * STEP + MIN_LOG), tokens.duration_s)
        audio = at_split_rate(audio, SAMPLE_RATE, tokens.duration_s, self.protocol)
        return ClipBatch(audio=audio[:, None], fps=0.0, sample_rate=self.protocol.sample_rate)


def to_mel_rate(audio: Tensor, sample_rate: int) -> Tensor:
    """(B, N) at the front end's 24 kHz. Raises AvbenchError for clips too short for a frame."""
    audio = torchaudio.functional.resample(audio.float(), sample_rate, SAMPLE_RATE)
    if audio.shape[-1] <= PAD:
        raise AvbenchError(f"{audio.shape[-1]} samples of audio; a mel needs over {PAD}")
    return audio


def trim(audio: Tensor, duration_s: float) -> Tensor:
    """(B, N) cut to `duration_s` at 24 kHz. Raises AvbenchError where it is shorter."""
    num_samples = round(duration_s * SAMPLE_RATE)
    if audio.shape[-1] < num_samples:
        raise AvbenchError(f"damaged payload: {audio.shape[-1]} samples for {duration_s:g} s at {SAMPLE_RATE} Hz")
    return audio[:, :num_samples]
