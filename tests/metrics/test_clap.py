"""CLAP score: golden values of the authors' code for sound and text, pre-processing by hand and against librosa, the files, the metric."""

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from clip_with_sound import chord
from keyed_weights import keyed_state

from avbench import registry, weights
from avbench.errors import AvbenchError
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics import clap as metric
from avbench.metrics.features import clap
from avbench.types import ClipBatch, Tokens

transformers = pytest.importorskip("transformers", reason="the extra clap is not installed")
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "clap.json").read_text())
FILE = "630k-audioset-best.pt"
NO_TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=4.096)
WORDS = ["playing piano", "dog barking", "space invaders"]


def _small() -> Any:
    text = {"vocab_size": 100, "hidden_size": 768, "num_hidden_layers": 1, "intermediate_size": 32, "layer_norm_eps": 1e-5}
    audio = {"patch_embeds_hidden_size": 8, "depths": [2, 1, 1, 1], "num_attention_heads": [1, 2, 4, 8], "hidden_size": 64}
    return transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """The authors' small model as they save one: under "module.", beside the state of the training, which holds a NumPy number."""
    shapes = {key: tuple(shape) for key, shape in GOLDEN["shapes"].items()}
    state = {key: torch.ones_like(value) if "running_var" in key else value for key, value in keyed_state(shapes).items()}
    return {"epoch": 3, "name": "small", "loss": np.float64(0.5), "state_dict": {f"module.{key}": value for key, value in state.items()}}


def _saved(folder: Path, content: Any) -> Path:
    torch.save(content, folder / FILE)
    return folder / FILE


@pytest.fixture(scope="module")
def model(published: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return clap.load(_saved(tmp_path_factory.mktemp("clap"), published), _small())


def test_the_authors_code_gives_the_same_embedding_of_a_sound(model: Any) -> None:
    found = clap.embed_audio(model, chord(48_000), 48_000)[0]
    torch.testing.assert_close(found, torch.tensor(GOLDEN["audio"]), atol=2e-5, rtol=0)


def test_the_authors_code_gives_the_same_embedding_of_a_text_though_it_pads(model: Any) -> None:
    torch.testing.assert_close(clap.embed_ids(model, GOLDEN["ids"]), torch.tensor(GOLDEN["text"]), atol=2e-5, rtol=0)


def test_log_mel_is_the_authors() -> None:
    mel = clap.log_mel(clap.ten_seconds(chord(48_000), 48_000))
    assert mel.shape == (1, 1001, 64)
    assert [float(mel[0, t, m]) for t, m, _ in GOLDEN["log_mel"]] == pytest.approx([v for *_, v in GOLDEN["log_mel"]], abs=2e-3)


def test_log_mel_is_librosas() -> None:
    samples = clap.ten_seconds(chord(48_000), 48_000)
    options: dict[str, Any] = {"sr": 48_000, "n_fft": 1024, "hop_length": 480, "n_mels": 64, "fmin": 50, "fmax": 14_000}
    power = librosa.feature.melspectrogram(y=samples[0].numpy(), pad_mode="reflect", **options)
    expected = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None).T
    np.testing.assert_allclose(clap.log_mel(samples)[0].numpy(), expected, atol=5e-3)


def test_sound_is_cut_to_16_bits_repeated_and_padded_by_hand() -> None:
    """4 s fit twice into 10 s, and 2 s of silence follow; what is beyond [-1, 1] is clipped, and rounding is towards zero."""
    second = torch.tensor([0.5, -0.5, 2.0, 0.00005]).repeat(48_000)[None, None]
    found = clap.ten_seconds(second, 48_000)
    assert found.shape == (1, 480_000)
    expected = torch.tensor([16_383, -16_383, 32_767, 1]) / 32_767
    torch.testing.assert_close(found[0, :4], expected)
    assert torch.equal(found[:, :192_000], found[:, 192_000:384_000])
    assert not found[:, 384_000:].any()


def test_of_a_long_sound_the_first_ten_seconds_count_and_no_sound_is_refused() -> None:
    long = torch.cat([torch.full((1, 1, 480_000), 0.25), torch.ones(1, 1, 48_000)], dim=-1)
    assert float(clap.ten_seconds(long, 48_000).max()) == pytest.approx(0.25, abs=1e-4)
    with pytest.raises(ValueError, match="no sample"):
        clap.ten_seconds(torch.zeros(1, 1, 0), 48_000)


