"""DeSync: golden logits of the authors' code, segments and looping by hand, offsets to seconds, the file, the metric."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_with_sound import chord, moving_colours
from keyed_weights import keyed_state
from torch import Tensor

from avbench import registry, weights
from avbench.errors import AvbenchError
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics import desync as metric
from avbench.metrics.features import synchformer
from avbench.metrics.features.synchformer import Synchformer, SynchformerConfig
from avbench.types import ClipBatch, Tokens

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "synchformer.json").read_text())
SMALL = SynchformerConfig(width=24, layers=2, heads=4, head_layers=2, head_heads=4, patch=112)
CLIPS = {"square": (128, 128, 4.096), "wide": (96, 131, 4.096), "long": (32, 32, 10.0)}  # height, width, seconds
FPS = 3.90625
FILE = "synchformer_state_dict.pth"
NO_TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=4.096)


@pytest.fixture
def published() -> dict[str, Tensor]:
    """The state dict of the authors' small model."""
    return keyed_state({key: tuple(shape) for key, shape in GOLDEN["shapes"].items()})


def _saved(folder: Path, state: Any) -> Path:
    torch.save(state, folder / FILE)
    return folder / FILE


@pytest.fixture
def model(published: dict[str, Tensor], tmp_path: Path) -> Synchformer:
    return synchformer.load(_saved(tmp_path, published), SMALL)


@pytest.mark.parametrize("name", list(CLIPS))
def test_the_authors_code_gives_the_same_logits(model: Synchformer, name: str) -> None:
    """From the clip on. Other clips' logits are 5e-3 away; rows of the long one, which has two ends, 1e-2."""
    height, width, seconds = CLIPS[name]
    video, audio = 0.25 + 0.5 * moving_colours(height, width)[0], chord(16_000, seconds)[0]
    found = metric.logits(model, video, audio, 16 / seconds, 16_000)
    torch.testing.assert_close(found, torch.tensor(GOLDEN["outputs"][name]), atol=2e-6, rtol=0)
    assert torch.equal(found[0], found[1]) == (name != "long")


def test_the_published_size_is_the_authors() -> None:
    """Their model has 237,460,245 numbers, 590,592 of which (`patch_embed`) are never used."""
    with torch.device("meta"):
        published = Synchformer()
    assert sum(weight.numel() for weight in published.parameters()) == 237_460_245 - 590_592


