"""avbench.train.stages: what each stage may change, to the bit, and that every loss falls."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from avbench.tokenizers.avtok.config import STREAMS, AVTokConfig, DiscriminatorConfig, PriorConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.losses import LossWeights, StreamWeights
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.train import trainee
from avbench.tokenizers.avtok.train.config import AVTokOptim, AVTokStage
from avbench.tokenizers.avtok.train.data import stream_inputs
from avbench.tokenizers.avtok.train.objective import Frozen
from avbench.tokenizers.avtok.train.start import build_models
from avbench.tokenizers.avtok.train.trainee import AVTokTraining
from avbench.train.data import TrainBatch
from avbench.train.optimizers import rate
from avbench.train.stages import StageRun

PLAIN = StreamWeights(l1=1.0, l2=0.5, log_mse=0.1)
MODEL = AVTokConfig(
    name="tiny",
    video=StreamConfig(channels=3, size=(2, 16, 16), patch=(2, 8, 8), tokens=3),
    audio=StreamConfig(channels=1, size=(1, 80, 24), patch=(1, 16, 8), tokens=2),
    width=16,
    encoder_layers=1,
    decoder_layers=2,
    heads=2,
    quantizer=QuantizerConfig(kind="euclidean", entries=8, dim=4, temperature=0.0, revive_after=2),
    prior=PriorConfig(width=16, layers=1, heads=1),
    discriminator=DiscriminatorConfig(width=16, layers=1, heads=1),
    audio_discriminator_patch=(1, 16, 8),
    video_discriminator_patch=(2, 8, 8),
    projector_width=16,
    teacher_dims={"video": 6, "audio": 5},
)
VIDEO = AVTokStage(name="video", trains="video", streams=("video",), clips=400, loss=LossWeights(video=PLAIN, audio=PLAIN, prior=0.1))
AUDIO = replace(VIDEO, name="audio", trains="audio", streams=("audio",))
DECODE = replace(VIDEO, name="decode", trains="decode", streams=STREAMS)
JOINT = replace(DECODE, name="joint", trains="joint")
FAST = AVTokOptim(muon=0.02, adam=5e-3, raw=1.0, encoder=1.0, auxiliary=5e-3, discriminator=5e-3, warmup_clips=4)


def config(*parts: AVTokStage, **changes: object) -> AVTokTraining:
    values = {"name": "tiny", "schedule": "vfal", "model": MODEL, "stages": parts, "batch_size": 4, "compute_dtype": "float32"}
    return AVTokTraining(**(values | {"linear_start": False} | changes))  # type: ignore[arg-type]


@pytest.fixture
def batch() -> TrainBatch:
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(256, (4, 2, 16, 16, 3), dtype=torch.uint8, generator=generator).permute(0, 1, 4, 2, 3)
    mel = torch.rand(4, 80, 24, generator=generator) * 10 - 9
    audio = torch.randint(-5000, 5000, (4, 6144), dtype=torch.int16, generator=generator)
    return TrainBatch(video=video, mel=mel.half(), audio=audio)


def forever(batch: TrainBatch) -> Iterator[TrainBatch]:
    while True:
        yield batch


def run_steps(run: StageRun, batch: TrainBatch, steps: int) -> list[dict[str, float]]:
    """Losses of each step."""
    found = []
    for step in range(steps):
        run.step(forever(batch), step, 4 * step)
        found.append(run.take_sums())
    return found


def snapshot(model: AVTokModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, Tensor], model: AVTokModel) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_stage_audio_changes_no_bit_of_what_the_video_stream_uses(batch: TrainBatch) -> None:
    models = build_models(config(AUDIO))
    video = stream_inputs(batch)["video"]
    before, codes = snapshot(models["joint"]), models["joint"].tokenize("video", video)
    picture = models["joint"].detokenize("video", codes)
    run = StageRun(config(AUDIO).trainee(), 0, models, Accelerator(cpu=True))
    run_steps(run, batch, 4)
    moved = changed(before, models["joint"])
    assert moved
    assert all(".audio." in name for name in moved), moved
    run.finish()
    assert all(".audio." in name for name in changed(before, models["joint"]))
    assert torch.equal(models["joint"].tokenize("video", video), codes)
    assert torch.equal(models["joint"].detokenize("video", codes), picture)


def test_stage_decode_changes_both_decoders_and_no_bit_of_encoder_and_codebook(batch: TrainBatch) -> None:
    models = build_models(config(DECODE))
    before = snapshot(models["joint"])
    codes = {name: models["joint"].tokenize(name, x) for name, x in stream_inputs(batch).items()}
    run_steps(StageRun(config(DECODE).trainee(), 0, models, Accelerator(cpu=True)), batch, 4)
    moved = changed(before, models["joint"])
    assert {name.split(".")[0] for name in moved} == {"decoder", "stream_decoders"}
    assert {name.split(".")[1] for name in moved if name.startswith("stream_decoders")} == set(STREAMS)
    assert all(torch.equal(models["joint"].tokenize(name, x), codes[name]) for name, x in stream_inputs(batch).items())


def test_stage_video_changes_everything_but_what_is_audios_own(batch: TrainBatch) -> None:
    models = build_models(config(VIDEO))
    before = snapshot(models["joint"])
    run_steps(StageRun(config(VIDEO).trainee(), 0, models, Accelerator(cpu=True)), batch, 4)
    moved = changed(before, models["joint"])
    assert not [name for name in moved if ".audio." in name]
    assert {"encoder", "decoder", "bottleneck", "stream_encoders", "stream_decoders"} == {name.split(".")[0] for name in moved}
    assert "bottleneck.quantizer.embedding.weight" in moved


def test_a_stage_ends_on_its_moving_average(batch: TrainBatch) -> None:
    models = build_models(config(VIDEO))
    run = StageRun(config(VIDEO).trainee(), 0, models, Accelerator(cpu=True))
    run_steps(run, batch, 3)
    average = snapshot(run.average.models["joint"])
    assert changed(average, models["joint"])
    run.finish()
    assert not changed(average, models["joint"])


def test_the_moving_average_is_the_weighted_mean_of_the_weights_so_far(batch: TrainBatch) -> None:
    models = build_models(config(VIDEO))
    run = StageRun(config(VIDEO).trainee(), 0, models, Accelerator(cpu=True))
    name = "decoder.blocks.0.mlp.fc1.weight"
    expected = models["joint"].state_dict()[name].clone()
    for step in range(3):
        run.step(forever(batch), step, 4 * step)
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * models["joint"].state_dict()[name]
    assert torch.allclose(run.average.models["joint"].state_dict()[name], expected, atol=1e-6)


class ToyTeacher:
    """A fixed random linear map of mean colours and of the waveform's halves."""

    name = "toy"
    dims = MODEL.teacher_dims

    def features(self, stream: str, clips: Tensor, grid: tuple[int, int, int]) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(1, grid[0] * grid[1] * grid[2], self.dims[stream], generator=generator)
        return table + clips.flatten(1).float().mean(1)[:, None, None]


