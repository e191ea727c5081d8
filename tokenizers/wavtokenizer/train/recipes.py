"""WavTokenizer's recipes: a baseline of equals for AVTok's audio stream, of as many clips as avtok-mini and avtok-small see."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from avbench.errors import AvbenchError
from avbench.nn.residual_vq import CodebookConfig
from avbench.tokenizers.wavtokenizer.checkpoint import load_trained, save_checkpoint
from avbench.tokenizers.wavtokenizer.config import BackboneConfig, EncoderConfig, WavTokenizerConfig
from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel
from avbench.train.waveform.config import CodecLoss, CodecTraining, mini_stages, small_stages
from avbench.train.waveform.trainee import CodecTrainee

# Commitment is 1000 where published; it grows with the latents' square, and here they start at variance 1.
LOSS = CodecLoss(log_mel=45.0, commitment=10.0)


@dataclass(frozen=True, kw_only=True)
class WavTokenizerTraining(CodecTraining):
    """WavTokenizer, of one codebook."""

    model: WavTokenizerConfig

    def trainee(self) -> CodecTrainee:
        """The codec."""
        return CodecTrainee(self)

    def build(self) -> nn.Module:
        """See the base class."""
        return WavTokenizerModel(self.model)

    def save(self, folder: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """A folder of `wavtokenizer`."""
        assert isinstance(model, WavTokenizerModel)
        save_checkpoint(folder, model, provenance)

    def load(self, folder: Path, model: nn.Module) -> None:
        """See the base class."""
        trained, found = load_trained(folder)
        _check_config(folder, found.config | {"name": self.name}, self.model.to_dict() | {"name": self.name})
        model.load_state_dict(trained.state_dict())

    def renamed(self, name: str) -> "WavTokenizerTraining":
        """The run and its model under another name."""
        return replace(self, name=name, model=replace(self.model, name=name))


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
    return WavTokenizerTraining(name=name, model=model, stages=mini_stages(LOSS), eval_clips=32, export_dtype="bfloat16")


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
    return WavTokenizerTraining(name=name, model=model, stages=small_stages(LOSS), batch_size=80, log_steps=50)


def _check_config(folder: Path, found: Any, wanted: Any) -> None:
    """Both after JSON, which knows no tuples."""
    found, wanted = (json.loads(json.dumps(config)) for config in (found, wanted))
    other = sorted(key for key in wanted if found.get(key) != wanted[key])
    if other:
        raise AvbenchError(f"{folder} holds another codec: {', '.join(f'{key} {found.get(key)}, not {wanted[key]}' for key in other)}")