def test_stereo_is_averaged_and_24_khz_are_doubled() -> None:
    left = chord(24_000)
    found = clap.ten_seconds(torch.cat([2 * left, torch.zeros_like(left)], dim=1), 24_000)
    assert found.shape == (1, 480_000)
    torch.testing.assert_close(found[:, :196_608:2], left[0], atol=2e-3, rtol=0)


def test_the_published_size_is_the_authors() -> None:
    """RoBERTa base, two projections to 512, and what the authors' code has in HTS-AT tiny without its tagging head."""
    with torch.device("meta"):
        published = transformers.ClapModel(clap.published_config())
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in published.named_children()}
    assert (sizes["text_model"], sizes["audio_model"]) == (124_645_632, 27_534_488)
    assert sizes["audio_projection"] == sizes["text_projection"] == 768 * 512 + 512 + 512 * 512 + 512
    assert published.config.text_config.layer_norm_eps == 1e-5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("module.text_branch.pooler.dense.bias"), r"lacks text_model\.pooler\.dense\.bias"),
        (lambda state: state.pop("module.audio_branch.layers.0.blocks.1.attn.qkv.bias"), r"lacks .*attention\.self\.key\.bias"),
        (lambda state: state.update({"module.audio_branch.patch_embed.mel_conv2d.bias": torch.zeros(8)}), "unknown .*mel_conv2d"),
        (lambda state: state.update({"module.text_projection.2.bias": torch.zeros(3)}), r"\(3,\), which should be \(12,\)"),
        (lambda state: state.update({"module.text_projection.2.bias": torch.full((12,), torch.nan)}), "not finite in text_proj"),
        (lambda state: state.update({"module.text_projection.2.bias": torch.zeros(12, dtype=torch.int64)}), "no floating-point"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_by_the_keys_name(published: dict[str, Any], tmp_path: Path, change: Any, named: str) -> None:
    state = dict(published["state_dict"])
    change(state)
    with pytest.raises(AvbenchError, match=named):
        clap.load(_saved(tmp_path, {"state_dict": state}), _small())


def test_a_file_from_the_days_of_numpy_1_is_read(published: dict[str, Any], tmp_path: Path) -> None:
    """As the authors' was: its NumPy number is rebuilt by numpy.core.multiarray.scalar, which is numpy._core's today."""
    with zipfile.ZipFile(_saved(tmp_path, published)) as now, zipfile.ZipFile(tmp_path / "then.pt", "w") as then:
        for entry in now.namelist():
            then.writestr(entry, now.read(entry).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert clap.load(tmp_path / "then.pt", _small()).audio_projection.linear1.weight.shape == (12, 64)


@pytest.mark.parametrize("content", [[1, 2], {"state": 1}, {"state_dict": {3: torch.zeros(2)}}, {"state_dict": print}])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(AvbenchError, match=FILE):
        clap.load(_saved(tmp_path, content), _small())


def _vocabulary(words: dict[str, int]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return vocabulary


@pytest.fixture
def clap_score(model: Any, monkeypatch: pytest.MonkeyPatch) -> metric.ClapScore:
    """With a vocabulary of whole words in place of RoBERTa's, which is not on this machine."""
    words = {word: 4 + number for number, word in enumerate(sorted(set(" ".join(WORDS).split())))}
    monkeypatch.setattr(weights, "path", lambda name: Path(name))
    monkeypatch.setattr(clap, "load", lambda path: model)
    monkeypatch.setattr(metric, "load_vocabulary", lambda path: _vocabulary({"<s>": 0, "</s>": 2, "<unk>": 3, **words}))
    return metric.ClapScore(MetricOptions())


def _batch(labels: tuple[str | None, ...]) -> ClipBatch:
    noise = 0.1 * torch.randn(1, 1, 98_304, generator=torch.Generator().manual_seed(2))
    audio = torch.cat([chord(24_000), noise, torch.zeros(1, 1, 98_304)])
    return ClipBatch(ids=("a", "b", "c"), labels=labels, audio=audio, fps=3.90625, sample_rate=24_000)


def test_a_clips_score_is_a_cosine_whatever_the_batch(clap_score: metric.ClapScore) -> None:
    batch = _batch(tuple(WORDS))
    rows = clap_score.update(batch, batch, NO_TOKENS)
    assert rows.shape == (3,)
    assert bool((rows.abs() <= 1 + 1e-6).all())
    assert torch.equal(rows, clap_score.update(batch, batch, NO_TOKENS))
    alone = torch.cat([clap_score.update(batch.select([i]), batch.select([i]), NO_TOKENS) for i in range(3)])
    torch.testing.assert_close(alone, rows, atol=1e-5, rtol=0)


def test_the_text_is_the_class_name_with_spaces_and_another_name_has_another_score(clap_score: metric.ClapScore) -> None:
    named = clap_score.update(_batch(("space_invaders",) * 3), _batch(("x",) * 3), NO_TOKENS)
    spaced = clap_score.update(_batch(("space invaders",) * 3), _batch(("x",) * 3), NO_TOKENS)
    assert torch.equal(named, spaced)
    assert not torch.allclose(named, clap_score.update(_batch(("dog barking",) * 3), _batch(("x",) * 3), NO_TOKENS), atol=1e-3)


def test_the_reconstructions_sound_is_measured_and_not_the_references(clap_score: metric.ClapScore) -> None:
    batch = _batch(("dog barking",) * 3)
    rows = clap_score.update(batch, batch, NO_TOKENS)
    torch.testing.assert_close(clap_score.update(batch, batch.select([2, 1, 0]), NO_TOKENS), rows.flip(0), atol=1e-5, rtol=0)
    assert not torch.allclose(rows[0], rows[2], atol=1e-3)


def test_a_clip_without_label_has_no_value_and_is_left_out_of_the_mean(clap_score: metric.ClapScore) -> None:
    batch = _batch(("playing piano", None, "dog barking"))
    rows = clap_score.update(batch, batch, NO_TOKENS)
    assert rows.isnan().tolist() == [False, True, False]
    assert clap_score.compute(rows.numpy()) == pytest.approx(float(rows[[0, 2]].mean()), abs=1e-6)
    nothing = _batch((None, None, None))
    assert bool(clap_score.update(nothing, nothing, NO_TOKENS).isnan().all())


def test_a_vocabulary_is_accepted_only_if_it_reads_a_known_text_as_robertas_does(tmp_path: Path) -> None:
    words = {"<s>": 0, "</s>": 2, "<unk>": 3, "Hello": 31414, "world": 232}
    _vocabulary(words).save(str(tmp_path / "good.json"))
    loaded = clap.load_vocabulary(tmp_path / "good.json")
    assert len(loaded.encode("Hello " * 200).ids) == 77
    _vocabulary({**words, "world": 233}).save(str(tmp_path / "other.json"))
    with pytest.raises(AvbenchError, match=r"other\.json is not that of roberta-base"):
        clap.load_vocabulary(tmp_path / "other.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(AvbenchError, match=r"broken\.json is not a tokenizer\.json"):
        clap.load_vocabulary(tmp_path / "broken.json")


def test_without_its_files_the_metric_names_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("AVBENCH_WEIGHTS", raising=False)
    with pytest.raises(MetricUnavailable, match=r"pull roberta-base-vocabulary`.*avbench weights pull clap"):
        registry.load_metric("clap-score", MetricOptions())
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "roberta-base-vocabulary.json").write_text("{}")
    with pytest.raises(MetricUnavailable, match=r"^weights clap .*avbench weights pull clap"):
        registry.load_metric("clap-score", MetricOptions())


def test_without_its_extra_the_metric_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricUnavailable, match=r"pip install 'avbench\[clap\]'"):
        metric.ClapScore(MetricOptions())


def test_a_split_without_labels_is_told_so_before_any_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "path", lambda name: pytest.fail("looked for a file"))
    with pytest.raises(MetricUnavailable, match="no clip of the split has a label"):
        metric.ClapScore(MetricOptions(classes=frozenset()))


def test_a_run_that_names_no_metrics_leaves_it_out() -> None:
    assert "clap_score" not in registry.default_metrics()
