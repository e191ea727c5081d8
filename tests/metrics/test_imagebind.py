"""IB-score: golden values of the authors' code from clip to cosine, pre-processing by hand and against torchaudio, the file, the metric."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
from clip_with_sound import chord, moving_colours
from keyed_weights import keyed_state
from torch import Tensor

from avbench import registry, weights
from avbench.errors import AvbenchError
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics import imagebind as metric
from avbench.metrics.features import imagebind
from avbench.metrics.features.imagebind import ImageBind, ImageBindConfig, TowerConfig
from avbench.types import ClipBatch, Tokens

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "imagebind.json").read_text())
SMALL = ImageBindConfig(
    vision=TowerConfig(width=24, layers=2, heads=3, tokens=256), audio=TowerConfig(width=16, layers=2, heads=2, tokens=228), dim=12
)
FILE = "imagebind_huge.pth"
NO_TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=4.096)


@pytest.fixture
def published() -> dict[str, Tensor]:
    """The state dict of the authors' small model, with all of its modalities."""
    return keyed_state({key: tuple(shape) for key, shape in GOLDEN["shapes"].items()})


def _saved(folder: Path, state: Any) -> Path:
    torch.save(state, folder / FILE)
    return folder / FILE


@pytest.fixture
def model(published: dict[str, Tensor], tmp_path: Path) -> ImageBind:
    return imagebind.load(_saved(tmp_path, published), SMALL)


@pytest.mark.parametrize(("name", "size"), [("square", (128, 128)), ("wide", (96, 131))])
def test_the_authors_code_gives_the_same_embeddings_and_score(model: ImageBind, name: str, size: tuple[int, int]) -> None:
    video, audio, expected = moving_colours(*size), chord(16_000), GOLDEN["outputs"][name]
    vision, sound = imagebind.embed_video(model, video, 3.90625)[0], imagebind.embed_audio(model, audio, 16_000)[0]
    torch.testing.assert_close(vision, torch.tensor(expected["vision"]), atol=2e-5, rtol=0)
    scale = torch.tensor(expected["audio"]).norm() / sound.norm()  # the factor that we leave out
    torch.testing.assert_close(sound * scale, torch.tensor(expected["audio"]), atol=2e-5, rtol=0)
    assert float(metric.ib_score(model, video, audio, 3.90625, 16_000)) == pytest.approx(expected["score"], abs=2e-5)


def test_the_published_size_is_the_authors() -> None:
    """Their imagebind_huge on the meta device: 632,829,440 weights of the video tower, 86,235,648 of the audio tower."""
    with torch.device("meta"):
        published = ImageBind()
    sizes = [sum(weight.numel() for weight in tower.parameters()) for tower in (published.vision, published.audio)]
    assert sizes == [632_829_440, 86_235_648]


def test_spans_of_a_clip_by_hand() -> None:
    """16 frames in 4.096 s: spans start at 0, 0.524, 1.048, 1.572, 2.096 s, that is 0, 2.05, 4.09, 6.14, 8.19 frames, and last 7.8125."""
    assert imagebind.span_frames(16, 3.90625) == [(0, 7), (3, 9), (5, 11), (7, 13), (9, 15)]
    assert imagebind.span_frames(100, 25.0) == [(0, 49), (13, 62), (25, 74), (38, 87), (50, 99)]
    assert imagebind.span_frames(4, 4.0) == [(0, 3)] * 5  # a clip of 1 s
    assert imagebind.span_starts(65_536) == [0, 16_768, 33_536]
    assert imagebind.span_starts(16_000) == [0, 0, 0]


def test_pictures_are_scaled_cropped_and_normalised_by_hand() -> None:
    video = torch.zeros(1, 16, 3, 64, 128)
    video[..., 64:] = 1  # black left half, white right half; 224 x 448 when scaled
    pieces = imagebind.video_pieces(video, 3.90625)
    assert pieces.shape == (1, 15, 3, 2, 224, 224)
    black, white = -0.48145466 / 0.26862954, (1 - 0.40821073) / 0.27577711
    left, middle, right = pieces[0, :3]
    assert float(left[0, 0, 5, 5]) == pytest.approx(black)
    assert float(right[2, 1, 5, 5]) == pytest.approx(white)
    assert float(middle[0, 0, 5, 5]) == pytest.approx(black)
    assert float(middle[2, 0, 5, -5]) == pytest.approx(white)


def test_each_piece_holds_the_first_and_the_last_frame_of_its_span() -> None:
    video = (torch.arange(16) / 16).view(1, 16, 1, 1, 1).expand(1, 16, 3, 32, 32)
    pieces = imagebind.video_pieces(video, 3.90625)
    shown = pieces[0, :, 0, :, 0, 0] * 0.26862954 + 0.48145466
    assert (shown * 16).round().int().tolist() == [[0, 7], [3, 9], [5, 11], [7, 13], [9, 15]]


def test_sound_is_made_into_the_authors_filter_banks() -> None:
    """Oracle: torchaudio's kaldi.fbank on each span, 198 frames of 10 ms, then six frames of 0."""
    audio = chord(16_000) + 0.1
    pieces = imagebind.audio_pieces(audio, 16_000)
    assert pieces.shape == (1, 3, 1, 128, 204)
    options: dict[str, Any] = {"htk_compat": True, "use_energy": False, "window_type": "hanning", "dither": 0.0}
    for number, start in enumerate((0, 16_768, 33_536)):
        span = audio[0, :, start : start + 32_000]
        bank = torchaudio.compliance.kaldi.fbank(span - span.mean(), sample_frequency=16_000, num_mel_bins=128, **options)
        torch.testing.assert_close(pieces[0, number, 0, :, :198], (bank.T + 4.268) / 9.138, atol=1e-4, rtol=1e-4)
    assert torch.allclose(pieces[..., 198:], torch.tensor(4.268 / 9.138))


