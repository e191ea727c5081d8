"""avbench.train.waveform: audio codecs as trainees, from crops to a folder that their tokenizers load."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from avbench.errors import AvbenchError
from avbench.nn.residual_vq import CodebookConfig
from avbench.registry import load_tokenizer
from avbench.tokenizers.encodec.train.network import EncodecSize
from avbench.tokenizers.encodec.train.recipes import EncodecTraining
from avbench.tokenizers.wavtokenizer.config import BackboneConfig, EncoderConfig, WavTokenizerConfig
from avbench.tokenizers.wavtokenizer.train.recipes import WavTokenizerTraining
from avbench.train import recipes
from avbench.train.data import INT16_SCALE, Share, load_clips
from avbench.train.log import read_log
from avbench.train.loop import train
from avbench.train.stages import StageRun
from avbench.train.waveform.config import CodecLoss, CodecOptim, CodecStage, CodecTraining
from avbench.train.waveform.data import CodecData, Waveforms
from avbench.types import ClipBatch

BOOK = CodebookConfig(entries=16, dim=8, kmeans_iterations=3)
FAST = CodecOptim(adam=3e-3, discriminator=3e-3, warmup_clips=4)
SPECTRAL = CodecLoss(l1=1.0, multi_scale=1.0, log_mel=1.0, commitment=1.0)
JUDGED = replace(SPECTRAL, adversarial=0.1, features=0.1)
SETTINGS: dict[str, Any] = {
    "batch_size": 2, "crop_samples": 4800, "compute_dtype": "float32", "log_steps": 2, "save_minutes": 0.0, "eval_clips": 1,
    "discriminator_filters": 2,
}  # fmt: skip


def encodec(loss: CodecLoss = SPECTRAL, clips: int = 12) -> EncodecTraining:
    """Two stages, the second with discriminators where `loss` has none; two or four codebooks a step."""
    stage = CodecStage(name="codec", clips=clips, loss=loss, optim=FAST, discriminator_every=2)
    model = EncodecSize(filters=2, dim=8, lstm_layers=1, codebook=BOOK, bandwidths=(0.6, 1.2))  # of 4 bits: 2 and 4 codebooks
    stages = (stage, replace(stage, name="adversarial", loss=JUDGED))
    return EncodecTraining(name="tiny-encodec", model=model, stages=stages, codebooks=(2, 4), **SETTINGS)


def wavtokenizer() -> WavTokenizerTraining:
    """One stage, one codebook."""
    model = WavTokenizerConfig(
        name="tiny-wavtokenizer",
        encoder=EncoderConfig(filters=2, lstm_layers=1),
        codebook=BOOK,
        backbone=BackboneConfig(width=16, hidden=32, layers=2, position_blocks=1, groups=4, conditions=1),
    )
    stage = CodecStage(name="codec", clips=12, loss=SPECTRAL, optim=FAST)
    return WavTokenizerTraining(name="tiny-wavtokenizer", model=model, stages=(stage,), **SETTINGS)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, test_cache: Path) -> None:
    """Prepared clips of the tests' own."""
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))


@pytest.fixture
def tones() -> Waveforms:
    """Four tones of different pitch and loudness."""
    time = torch.arange(4800) / 24_000
    waves = [level * torch.sin(6.283185 * pitch * time) for pitch, level in ((200, 0.5), (450, 0.3), (900, 0.4), (1500, 0.2))]
    return Waveforms(samples=(torch.stack(waves) / INT16_SCALE).to(torch.int16), step=0)


def steps(run: StageRun, batch: Waveforms, count: int) -> list[dict[str, float]]:
    """Losses of each of `count` steps on the same clips."""
    batches: Iterator[Waveforms] = (replace(batch, step=step) for step in itertools.count())
    found = []
    for step in range(count):
        run.step(batches, step, 2 * step)
        found.append(run.take_sums())
    return found


def stage_run(config: CodecTraining, stage: int = 0) -> StageRun:
    trainee = config.trainee()
    return StageRun(trainee, stage, trainee.build_models(), Accelerator(cpu=True))


@pytest.mark.parametrize("config", [encodec(clips=400), wavtokenizer()], ids=lambda config: config.name)
def test_every_loss_falls(config: CodecTraining, tones: Waveforms) -> None:
    losses = steps(stage_run(config), tones, 40)
    for name in ("l1", "log_mel", "multi_scale", "total"):
        first, last = (sum(step[name] for step in part) for part in (losses[:4], losses[-4:]))
        assert last < first, name
    # Codebooks begin on the first batch's points, and points spread before the books follow.
    assert losses[-1]["commitment"] < max(step["commitment"] for step in losses)


