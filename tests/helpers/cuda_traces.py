"""`cuda_traces.py NAME...`: traces recipes and feature networks on `cuda` without a GPU (cuda_trace.py), and prints each that passed.

A process of its own, without a garbage collector and left in a hurry: freeing a graph of fakes on a device that is not there has crashed.

Not traced: autograd's own formulas, LSTMs, the linear start, codebooks' first k-means, and evaluation, whose numbers are asked for.
"""

import gc
import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from cuda_trace import ACCELERATOR, CUDA, tracing
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, unset_fake_temporarily

from avbench.generate.space import StreamShape, TokenSpace
from avbench.generate.tasks import Layout
from avbench.generate.trainee import GeneratorTrainee, TokenBatch
from avbench.metrics import imagebind
from avbench.metrics.features import clap, synchformer, vggish
from avbench.metrics.features.imagebind import ImageBind
from avbench.metrics.features.synchformer import Synchformer
from avbench.nn.pretrained import aisfx, i3d, lpips
from avbench.nn.residual_vq import Codebook
from avbench.registry import plugins
from avbench.tokenizers.avtok.cav_mae_sync import CavMaeSync
from avbench.tokenizers.avtok.cav_mae_teacher import CavMaeTeacher
from avbench.tokenizers.avtok.scene import Scenes
from avbench.tokenizers.hifigan import HifiGanGenerator
from avbench.train import recipes
from avbench.train.data import TrainBatch
from avbench.train.stages import StageRun
from avbench.train.trainee import Batch, Trainee
from avbench.train.waveform.config import CodecTraining
from avbench.train.waveform.data import Waveforms
from avbench.train.waveform.losses import log_mel_config, mel_spectrogram, multi_scale_configs
from avbench.train.waveform.objective import CodecObjective

RECIPES = sorted(name for name, plugin in plugins("recipe").items() if plugin.distribution == "avbench")
CLIPS = 2
DEPTH, DEPTHS = 2, {"layers", "encoder_layers", "decoder_layers", "lstm_layers"}


def prepared(trainee: Trainee[Any, Any]) -> list[Batch]:
    """Batches on the CPU, one of each kind that the trainee sees; what a trainee learns from its data is told."""
    if isinstance(trainee, GeneratorTrainee):
        shapes = [StreamShape(offset=first, num_codebooks=1, length=length, vocab_size=64) for first, length in ((0, 24), (64, 12))]
        space = TokenSpace(video=shapes[0], audio=shapes[1], unified=False, duration_s=4.096)
        trainee.layout = Layout(space=space, tasks=trainee.config.tasks, classes=("a", "b"))
        plans = {task: trainee.layout.plan(task) for task in trainee.config.tasks}
        return [TokenBatch(task=task, sequences=torch.zeros(CLIPS, plan.length, dtype=torch.int64)) for task, plan in plans.items()]
    if isinstance(trainee.config, CodecTraining):
        samples = torch.zeros(CLIPS, trainee.config.crop_samples, dtype=torch.int16)
        return [Waveforms(samples=samples, step=step) for step in range(3)]
    video = torch.zeros(CLIPS, 16, 128, 128, 3, dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    return [TrainBatch(video=video, mel=torch.zeros(CLIPS, 80, 384).half(), audio=torch.zeros(CLIPS, 98_304, dtype=torch.int16))]


def begun(models: dict[str, nn.Module]) -> None:
    """On the device, as after the first step: codebooks have had their k-means, and know it without asking; banks of scenes, which the
    host unpacks from bytes that fakes do not have, are unpacked."""
    for model in models.values():
        model.to(CUDA)
        for part in model.modules():
            if isinstance(part, Codebook):
                part._started = True
            if isinstance(part, Scenes):
                _, height, width = part.stream.size
                part._pictures = torch.zeros(part.stream.scenes, part.stream.channels, height, width, dtype=torch.uint8, device=CUDA)


def shallow(config: Any) -> Any:
    """`config` with at most two layers wherever it counts layers: those that follow are of the same class."""
    if isinstance(config, tuple):
        return tuple(shallow(part) for part in config)
    if not is_dataclass(config) or isinstance(config, type):
        return config
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.init}
    return replace(config, **{name: min(DEPTH, value) if name in DEPTHS else shallow(value) for name, value in values.items()})


