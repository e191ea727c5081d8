"""EnCodec's recipes: a baseline of equals for AVTok's audio stream, of as many clips as avtok-mini and avtok-small see."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from avbench.nn.residual_vq import CodebookConfig
from avbench.tokenizers.encodec.checkpoint import load_trained, save_checkpoint
from avbench.tokenizers.encodec.train.network import EncodecSize, TrainableEncodec
from avbench.train.waveform.config import CodecLoss, CodecTraining, mini_stages, small_stages
from avbench.train.waveform.trainee import CodecTrainee

# Commitment is 1 where published; it grows with the latents' square, and here they start at variance 1.
LOSS = CodecLoss(l1=0.1, multi_scale=2.0, commitment=0.25)


@dataclass(frozen=True, kw_only=True)
class EncodecTraining(CodecTraining):
    """EnCodec, of several codebooks in series."""

    model: EncodecSize

    def trainee(self) -> CodecTrainee:
        """The codec."""
        return CodecTrainee(self)

    def build(self) -> nn.Module:
        """See the base class."""
        return TrainableEncodec(self.model)

    def save(self, folder: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """A folder of `encodec`: Hugging Face's format with a manifest."""
        assert isinstance(model, TrainableEncodec)
        save_checkpoint(folder, model.published(), name=self.name, provenance=provenance)

    def load(self, folder: Path, model: nn.Module) -> None:
        """See the base class."""
        assert isinstance(model, TrainableEncodec)
        network = model.published()
        load_trained(folder, network)
        model.take(network)


def encodec_mini() -> EncodecTraining:
    """EnCodec under 10 M parameters, 75 frames a second of 2 or 4 codebooks of 10 bits from one training; hours of one CPU core."""
    model = EncodecSize(filters=16, lstm_layers=1, codebook=CodebookConfig(entries=1024, dim=128, decay=0.9))
    return EncodecTraining(
        name="encodec-mini", model=model, stages=mini_stages(LOSS), codebooks=(2, 4), eval_clips=32, export_dtype="bfloat16"
    )


def encodec_small() -> EncodecTraining:
    """EnCodec as published (14.85 M, 24 kHz), 1.5, 3 and 6 kbit/s from one training, EnCodec's discriminators in the last 40 %; one GPU."""
    model = EncodecSize(bandwidths=(1.5, 3.0, 6.0))
    return EncodecTraining(name="encodec-small", model=model, stages=small_stages(LOSS), codebooks=(2, 4, 8), batch_size=80, log_steps=50)