def test_each_step_uses_as_many_codebooks_as_its_number_says_and_all_choices_occur(tones: Waveforms) -> None:
    objective = encodec().trainee().objective(encodec().trainee().build_models(), 0, torch.device("cpu"))
    drawn = [objective._codebooks(step) for step in range(20)]
    assert {*drawn} == {(2,), (4,)}
    assert drawn == [objective._codebooks(step) for step in range(20)]


def test_the_discriminators_learn_from_their_own_loss_alone(tones: Waveforms) -> None:
    config = encodec(JUDGED, clips=400)
    run = stage_run(config)
    discriminators = [p.clone() for p in run.objective.discriminators()]
    losses = steps(run, tones, 1)
    assert all(p.grad is None for p in run.objective.discriminators())
    assert not all(torch.equal(a, b) for a, b in zip(discriminators, run.objective.discriminators(), strict=True))
    losses += steps(run, tones, 12)[1:]
    assert [("discriminator" in step) for step in losses] == [True, *[False, True] * 6][: len(losses)]
    assert all(np.isfinite(list(step.values())).all() for step in losses)


def test_the_adversarial_loss_reaches_the_decoder(tones: Waveforms) -> None:
    run = stage_run(encodec(CodecLoss(adversarial=1.0), clips=400))
    run.objective(tones, 0.0).total.backward()
    assert any(float(p.grad.abs().max()) > 0 for name, p in run.objective.trainable() if "decoder" in name and p.grad is not None)
    assert all(p.grad is None for p in run.objective.discriminators())


def test_a_crop_follows_from_seed_step_and_clip_and_lies_in_the_clip(clip_folder: Path) -> None:
    config = wavtokenizer()
    clips, held_out = load_clips(f"folder:{clip_folder}", None, 1)
    data = CodecData(clips, held_out, config)
    whole = list(data.batches(0, range(5), Share(), torch.device("cpu")))
    halves = [list(data.batches(0, range(3, 5), Share(part=part, parts=2), torch.device("cpu"))) for part in (0, 1)]
    for place, batch in enumerate(whole[3:]):
        assert torch.equal(batch.samples, torch.cat([half[place].samples for half in halves]))
    sounds = [bytes(clips.reader.samples(index).astype("<i2")) for index in range(len(clips.indices))]
    for batch in whole:
        assert all(any(bytes(row.numpy().astype("<i2")) in sound for sound in sounds) for row in batch.samples)
    other = CodecData(clips, held_out, replace(config, seed=1))
    assert not torch.equal(next(other.batches(0, range(1), Share(), torch.device("cpu"))).samples, whole[0].samples)


def test_clips_shorter_than_a_crop_are_refused(clip_folder: Path) -> None:
    clips = load_clips(f"folder:{clip_folder}", None, 1)
    with pytest.raises(AvbenchError, match="200000 samples at 24000 Hz"):
        CodecData(*clips, replace(wavtokenizer(), crop_samples=200_000))