def trace_recipe(name: str) -> None:
    """A step of every stage: everything is on the device, and nothing asks for a number."""
    config = shallow(recipes.config(name))
    config = replace(config, compile=False, batch_size=CLIPS * config.accumulate, stages=tuple(replace(s, clips=64) for s in config.stages))
    trainee = config.trainee()
    codec = isinstance(config, CodecTraining)
    CodecObjective._codebooks = lambda self, step: self.config.codebooks[-1:]  # type: ignore[method-assign]  # drawn on the CPU otherwise
    built = trainee.build_models() if codec else {}  # transformers' constructors ask for numbers, and so do filter banks
    for mel in (log_mel_config(), *multi_scale_configs()):
        mel_spectrogram(torch.zeros(1, 4800), mel)
    with tracing():
        batches, models = prepared(trainee), built or trainee.build_models()
        for index, stage in enumerate(config.stages):
            if index:
                trainee.begin_stage(models, index)
            begun(models)
            run = StageRun(trainee, index, models, ACCELERATOR)
            for step, _ in enumerate(batches):
                run.step(itertools.cycle(batches[step:] + batches[:step]), step, 0)
            assert {str(value.device) for value in run.sums.values()} == {"cuda:0"}, stage.name
            assert all(p.grad is None for p in run.parameters)
            run.finish()


def trace_mistakes() -> None:
    """A table that stayed on the CPU and a number that is asked for are found."""
    config = replace(recipes.config("avtok-mini"), batch_size=CLIPS)
    with tracing():
        trainee = config.trainee()
        batches, models = prepared(trainee), trainee.build_models()
        begun(models)
        run = StageRun(trainee, 0, models, ACCELERATOR)
        with pytest.raises(DataDependentOutputException):
            float(torch.zeros((), device=CUDA) + 1)
        encoder = run.models["joint"].stream_encoders["video"]  # type: ignore[union-attr, index]
        encoder._buffers["patch_position"] = torch.zeros_like(encoder.patch_position, device="cpu")  # type: ignore[union-attr]
        with pytest.raises(RuntimeError, match="device"):
            run.step(itertools.cycle(batches), 0, 0)


def video() -> Tensor:
    return torch.zeros(1, 16, 3, 128, 128, device=CUDA)


def sound() -> Tensor:
    return torch.zeros(1, 1, 98_304, device=CUDA)


def teacher() -> Tensor:
    network = CavMaeTeacher(CavMaeSync(), "random", CUDA)
    seen = network.features("video", video(), (4, 16, 16))
    return torch.cat([seen.flatten(), network.features("audio", sound()[:, 0], (1, 5, 24)).flatten()])


def scored() -> Tensor:
    network = ImageBind().to(CUDA)
    return imagebind.ib_score(network, video(), sound(), 3.90625, 24_000)


def synchronised() -> Tensor:
    """Without its filter bank, which torchaudio makes with numbers."""
    segments = synchformer.video_segments(video()[0], 3.90625)
    return Synchformer().to(CUDA)(segments, torch.zeros(len(segments), 128, 66, device=CUDA))


def heard() -> Tensor:
    from transformers import ClapModel

    with unset_fake_temporarily():  # its constructor asks for numbers
        network = ClapModel(clap.published_config()).eval()
    return clap.embed_audio(network.to(CUDA), sound(), 48_000)


NETWORKS: dict[str, Callable[[], Tensor]] = {
    "i3d": lambda: i3d.logits(i3d.load(CUDA), video()),
    "aisfx": lambda: aisfx.embed(aisfx.load(CUDA), sound(), 24_000),
    "lpips alex": lambda: lpips.load("alex", CUDA)(video()[0], video()[0], normalize=True),
    "lpips vgg": lambda: lpips.load_for_training(CUDA)(video()[0], video()[0], normalize=True),
    "vggish": lambda: vggish.embed(vggish.VggishNet().to(CUDA), sound(), 24_000),
    "synchformer": synchronised,
    "imagebind": scored,
    "clap": heard,
    "cav-mae-sync": teacher,
    "hifigan": lambda: HifiGanGenerator().to(CUDA)(torch.zeros(1, 80, 32, device=CUDA)),
}


def trace_network(name: str) -> None:
    """Its output is on the device."""
    with tracing(), torch.no_grad():
        found = NETWORKS[name]()
    assert found.device == CUDA


if __name__ == "__main__":
    gc.disable()
    for name in sys.argv[1:]:
        if name in NETWORKS:
            trace_network(name)
        elif name == "mistakes":
            trace_mistakes()
        else:
            trace_recipe(name)
        print("traced", name, flush=True)
    os._exit(0)
