"""The audio codecs' recipes: baselines of equals for AVTok's audio stream, of as many clips as avtok-mini and avtok-small see."""

from collections.abc import Callable
from dataclasses import replace

from avbench.tokenizers.wavtokenizer.config import BackboneConfig, EncoderConfig, WavTokenizerConfig
from avbench.tokenizers.wavtokenizer.quantizer import CodebookConfig
from avbench.train.codecs.config import CodecLoss, CodecOptim, CodecStage, CodecTraining, EncodecTraining, WavTokenizerTraining
from avbench.train.codecs.encodec import EncodecSize

MINI_CLIPS = 20_800  # avtok-mini's
MINI_OPTIM = CodecOptim(adam=1e-3, betas=(0.8, 0.95), warmup_clips=400)
SMALL_CLIPS = 1_000_000  # avtok-small's
SMALL_OPTIM = CodecOptim(adam=3e-4, betas=(0.8, 0.99), discriminator=3e-4, warmup_clips=10_000)

# Commitment is 1000 (WavTokenizer) and 1 (EnCodec) where published; it grows with the latents' square, and here they start at variance 1.
WAVTOKENIZER_LOSS = CodecLoss(log_mel=45.0, commitment=10.0)
ENCODEC_LOSS = CodecLoss(l1=0.1, multi_scale=2.0, commitment=0.25)


def encodec_mini() -> EncodecTraining:
    """EnCodec under 10 M parameters, 75 frames a second of 2 or 4 codebooks of 10 bits from one training; hours of one CPU core."""
    stage = CodecStage(name="codec", clips=MINI_CLIPS, loss=ENCODEC_LOSS, optim=MINI_OPTIM)
    model = EncodecSize(filters=16, lstm_layers=1, codebook=CodebookConfig(entries=1024, dim=128, decay=0.9))
    return EncodecTraining(name="encodec-mini", model=model, stages=(stage,), codebooks=(2, 4), eval_clips=32)


def wavtokenizer_mini_40() -> WavTokenizerTraining:
    """WavTokenizer under 10 M parameters, 40 tokens a second of 12 bits; hours of one CPU core."""
    return _wavtokenizer_mini("wavtokenizer-mini-40", strides=(4, 5, 5, 6), n_fft=2400)


def wavtokenizer_mini_75() -> WavTokenizerTraining:
    """WavTokenizer under 10 M parameters, 75 tokens a second of 12 bits; hours of one CPU core."""
    return _wavtokenizer_mini("wavtokenizer-mini-75", strides=(2, 4, 5, 8), n_fft=1280)


def _wavtokenizer_mini(name: str, *, strides: tuple[int, ...], n_fft: int) -> WavTokenizerTraining:
    model = WavTokenizerConfig(
        name=name,
        n_fft=n_fft,
        encoder=EncoderConfig(strides=strides, filters=16, lstm_layers=1),
        codebook=CodebookConfig(entries=4096, dim=128, decay=0.9),
        backbone=BackboneConfig(width=320, hidden=960, layers=6, position_blocks=1, groups=16, conditions=1, dropout=0.0),
    )
    stage = CodecStage(name="codec", clips=MINI_CLIPS, loss=WAVTOKENIZER_LOSS, optim=MINI_OPTIM)
    return WavTokenizerTraining(name=name, model=model, stages=(stage,), eval_clips=32)


def encodec_small() -> EncodecTraining:
    """EnCodec as published (14.85 M, 24 kHz), 1.5, 3 and 6 kbit/s from one training, EnCodec's discriminators in the last 40 %; one GPU."""
    model = EncodecSize(bandwidths=(1.5, 3.0, 6.0))
    stages = _small_stages(ENCODEC_LOSS)
    return EncodecTraining(name="encodec-small", model=model, stages=stages, codebooks=(2, 4, 8), batch_size=80, log_steps=50)


def wavtokenizer_small_40() -> WavTokenizerTraining:
    """WavTokenizer of about 30 M parameters, 40 tokens a second, EnCodec's discriminators in the last 40 %; one GPU."""
    return _wavtokenizer_small("wavtokenizer-small-40", strides=(4, 5, 5, 6), n_fft=2400)


def wavtokenizer_small_75() -> WavTokenizerTraining:
    """WavTokenizer of about 30 M parameters, 75 tokens a second, EnCodec's discriminators in the last 40 %; one GPU."""
    return _wavtokenizer_small("wavtokenizer-small-75", strides=(2, 4, 5, 8), n_fft=1280)


def _wavtokenizer_small(name: str, *, strides: tuple[int, ...], n_fft: int) -> WavTokenizerTraining:
    """The published codebook; half the encoder, two thirds of the backbone."""
    model = WavTokenizerConfig(
        name=name,
        n_fft=n_fft,
        encoder=EncoderConfig(strides=strides, filters=32),
        backbone=BackboneConfig(width=512, hidden=1536, layers=8, conditions=1),
    )
    return WavTokenizerTraining(name=name, model=model, stages=_small_stages(WAVTOKENIZER_LOSS), batch_size=80, log_steps=50)


def _small_stages(loss: CodecLoss) -> tuple[CodecStage, ...]:
    """Spectral losses first. Weights are fixed (adversarial and features as in HiFi-GAN); EnCodec balances its own by their gradients."""
    judged = replace(loss, adversarial=1.0, features=2.0)
    last = replace(SMALL_OPTIM, adam=SMALL_OPTIM.adam / 3)
    return (
        CodecStage(name="codec", clips=SMALL_CLIPS * 6 // 10, loss=loss, optim=SMALL_OPTIM),
        CodecStage(name="adversarial", clips=SMALL_CLIPS * 4 // 10, loss=judged, optim=last, discriminator_every=1),
    )


RECIPES: dict[str, Callable[[], CodecTraining]] = {
    "encodec-mini": encodec_mini,
    "wavtokenizer-mini-40": wavtokenizer_mini_40,
    "wavtokenizer-mini-75": wavtokenizer_mini_75,
    "encodec-small": encodec_small,
    "wavtokenizer-small-40": wavtokenizer_small_40,
    "wavtokenizer-small-75": wavtokenizer_small_75,
}