def test_frames_are_held_by_time_and_start_again_by_hand() -> None:
    """Frame k is shown from 0.256 k s on, and the first again from 4.096 s on: in units of 0.04 s from 6.4 k and from 102.4 on."""
    shown = synchformer.frame_indices(16, FPS).tolist()
    assert len(shown) == 120
    assert shown[:14] == [0] * 7 + [1] * 6 + [2]
    assert shown[32] == 5  # 32 x 0.04 s = 5 x 0.256 s
    assert shown[96:] == [15] * 7 + [0] * 6 + [1] * 7 + [2] * 4
    assert synchformer.frame_indices(300, 30.0).tolist() == [number * 6 // 5 for number in range(250)]
    assert synchformer.frame_indices(16, 16 / 4.8).tolist() == [number * 2 // 15 for number in range(120)]


@pytest.mark.parametrize(("num_shown", "starts"), [(120, [*range(0, 112, 8)]), (127, [*range(0, 112, 8)]), (136, [*range(0, 128, 8)])])
def test_the_first_and_last_14_segments_by_hand(num_shown: int, starts: list[int]) -> None:
    assert synchformer.segment_starts(num_shown) == starts


def test_of_a_clip_of_12_s_the_middle_is_left_out() -> None:
    """300 frames have 36 segments, of which 28 are looked at."""
    starts = synchformer.segment_starts(300)
    assert starts == [*range(0, 112, 8), *range(176, 288, 8)]
    video = torch.linspace(0, 1, 300).view(300, 1, 1, 1).expand(-1, 3, 8, 8)
    segments = synchformer.video_segments(video, 25.0)
    assert segments.shape == (28, 16, 3, 224, 224)
    assert ((segments[:, 0, 0, 0, 0] + 1) / 2 * 299).round().int().tolist() == starts
    assert synchformer.audio_segments(torch.zeros(1, 192_000), 16_000, 12.0).shape == (28, 128, 66)


def test_sound_starts_again_where_the_clip_ends() -> None:
    sound = chord(16_000)[0]  # 65,536 samples
    looped = synchformer.looped(sound, 16_000, 4.096, 76_800)
    assert torch.equal(looped[:65_536], sound[0])
    assert torch.equal(looped[65_536:], sound[0, :11_264])


@pytest.mark.parametrize("lacking", [-5, 0, 100])
def test_sound_keeps_the_clips_time_when_it_is_longer_or_shorter(lacking: int) -> None:
    """A codec's few samples more or less must not shift the second round against the picture."""
    looped = synchformer.looped(torch.ones(1, 65_536 - lacking), 16_000, 4.096, 76_800)
    silent = max(lacking, 0)
    assert torch.equal(looped[:65_536], torch.cat([torch.ones(65_536 - silent), torch.zeros(silent)]))
    assert bool((looped[65_536:] == 1).all())


def test_stereo_is_averaged_and_24_khz_resampled() -> None:
    """A tone of 1 kHz at 24 kHz is the same tone at 16 kHz, but for the resampler's edges."""
    tone, expected = (torch.sin(6.283185307179586 * 1000 * torch.arange(round(4.096 * rate)) / rate) for rate in (24_000, 16_000))
    looped = synchformer.looped(torch.stack([2 * tone, torch.zeros_like(tone)]), 24_000, 4.096, 65_536)
    torch.testing.assert_close(looped[100:-100], expected[100:-100], atol=5e-3, rtol=0)


def test_pictures_are_scaled_cropped_and_normalised_by_hand() -> None:
    video = torch.zeros(16, 3, 112, 224)
    video[..., 112:] = 1  # black left half, white right half; 224 x 448 when scaled, the middle 224 columns of which are kept
    segments = synchformer.video_segments(video, FPS)
    assert segments.shape == (14, 16, 3, 224, 224)
    assert bool((segments[..., :108] == -1).all())
    assert bool((segments[..., 116:] > 1 - 1e-5).all())
    assert float(segments.abs().max()) == 1  # bicubic overshoot is cut off


def test_log_mel_of_silence_and_of_a_tone_by_hand() -> None:
    """Silence: log 1e-6 in 65 frames, then the frame that is 0 before normalisation. A tone of 1 kHz peaks in the band about it."""
    time = torch.arange(10_240) / 16_000
    silence, tone = synchformer.log_mel(torch.stack([torch.zeros(10_240), torch.sin(6.283185307179586 * 1000 * time)]))
    assert silence.shape == (128, 66)
    assert torch.allclose(silence[:, :65], torch.tensor((-13.815511 + 4.2677393) / (2 * 4.5689974)))
    assert torch.allclose(silence[:, 65], torch.tensor(4.2677393 / (2 * 4.5689974)))
    # Bands spread 2595 log10(1 + f / 700) evenly from 0 to 8 kHz: 1 kHz is at 1000.0 of 2840.0, that is 129 x 0.3521 = 45.4.
    assert int(tone[:, 30].argmax()) == 44  # band 44 has its middle at 45 of 129


@pytest.mark.parametrize(
    ("largest", "seconds"),
    [((10, 10), 0.0), ((0, 0), 2.0), ((20, 20), 2.0), ((9, 9), 0.2), ((13, 13), 0.6), ((10, 15), 0.5), ((5, 15), 1.0)],
)
def test_the_largest_logits_offsets_by_hand(largest: tuple[int, int], seconds: float) -> None:
    """Classes 0, 10, 20 are -2, 0, 2 s; early and late count alike, and the ends' mean is taken of absolute values."""
    logits = torch.zeros(2, 21)
    logits[[0, 1], largest] = 1.0
    assert float(metric.mean_offset(logits)) == pytest.approx(seconds, abs=1e-12)


def _batch() -> ClipBatch:
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(3, 16, 3, 32, 32, generator=generator)
    audio = torch.cat([chord(24_000), 0.1 * torch.randn(1, 1, 98_304, generator=generator), torch.zeros(1, 1, 98_304)])
    return ClipBatch(ids=("a", "b", "c"), labels=("x", "y", None), video=video, audio=audio, fps=FPS, sample_rate=24_000)


class Loudness(torch.nn.Module):
    """A stand-in that makes of each clip the class of how loud its sound is, and asserts what it was given."""

    def forward(self, video: Tensor, mel: Tensor) -> Tensor:
        assert video.shape == (14, 16, 3, 224, 224)
        assert mel.shape == (14, 128, 66)
        number = int(((mel.mean() + 1.1) * 10).clamp(0, 20))
        return torch.nn.functional.one_hot(torch.tensor([number, number]), 21).float()


def _metric(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> metric.DeSync:
    monkeypatch.setattr(weights, "path", lambda name: Path(name))
    monkeypatch.setattr(synchformer, "load", lambda path: model)
    return metric.DeSync(MetricOptions())


def test_each_clip_has_a_value_of_its_own_and_the_metric_is_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    desync, batch = _metric(Loudness(), monkeypatch), _batch()
    rows = desync.update(batch, batch, NO_TOKENS)
    assert rows.shape == (3,)
    assert len(set(rows.tolist())) == 3
    assert float(rows[2]) == 2.0  # silence: class 0
    assert desync.compute(rows.numpy()) == pytest.approx(sum(rows.tolist()) / 3)
    assert desync.info.higher_is_better is False
    assert "looped to 4.8 s" in desync.info.protocol


def test_a_clips_value_does_not_depend_on_its_batch(model: Synchformer, monkeypatch: pytest.MonkeyPatch) -> None:
    desync, batch = _metric(model, monkeypatch), _batch()
    rows = desync.update(batch, batch, NO_TOKENS)
    alone = [desync.update(batch.select([clip]), batch.select([clip]), NO_TOKENS) for clip in (2, 1, 0)]
    assert torch.equal(torch.cat(alone[::-1]), rows)
    assert all(round(value * 10, 9) == round(value * 10) and 0 <= value <= 2 for value in rows.tolist())  # means of two multiples of 0.2


def test_what_was_generated_is_judged_and_not_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    desync, batch = _metric(Loudness(), monkeypatch), _batch()
    rows = desync.update(batch, batch, NO_TOKENS)
    assert torch.equal(rows, desync.update(batch.select([2, 1, 0]), batch, NO_TOKENS))
    assert batch.audio is not None
    exchanged = ClipBatch(video=batch.video, audio=batch.audio[[2, 1, 0]], fps=FPS, sample_rate=24_000)
    assert torch.equal(desync.update(batch, exchanged, NO_TOKENS), rows[[2, 1, 0]])


def test_picture_and_sound_both_reach_the_logits(model: Synchformer) -> None:
    video, audio = moving_colours(32, 32)[0], chord(16_000)[0]
    logits = metric.logits(model, video, audio, FPS, 16_000)
    assert float((metric.logits(model, video.flip(0), audio, FPS, 16_000) - logits).abs().max()) > 1e-4
    assert float((metric.logits(model, video, audio.roll(16_000, 1), FPS, 16_000) - logits).abs().max()) > 1e-4


def test_a_file_of_the_published_form_and_size_makes_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' 513 names with the published number of blocks and shapes; each tensor one number repeated, so the file is small."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Synchformer().state_dict().items()}
    layers = {"vfeat_extractor.blocks": 12, "afeat_extractor.ast.encoder.layer": 12, "transformer.blocks": 3}
    copies = [[f"{stem}.{number}." for number in range(count)] for stem, count in layers.items()]
    names = {key for key in GOLDEN["shapes"] if not key.startswith(tuple(layers))}
    for starts in copies:
        first = [key.removeprefix(starts[0]) for key in GOLDEN["shapes"] if key.startswith(starts[0])]
        names |= {start + rest for start in starts for rest in first}
    assert len(names) == 513
    _saved(tmp_path, {key: torch.zeros(1).expand(shapes.get(key, (3,))) for key in names})
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(weights.CATALOG, "synchformer", replace(weights.CATALOG["synchformer"], sha256=None))
    loaded = registry.load_metric("desync", MetricOptions())
    assert isinstance(loaded, metric.DeSync)
    assert not any(weight.requires_grad or weight.is_meta for weight in loaded.model.parameters())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("transformer.off_head.bias"), r"lacks transformer\.off_head\.bias"),
        (lambda state: state.update({"temp_attn_agg.cls_token": torch.zeros(2)}), r"unknown temp_attn_agg\.cls_token"),
        (lambda state: state.update({"vproj.weight": torch.zeros(24, 16)}), r"vproj\.weight \(24, 16\), which should be \(24, 24\)"),
        (lambda state: state.update({"aproj.bias": torch.zeros(24, dtype=torch.int64)}), r"no floating-point tensor in aproj\.bias"),
        (lambda state: state.update({"aproj.bias": torch.full((24,), torch.nan)}), r"not finite in aproj\.bias"),
        (lambda state: state.update({"aproj.bias": [0.0] * 24}), r"holds 'aproj\.bias' of type list"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_the_keys_name(
    published: dict[str, Tensor], tmp_path: Path, change: Any, named: str
) -> None:
    change(published)
    with pytest.raises(AvbenchError, match=named):
        synchformer.load(_saved(tmp_path, published), SMALL)


@pytest.mark.parametrize("content", [[1, 2], {3: torch.zeros(2)}, print])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(AvbenchError, match=FILE):
        synchformer.load(_saved(tmp_path, content), SMALL)


def test_another_file_under_its_name_is_refused(published: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _saved(tmp_path, published)
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(AvbenchError, match="expected 8aff082f"):
        metric.DeSync(MetricOptions())


def test_without_its_file_the_metric_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("AVBENCH_WEIGHTS", raising=False)
    with pytest.raises(MetricUnavailable, match="avbench weights pull synchformer"):
        registry.load_metric("desync", MetricOptions())


def test_a_run_that_names_no_metrics_has_it_for_generated_clips_only() -> None:
    assert "desync" not in registry.default_metrics()
    assert "desync" in registry.default_metrics("a2v")