def test_every_loss_falls(batch: TrainBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = StreamWeights(l1=1.0, l2=1.0, log_mse=0.1, perceptual=0.1, quantizer=1.0, alignment=0.5)
    stage = replace(JOINT, loss=LossWeights(video=everything, audio=replace(everything, perceptual=0.0), prior=0.1), optim=FAST)
    frozen = Frozen(teacher=ToyTeacher(), perceptual=lambda a, b: (a - b).abs().flatten(1).mean(1))
    monkeypatch.setattr(trainee, "load_frozen", lambda stage, dims, device: frozen)
    losses = run_steps(StageRun(config(stage).trainee(), 0, build_models(config(stage)), Accelerator(cpu=True)), batch, 40)
    terms = {"l1", "l2", "log_mse", "quantizer", "alignment"}
    expected = {f"{name}/{term}" for name in STREAMS for term in terms} | {"video/perceptual", "prior", "total"}
    assert set(losses[0]) == expected
    # The quantizer's loss starts at what random codes give and may rise before it falls: compared with its highest.
    for name in sorted(expected):
        assert losses[-1][name] < max(step[name] for step in losses[:20]), name


def test_the_discriminators_learn_and_their_gradient_reaches_the_decoder(batch: TrainBatch) -> None:
    judged = StreamWeights(l1=0.0, adversarial=1.0, quantizer=0.0)
    slow_tokenizer = replace(FAST, muon=1e-4, adam=1e-5)
    stage = replace(JOINT, loss=LossWeights(video=judged, audio=judged, prior=0.0), optim=slow_tokenizer, discriminator_every=2)
    models = build_models(config(stage))
    run = StageRun(config(stage).trainee(), 0, models, Accelerator(cpu=True))
    before, discriminators = snapshot(models["joint"]), [p.clone() for p in run.objective.discriminators()]
    losses = run_steps(run, batch, 12)
    assert [("video/discriminator" in step) for step in losses] == [True, False] * 6
    assert all(not torch.equal(a, b) for a, b in zip(discriminators, run.objective.discriminators(), strict=True) if a.ndim > 1)
    assert "stream_decoders.video.head.weight" in changed(before, models["joint"])
    assert losses[-2]["audio/discriminator"] < losses[0]["audio/discriminator"]


def test_a_loss_of_weight_zero_is_neither_built_nor_computed(batch: TrainBatch) -> None:
    only_l1 = StreamWeights(l1=1.0, quantizer=0.0)
    stage = replace(JOINT, loss=LossWeights(video=only_l1, audio=only_l1, prior=0.0))
    run = StageRun(config(stage).trainee(), 0, build_models(config(stage)), Accelerator(cpu=True))
    assert not list(run.objective.losses.parameters())
    assert set(run_steps(run, batch, 1)[0]) == {"video/l1", "audio/l1", "total"}


def test_a_modality_weight_scales_that_streams_share_of_the_total(batch: TrainBatch) -> None:
    only_l1 = StreamWeights(l1=1.0, quantizer=0.0)
    stage = replace(JOINT, loss=LossWeights(video=only_l1, audio=replace(only_l1, overall=3.0), prior=0.0))
    found = run_steps(StageRun(config(stage).trainee(), 0, build_models(config(stage)), Accelerator(cpu=True)), batch, 1)[0]
    assert found["total"] == pytest.approx(found["video/l1"] + 3 * found["audio/l1"], rel=1e-5)


def test_a_dual_run_trains_two_models_that_share_nothing(batch: TrainBatch) -> None:
    dual = config(JOINT, schedule="dual", audio_model=replace(MODEL, name="tiny-audio"))
    models = build_models(dual)
    before = {name: snapshot(model) for name, model in models.items()}
    losses = run_steps(StageRun(dual.trainee(), 0, models, Accelerator(cpu=True)), batch, 2)
    assert {"video/l1", "audio/l1", "video/prior", "audio/prior"} <= set(losses[0])
    for name, other in (("video", ".audio."), ("audio", ".video.")):
        moved = changed(before[name], models[name])
        assert "bottleneck.quantizer.embedding.weight" in moved
        assert not [key for key in moved if other in key]


def test_the_prior_goes_on_from_one_stage_to_the_next(batch: TrainBatch) -> None:
    settings = config(VIDEO, AUDIO)
    models = build_models(settings)
    first = StageRun(settings.trainee(), 0, models, Accelerator(cpu=True))
    run_steps(first, batch, 2)
    second = StageRun(settings.trainee(), 1, models, Accelerator(cpu=True), inherited=first)
    fresh = StageRun(settings.trainee(), 1, models, Accelerator(cpu=True))
    name = "joint.prior.head.weight"
    states = [run.objective.losses.state_dict()[name] for run in (first, second, fresh)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert not [key for key in second.objective.losses.state_dict() if ".video." in key], "a stage without video has no judge of it"


def test_accumulating_two_half_batches_is_one_step_of_the_whole_batch(batch: TrainBatch) -> None:
    stage = replace(VIDEO, loss=LossWeights(video=PLAIN, prior=0.0))
    halves = [TrainBatch(video=batch.video[part], mel=batch.mel[part]) for part in (slice(0, 2), slice(2, 4))]
    results = []
    for parts, accumulate in (([batch], 1), (halves, 2)):
        settings = config(stage, accumulate=accumulate)
        models = build_models(settings)
        StageRun(settings.trainee(), 0, models, Accelerator(cpu=True)).step(iter(parts), 0, 0)
        results.append(models["joint"].decoder.blocks[0].mlp.fc1.weight.detach())  # type: ignore[union-attr]
    assert torch.allclose(*results, atol=2e-5)


def test_the_rate_warms_up_then_falls_to_its_floor() -> None:
    optim = AVTokOptim(warmup_clips=100, final=0.1)
    assert rate(0, 1000, optim) == pytest.approx(0.01)
    assert rate(100, 1000, optim) == pytest.approx(1.0)
    assert rate(550, 1000, optim) == pytest.approx(0.55)
    assert rate(1000, 1000, optim) == pytest.approx(0.1)


def test_stage_audios_prior_is_told_the_frozen_video_codes_whether_they_were_made_before_or_not(batch: TrainBatch) -> None:
    found = []
    for before in (False, True):
        models = build_models(config(AUDIO))
        codes = models["joint"].tokenize("video", stream_inputs(batch)["video"]) if before else None
        told = replace(batch, video=None, video_codes=codes) if before else batch
        found.append(run_steps(StageRun(config(AUDIO).trainee(), 0, models, Accelerator(cpu=True)), told, 3))
    assert found[0] == found[1]
    models = build_models(config(AUDIO))
    other = replace(batch, video=255 - batch.video)  # type: ignore[operator]
    heard = run_steps(StageRun(config(AUDIO).trainee(), 0, models, Accelerator(cpu=True)), other, 3)
    assert heard[0]["audio/l1"] == found[0][0]["audio/l1"]
    assert heard[0]["prior"] != found[0][0]["prior"]