@pytest.mark.slow
def test_a_paused_run_goes_on_to_exactly_the_curve_of_the_uninterrupted_one(tmp_path: Path, clip_folder: Path) -> None:
    """Everything with a state: moving-average codebooks, dead entries, discriminators, two stages."""
    split = f"folder:{clip_folder}"
    train(encodec(JUDGED), split=split, out=tmp_path / "whole", device="cpu")
    pauses = 0
    while not train(encodec(JUDGED), split=split, out=tmp_path / "paused", device="cpu", max_minutes=1e-6).finished:
        pauses += 1
    assert pauses >= 4
    curves = [[line["losses"] for line in read_log(tmp_path / name) if line["kind"] == "train"] for name in ("whole", "paused")]
    assert len(curves[0]) == 6
    assert curves[0] == curves[1]
    files = [json.loads((tmp_path / name / "manifest.json").read_text())["shards"] for name in ("whole", "paused")]
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "tokenizer", "name", "codes"),
    [
        (encodec(), "encodec@1.2k", "tiny-encodec@1.2k", (4, 308)),
        (encodec(), "encodec@0.6k", "tiny-encodec@0.6k", (2, 308)),
        (wavtokenizer(), "wavtokenizer", "tiny-wavtokenizer", (1, 164)),
    ],
    ids=["encodec, all codebooks", "encodec, half of them", "wavtokenizer"],
)
def test_a_trained_folder_is_a_checkpoint_that_reconstructs_as_the_moving_average_does(
    tmp_path: Path, clip_folder: Path, config: CodecTraining, tokenizer: str, name: str, codes: tuple[int, int]
) -> None:
    done = train(config, split=f"folder:{clip_folder}", out=tmp_path, device="cpu")
    assert set(done.held_out) >= {"mr_stft", "mel_l1", "codes"}
    model = config.build()
    model.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True)["state"]["average"]["codec"])
    audio = torch.randn(2, 1, 98_304, generator=torch.Generator().manual_seed(0)) * 0.1
    loaded = load_tokenizer(tokenizer, checkpoint=tmp_path)
    tokens = loaded.encode(ClipBatch(audio=audio, fps=3.90625, sample_rate=24_000))
    expected_codes = model.eval().tokenize(audio[:, 0], *(codes[:1] if codes[0] > 1 else ()))
    assert loaded.info.name == name
    assert "12 clips seen" in loaded.info.trained_on or "24 clips seen" in loaded.info.trained_on
    assert tokens.codes["audio"].shape == (2, *codes)
    assert (tokens.codes["audio"] == expected_codes).float().mean() > 0.999  # folded weights round differently
    recon = loaded.decode(replace(tokens, codes={"audio": expected_codes})).audio
    assert recon is not None
    with torch.no_grad():
        assert torch.allclose(recon[:, 0], model.detokenize(expected_codes)[:, : recon.shape[-1]].clamp(-1, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "other", "tokens_per_s"),
    [
        ("encodec-mini", "avtok-mini", 75),
        ("wavtokenizer-mini-40", "avtok-mini", 40),
        ("wavtokenizer-mini-75", "avtok-mini", 75),
        ("encodec-small", "avtok-small", 75),
        ("wavtokenizer-small-40", "avtok-small", 40),
        ("wavtokenizer-small-75", "avtok-small", 75),
    ],
)
def test_a_baseline_sees_as_many_clips_as_its_avtok_at_its_token_rate(recipe: str, other: str, tokens_per_s: int) -> None:
    config = recipes.config(recipe)
    assert isinstance(config, CodecTraining)
    assert config.clips == recipes.config(other).clips
    codec: Any = config.build()
    assert config.sample_rate / (codec.hop if hasattr(codec, "hop") else codec.config.hop) == tokens_per_s
    if "mini" in recipe:
        assert sum(p.numel() for p in codec.parameters()) < 10e6


def test_encodec_mini_offers_1500_and_3000_bits_a_second_from_one_training() -> None:
    config = recipes.config("encodec-mini")
    assert isinstance(config, EncodecTraining)
    assert config.model.bandwidths == (1.5, 3.0)
    assert config.codebooks == (2, 4)
    assert config.model.to_transformers().num_quantizers == 4


@pytest.mark.parametrize("config", [encodec(), wavtokenizer()], ids=lambda config: config.name)
def test_an_exported_folder_is_loaded_back_codebooks_included_and_another_shape_is_refused(
    config: CodecTraining, tones: Waveforms, tmp_path: Path
) -> None:
    run = stage_run(config)
    steps(run, tones, 2)
    trained = {"codec": run.models["codec"]}
    config.trainee().export(tmp_path, trained, {})
    fresh = replace(config, seed=7).trainee()
    models = fresh.build_models()
    fresh.load(tmp_path, models)
    expected = trained["codec"].state_dict()
    assert all(torch.allclose(value, expected[name]) for name, value in models["codec"].state_dict().items())
    wider = replace(config.model, codebook=replace(BOOK, entries=32))
    other = replace(config, model=wider).trainee()
    with pytest.raises(AvbenchError, match="another"):
        other.load(tmp_path, other.build_models())


@pytest.mark.parametrize("samples", [4800, 4801, 5119])
def test_the_convolutions_pad_as_those_of_transformers(samples: int) -> None:
    codec = encodec().build().eval()
    published, audio = codec.published(), 0.1 * torch.randn(1, 1, samples)
    assert torch.equal(codec.encoder(audio), published.encoder(audio))
    latents = codec.encoder(audio)
    assert torch.equal(codec.decoder(latents), published.decoder(latents))
