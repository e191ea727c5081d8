"""A recipe that a plugin brings, `avbench train toy-codec`: one convolution each way around a codebook, 100 ms a frame."""

from dataclasses import dataclass

import torch
from torch import nn

from avbench.nn.residual_vq import CodebookConfig, ResidualQuantizer
from avbench.train.waveform.config import CodecLoss, CodecStage, CodecTraining, Reconstruction
from avbench.train.waveform.trainee import CodecTrainee

HOP, WIDTH, FILE = 2_400, 16, "codec.pt"


class ToyCodec(nn.Module):
    """As `avbench.train.waveform.config.Codec` asks."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv1d(1, WIDTH, HOP, HOP)
        self.quantizer = ResidualQuantizer(CodebookConfig(entries=8, dim=WIDTH, kmeans_iterations=2))
        self.decoder = nn.ConvTranspose1d(WIDTH, 1, HOP, HOP)

    def forward(self, audio):
        quantized = self.quantizer(self.encoder(audio[:, None]))
        return Reconstruction(audio=self.decoder(quantized.latents)[:, 0], codes=quantized.codes, commitment=quantized.loss)

    def tokenize(self, audio):
        short = -audio.shape[1] % HOP
        return self.quantizer.encode(self.encoder(nn.functional.pad(audio, (0, short))[:, None]))

    def detokenize(self, codes):
        return self.decoder(self.quantizer.decode(codes))[:, 0]


@dataclass(frozen=True, kw_only=True)
class ToyTraining(CodecTraining):
    def trainee(self):
        return CodecTrainee(self)

    def build(self):
        return ToyCodec()

    def save(self, folder, model, provenance):
        torch.save(model.state_dict(), folder / FILE)

    def load(self, folder, model):
        model.load_state_dict(torch.load(folder / FILE, weights_only=True))


def toy_codec() -> ToyTraining:
    """A codec of two convolutions; seconds of one CPU core."""
    stage = CodecStage(name="codec", clips=64, loss=CodecLoss(l1=1.0, commitment=0.1))
    return ToyTraining(name="toy-codec", stages=(stage,), batch_size=2, start_clips=2, eval_clips=1)
