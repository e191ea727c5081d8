"""An audio codec as the loop sees it."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from avbench.train.clips import load_clips
from avbench.train.config import StageConfig
from avbench.train.flops import counted
from avbench.train.optimizers import adamw_groups
from avbench.train.trainee import HeldOut, Objective, Trainee
from avbench.train.waveform.config import CodecStage, CodecTraining
from avbench.train.waveform.data import CodecData
from avbench.train.waveform.evaluate import evaluate
from avbench.train.waveform.objective import CodecObjective
from avbench.train.waveform.start import rescale


class CodecTrainee(Trainee[CodecTraining, CodecData]):
    """models: "codec"."""

    def load_data(self, split: str, limit: int | None) -> CodecData:
        """Crops of the split's sound."""
        return CodecData(*load_clips(split, limit, self.config.eval_clips), self.config)

    def build_models(self) -> dict[str, nn.Module]:
        """Random weights; the codebooks wait for the first batch."""
        torch.manual_seed(self.config.seed)
        return {"codec": self.config.build()}

    def start(self, models: dict[str, nn.Module], data: CodecData) -> None:
        """The encoder's convolutions rescaled to training crops."""
        rescale(models["codec"].get_submodule("encoder"), data.first(self.config.start_clips)[:, None])

    def objective(self, models: dict[str, nn.Module], stage: int, device: torch.device) -> CodecObjective:
        """Everything is trained in every stage."""
        return CodecObjective(models["codec"], self.config, self.config.stages[stage])

    def optimizers(self, objective: Objective[Any], stage: StageConfig) -> list[Optimizer]:
        """AdamW, slower for the encoder."""
        assert isinstance(stage, CodecStage)
        optim, named = stage.optim, objective.trainable()
        encoder = [p for name, p in named if name.startswith("codec.encoder.")]
        decoder = [p for name, p in named if not name.startswith("codec.encoder.")]
        rates = ((encoder, optim.adam * optim.encoder), (decoder, optim.adam))
        return [adamw_groups([{"params": part, "lr": rate, "weight_decay": optim.weight_decay} for part, rate in rates], optim)]

    def evaluate(self, models: dict[str, nn.Module], data: CodecData, device: torch.device) -> HeldOut:
        """MR-STFT, mel L1, codebook use; a picture."""
        return evaluate(models["codec"], data.held_out, self.config.codebooks, device)

    def export(self, out: Path, models: dict[str, nn.Module], provenance: dict[str, Any]) -> None:
        """A checkpoint of the codec's tokenizer; in bfloat16 where the recipe says so, but for the codebooks, which are buffers."""
        codec = models["codec"]
        if self.config.export_dtype == "bfloat16":
            codec = copy.deepcopy(codec)
            for parameter in codec.parameters():
                parameter.data = parameter.data.bfloat16()
        self.config.save(out, codec, provenance)

    def load(self, folder: Path, models: dict[str, nn.Module]) -> None:
        """Codebooks included: they wait for no first batch."""
        self.config.load(folder, models["codec"])

    def flops_per_clip(self, stage: int) -> float:
        """Of one crop through encoder and decoder, with the backward pass; the search in the codebooks is not counted."""
        with torch.random.fork_rng():
            codec = self.config.build().eval()  # on the CPU: transformers' convolutions ask tensors for their strides, which meta refuses
        return counted(lambda: codec(torch.zeros(1, self.config.crop_samples)).audio)