def test_stereo_is_averaged_and_a_clip_at_24_khz_is_resampled() -> None:
    left = chord(24_000)
    stereo = torch.cat([2 * left, torch.zeros_like(left)], dim=1)
    assert torch.allclose(imagebind.audio_pieces(stereo, 24_000), imagebind.audio_pieces(left, 24_000), atol=1e-5)
    with pytest.raises(ValueError, match="25 ms"):
        imagebind.audio_pieces(left[..., :480], 24_000)


def _batch() -> ClipBatch:
    video = torch.rand(3, 16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    audio = torch.cat(
        [chord(24_000), 0.1 * torch.randn(1, 1, 98_304, generator=torch.Generator().manual_seed(2)), torch.zeros(1, 1, 98_304)]
    )
    return ClipBatch(ids=("a", "b", "c"), labels=("x", "y", None), video=video, audio=audio, fps=3.90625, sample_rate=24_000)


@pytest.fixture
def ib_score(model: ImageBind, monkeypatch: pytest.MonkeyPatch) -> metric.IbScore:
    monkeypatch.setattr(weights, "path", lambda name: Path(name))
    monkeypatch.setattr(imagebind, "load", lambda path: model)
    return metric.IbScore(MetricOptions())


def test_a_clips_score_is_a_cosine_whatever_the_batch(ib_score: metric.IbScore) -> None:
    batch = _batch()
    rows = ib_score.update(batch, batch, NO_TOKENS)
    assert rows.shape == (3,)
    assert bool((rows.abs() <= 1).all())
    assert torch.equal(rows, ib_score.update(batch, batch, NO_TOKENS))
    alone = torch.cat([ib_score.update(batch.select([i]), batch.select([i]), NO_TOKENS) for i in range(3)])
    torch.testing.assert_close(alone, rows, atol=1e-5, rtol=0)
    assert ib_score.compute(rows.numpy()) == pytest.approx(float(rows.mean()), abs=1e-6)


def test_only_the_clip_itself_is_looked_at(ib_score: metric.IbScore) -> None:
    """Another reference changes nothing; the clip's sound swapped with its neighbour's does."""
    batch = _batch()
    assert batch.audio is not None
    rows = ib_score.update(batch, batch, NO_TOKENS)
    assert torch.equal(rows, ib_score.update(batch.select([2, 1, 0]), batch, NO_TOKENS))
    swapped = ClipBatch(video=batch.video, audio=batch.audio[[1, 0, 2]], fps=3.90625, sample_rate=24_000)
    assert not torch.allclose(ib_score.update(batch, swapped, NO_TOKENS)[:2], rows[:2], atol=1e-4)


def test_a_file_of_the_published_form_and_size_makes_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' names with the published number of blocks and shapes; each tensor one number repeated, so the file is small."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in ImageBind().state_dict().items()}
    layers = {"vision": 32, "audio": 12}
    blocks = [(key, layers.get(key.split(".")[1], 1)) for key in GOLDEN["shapes"] if ".blocks.1." not in key]
    names = {key.replace(".blocks.0.", f".blocks.{number}.") for key, count in blocks for number in range(count)}
    _saved(tmp_path, {key: torch.zeros(1).expand(shapes.get(imagebind._renamed(key), (3,))) for key in names})
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(weights.CATALOG, "imagebind", replace(weights.CATALOG["imagebind"], sha256=None))
    loaded = registry.load_metric("ib_score", MetricOptions())
    assert isinstance(loaded, metric.IbScore)
    assert sum(weight.numel() for weight in loaded.model.parameters()) == 632_829_440 + 86_235_648


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("modality_trunks.vision.blocks.1.norm_2.bias"), r"lacks vision\.blocks\.1\.norm_2\.bias"),
        (lambda state: state.update({"modality_heads.audio.3.weight": torch.zeros(2)}), r"unknown modality_heads\.audio\.3\.weight"),
        (lambda state: state.update({"modality_heads.audio.2.weight": torch.zeros(3, 16)}), r"\(3, 16\).*\(12, 16\)"),
        (lambda state: state.update({"modality_heads.audio.2.weight": torch.full((12, 16), torch.nan)}), "not finite in audio"),
        (lambda state: state.update({"modality_heads.audio.2.weight": torch.zeros(12, 16, dtype=torch.int64)}), "no floating-point"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_the_keys_name(
    published: dict[str, Tensor], tmp_path: Path, change: Any, named: str
) -> None:
    change(published)
    with pytest.raises(AvbenchError, match=named):
        imagebind.load(_saved(tmp_path, published), SMALL)


@pytest.mark.parametrize("content", [[1, 2], {3: torch.zeros(2)}, print])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(AvbenchError, match=FILE):
        imagebind.load(_saved(tmp_path, content), SMALL)


def test_without_its_file_the_metric_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("AVBENCH_WEIGHTS", raising=False)
    with pytest.raises(MetricUnavailable, match="avbench weights pull imagebind"):
        registry.load_metric("ib-score", MetricOptions())


def test_a_run_that_names_no_metrics_leaves_it_out() -> None:
    assert "ib_score" not in registry.default_metrics()
