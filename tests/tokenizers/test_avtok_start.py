"""avbench.train.start: models at step 0."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avbench.tokenizers.avtok.config import AVTokConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.losses import LossWeights
from avbench.tokenizers.avtok.train.config import AVTokStage, branches
from avbench.tokenizers.avtok.train.data import stream_inputs
from avbench.tokenizers.avtok.train.start import apply_linear_start, build_models, sample_patches
from avbench.tokenizers.avtok.train.trainee import AVTokTraining
from avbench.train.data import TrainBatch

MODEL = AVTokConfig(
    name="tiny",
    video=StreamConfig(channels=3, size=(2, 16, 16), patch=(1, 8, 8), tokens=8),
    audio=StreamConfig(channels=1, size=(1, 80, 24), patch=(1, 16, 8), tokens=15),
    width=64,
    encoder_layers=1,
    decoder_layers=2,
    heads=2,
    quantizer=QuantizerConfig(kind="euclidean", entries=32, dim=8, temperature=0.0),
)
STAGE = AVTokStage(name="joint", trains="joint", clips=8, loss=LossWeights(prior=0.0))
CONFIG = AVTokTraining(name="tiny", schedule="vanilla", model=MODEL, stages=(STAGE,), compute_dtype="float32", linear_start_clips=30)


class ToyReader:
    """Forty clips of smooth pictures and mels."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        corners = torch.rand(40, 2 * 3, 2, 2, generator=generator)
        video = torch.nn.functional.interpolate(corners, size=(16, 16), mode="bilinear", align_corners=True)
        self.video = (255 * video).round().byte().view(40, 2, 3, 16, 16)
        bands = torch.rand(40, 1, 3, 3, generator=generator)
        self.mel = 12 * torch.nn.functional.interpolate(bands, size=(80, 24), mode="bilinear")[:, 0] - 11

    def __len__(self) -> int:
        return 40

    def batch(self, indices: list[int]) -> TrainBatch:
        return TrainBatch(video=self.video[indices], mel=self.mel[indices].half())


def test_patches_come_evenly_from_the_clips_in_proportion_to_the_streams_tokens() -> None:
    patches = sample_patches(ToyReader(), MODEL, 30, seed=0)  # type: ignore[arg-type]
    assert patches["video"].shape == (30 * 8, 192)  # all there are; the rule asks for 11 a clip
    assert patches["audio"].shape == (30 * 15, 128)
    few = sample_patches(ToyReader(), replace(MODEL, quantizer=replace(MODEL.quantizer, entries=16)), 40, seed=0)  # type: ignore[arg-type]
    assert len(few["video"]) / len(few["audio"]) == pytest.approx(8 / 15, rel=0.2)
    assert all(0 <= float(x.min()) <= float(x.max()) <= 1 for x in patches.values())
    assert patches["video"].dtype == torch.float32


@pytest.mark.parametrize("dual", [False, True])
def test_the_linear_start_reconstructs_from_its_codes_better_than_the_mean(dual: bool) -> None:
    config = replace(CONFIG, schedule="dual", audio_model=replace(MODEL, name="tiny-audio")) if dual else CONFIG
    reader = ToyReader()
    models = build_models(config)
    apply_linear_start(models, config, reader)  # type: ignore[arg-type]
    inputs = stream_inputs(reader.batch(list(range(40))))
    for name, streams in branches(config).items():
        for stream in streams:
            reference = _unit(inputs[stream])
            recon = models[name].eval().detokenize(stream, models[name].tokenize(stream, inputs[stream]))
            assert (recon - reference).square().mean() < 0.35 * (reference - reference.mean(0)).square().mean()


def test_a_dual_runs_codebook_serves_its_own_stream_alone() -> None:
    reader = ToyReader()
    video = stream_inputs(reader.batch(list(range(40))))["video"]
    errors = {}
    for name, config in (("joint", CONFIG), ("video", replace(CONFIG, schedule="dual", audio_model=replace(MODEL, name="tiny-audio")))):
        model = build_models(config)[name].eval()
        apply_linear_start({"joint": model, "video": model, "audio": build_models(config)[name]}, config, reader)  # type: ignore[arg-type]
        errors[name] = float((model.detokenize("video", model.tokenize("video", video)) - _unit(video)).square().mean())
    assert errors["video"] < 0.97 * errors["joint"]


def test_the_same_seed_gives_the_same_start_and_another_seed_another() -> None:
    starts = []
    for seed in (0, 0, 1):
        config = replace(CONFIG, seed=seed)
        models = build_models(config)
        apply_linear_start(models, config, ToyReader())  # type: ignore[arg-type]
        starts.append(models["joint"].state_dict())
    same, other = (all(torch.equal(a, b[name]) for name, a in starts[0].items()) for b in starts[1:])
    assert same
    assert not other


def _unit(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype == torch.uint8 else x
