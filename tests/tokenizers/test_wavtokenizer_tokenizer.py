"""`wavtokenizer`: the authors' results from a file of the authors' form, our own folders, and nothing but those."""

import argparse
import json
import os
import subprocess
import sys
import types
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_files import codec_state, golden, sound
from torch import Tensor

from avbench import registry, weights
from avbench.errors import AvbenchError, UsageError
from avbench.nn.residual_vq import CodebookConfig
from avbench.run.check import check
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.wavtokenizer import checkpoint as checkpoints
from avbench.tokenizers.wavtokenizer.checkpoint import load_checkpoint, save_checkpoint
from avbench.tokenizers.wavtokenizer.config import BackboneConfig, EncoderConfig, WavTokenizerConfig
from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel
from avbench.tokenizers.wavtokenizer.tokenizer import WavTokenizer
from avbench.types import ClipBatch, Tokens

GOLDEN = golden("wavtokenizer")
PREFIX = "feature_extractor.encodec."
SMALL = WavTokenizerConfig(  # of tests/golden/make_wavtokenizer.py
    name="wavtokenizer@40",
    n_fft=120,
    encoder=EncoderConfig(strides=(2, 3, 5), filters=4),
    codebook=CodebookConfig(entries=64, dim=16),
    backbone=BackboneConfig(width=64, hidden=96, layers=2),
)
MINI = WavTokenizerConfig(
    name="wavtokenizer-tiny",
    n_fft=1200,
    encoder=EncoderConfig(strides=(4, 5, 5, 6), filters=2, lstm_layers=1),
    codebook=CodebookConfig(entries=32, dim=8),
    backbone=BackboneConfig(width=16, hidden=32, layers=1, groups=4, conditions=1, position_blocks=1),
)


def official_state() -> dict[str, Tensor]:
    state = codec_state(GOLDEN["shapes"], 1.0) | {"head.istft.window": torch.hann_window(120)}
    return state | {f"{PREFIX}quantizer.vq.layers.0._codebook.inited": torch.ones(1)}


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a Lightning file as the authors publish them, of the golden model's size, which stands for the 40-token one."""
    monkeypatch.setitem(checkpoints.OFFICIAL, "40", (SMALL, "wavtokenizer-small-600"))

    def write(state: dict[Any, Any] | None = None, **bookkeeping: Any) -> Path:
        content = {"epoch": 24, "state_dict": official_state() if state is None else state, "hyper_parameters": {"sample_rate": 24_000}}
        torch.save(content | bookkeeping, tmp_path / "published.ckpt")
        return tmp_path / "published.ckpt"

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "mini", trained(), {"split": "arcade-train", "clips_seen": 2000})
    return tmp_path / "mini"


def trained() -> WavTokenizerModel:
    torch.manual_seed(0)
    model = WavTokenizerModel(MINI)
    model.train()(0.3 * torch.randn(2, 9600))
    return model.eval()


def load(checkpoint: Path | None, *variants: str) -> WavTokenizer:
    return WavTokenizer(TokenizerOptions(variants=variants, checkpoint=checkpoint))


def clip(samples: Tensor, rate: int = 24_000) -> ClipBatch:
    return ClipBatch(audio=samples, fps=3.90625, sample_rate=rate)


def test_codes_and_sound_are_those_of_the_authors_code(publish: Callable[..., Path]) -> None:
    tokenizer = load(publish())
    tokens = tokenizer.encode(clip(sound(GOLDEN["num_samples"])))
    assert tokens.codes["audio"].flatten().tolist() == GOLDEN["outputs"]["codes"]
    audio = tokenizer.to_samples(tokens.codes["audio"]).flatten()
    assert len(audio) == GOLDEN["length"]
    np.testing.assert_allclose(audio[:40], GOLDEN["outputs"]["first"], atol=1e-5)
    np.testing.assert_allclose(audio[-40:], GOLDEN["outputs"]["last"], atol=1e-5)
    assert float(audio.std()) == pytest.approx(GOLDEN["outputs"]["std"], rel=1e-5)
    recon = tokenizer.decode(tokens)
    assert recon.audio is not None
    assert torch.equal(recon.audio.flatten(), audio[: GOLDEN["num_samples"]])


def test_a_published_file_says_what_it_is(publish: Callable[..., Path]) -> None:
    info = load(publish()).info
    assert (info.name, info.modalities, info.sample_rate, info.kind) == ("wavtokenizer@40", {"audio"}, 24_000, "learned")
    learned = {key: np.prod(shape) for key, shape in GOLDEN["shapes"].items() if "_codebook" not in key and "istft" not in key}
    used = sum(int(size) for key, size in learned.items() if not key.startswith(f"{PREFIX}decoder."))
    assert info.parameters == used + 64 * 16
    assert info.trained_on == "not stated"


def test_a_file_with_the_published_digits_is_official(publish: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    file = publish()
    digits = weights.CATALOG["wavtokenizer-small-600"].sha256
    monkeypatch.setattr(checkpoints, "sha256_of", lambda _: f"{digits}{'0' * 56}")
    assert load(file).info.trained_on.startswith("LibriTTS")
    assert load(file).info.revision == f"{digits}00000000"


def test_other_parts_of_the_training_module_are_left_aside(publish: Callable[..., Path]) -> None:
    extra = {"multiperioddisc.a.weight": torch.zeros(2), "melspec_loss.fb": torch.zeros(2), "dacdiscriminator.b": torch.zeros(2)}
    bare = {key: value for key, value in official_state().items() if not key.startswith(f"{PREFIX}decoder.")}
    a, b = load(publish(official_state() | extra)), load(publish(bare))
    assert torch.equal(a.to_codes(sound(600)), b.to_codes(sound(600)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{PREFIX}encoder.model.0.conv.conv.weight_g": None}, r"it lacks feature_extractor.encodec.encoder.model.0.conv"),
        ({"backbone.extra.weight": torch.zeros(2)}, r"it has unknown backbone.extra.weight"),
        (
            {"backbone.pos_net.2.q.weight": torch.zeros(64, 64, 3)},
            r"mis-shaped backbone.pos_net.2.q.weight \(64, 64, 3\), which should be \(64, 64\)",
        ),
        ({"backbone.gamma_": "text"}, "holds 'backbone.gamma_' of type str"),
        ({"head.out.weight": None}, "lacks head.out.weight; a published WavTokenizer has 122"),
        ({"head.out.weight": torch.zeros(50, 64)}, "has 50 rows in head.out.weight"),
        ({"vocoder.weight": torch.zeros(2)}, "has the unknown tensor vocoder.weight"),
        ({7: torch.zeros(2)}, "holds '7' of type Tensor"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(publish: Callable[..., Path], change: dict[Any, Any], message: str) -> None:
    state = {key: value for key, value in (official_state() | change).items() if value is not None}
    with pytest.raises(AvbenchError, match=message):
        load(publish(state))


def test_lightnings_bookkeeping_is_read_without_its_classes(publish: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("pytorch_lightning.utilities.parsing")
    attribute_dict = type("AttributeDict", (dict,), {"__module__": module.__name__})
    module.AttributeDict = attribute_dict  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        for parent in ("pytorch_lightning", "pytorch_lightning.utilities"):
            patch.setitem(sys.modules, parent, types.ModuleType(parent))
        patch.setitem(sys.modules, module.__name__, module)
        file = publish(
            hyper_parameters=attribute_dict(rate=1),
            args=argparse.Namespace(a=Path("/x")),
            callbacks=defaultdict(int, a=1),
            best=np.float32(2),
        )
    assert len(load(file).to_codes(sound(600)).flatten()) == 20


class _Command:
    """A pickle that would make a file when read."""

    def __init__(self, function: Any, argument: str) -> None:
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return self.function, (self.argument,)


@pytest.mark.parametrize("place", ["state_dict", "callbacks"])
def test_a_file_that_asks_for_code_is_refused_by_name_and_nothing_runs(publish: Callable[..., Path], tmp_path: Path, place: str) -> None:
    for function, argument in ((os.system, f"touch {tmp_path}/ran"), (subprocess.getoutput, f"touch {tmp_path}/ran"), (eval, "1")):
        command = _Command(function, argument)
        file = publish({"head.out.weight": command}) if place == "state_dict" else publish(callbacks=command)
        with pytest.raises(AvbenchError, match=r"refused: it asks for (posix.system|commands.getoutput|builtins.eval);"):
            load(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_checkpoint_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(AvbenchError, match=r"x.ckpt is not a readable PyTorch checkpoint"):
        load(tmp_path / "x.ckpt")


def test_a_cut_file_and_one_without_a_state_are_errors(publish: Callable[..., Path]) -> None:
    file = publish(state_dict=None)
    with pytest.raises(AvbenchError, match='has no "state_dict"'):
        load(file)
    file.write_bytes(publish().read_bytes()[:-2000])
    with pytest.raises(AvbenchError, match=r"published.ckpt"):
        load(file)


def test_a_folder_of_ours_gives_the_trained_model_back(folder: Path) -> None:
    tokenizer, model = load(folder), trained()
    assert tokenizer.info.name == "wavtokenizer-tiny"
    assert tokenizer.info.trained_on == "arcade-train, 2,000 clips seen"
    assert tokenizer.info.parameters == model.num_parameters()
    clips = sound(98_304)
    tokens = tokenizer.encode(clip(clips))
    assert tokens.codes["audio"].shape == (1, 1, 164)
    assert tokens.vocab_sizes == {"audio": 32}
    with torch.no_grad():
        assert torch.equal(tokens.codes["audio"], model.tokenize(clips[0]))
        expected = model.detokenize(tokens.codes["audio"])[None, :, :98_304]
    recon = tokenizer.decode(tokens).audio
    assert recon is not None
    torch.testing.assert_close(recon, expected, atol=1e-5, rtol=1e-4)


def test_another_training_has_another_revision(folder: Path, tmp_path: Path) -> None:
    other = trained()
    other.head.out.bias.data[0] += 1
    save_checkpoint(tmp_path / "other", other, {})
    assert load(tmp_path / "other").info.revision != load(folder).info.revision
    assert load(tmp_path / "other").info.trained_on == "not stated in its manifest"
    save_checkpoint(tmp_path / "other", trained(), {})
    assert load(tmp_path / "other").info.revision == load(folder).info.revision


def edited(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(kind="avtok"), "is not a manifest of wavtokenizer that this avbench can read: kind 'avtok', version '2'"),
        (lambda m: m.update(version=3), "is not a manifest of wavtokenizer that this avbench can read: kind 'wavtokenizer', version '3'"),
        (lambda m: m.update(shards="all"), "is damaged: shards"),
        (lambda m: m["shards"][0].update(file="../model-000.safetensors"), "names a shard '../model-000.safetensors'"),
        (lambda m: m["shards"][0].update(file="manifest.json"), "names a shard 'manifest.json'"),
        (lambda m: m["shards"][0].update(file="model-001.safetensors"), "model-001.safetensors is missing"),
        (lambda m: m["shards"][0].update(sha256="0" * 64), "is damaged: its sha256 is not the manifest's"),
        (lambda m: m["config"]["backbone"].update(width=32), "mis-shaped"),
        (lambda m: m["config"]["backbone"].update(layers=2), "lacks"),
        (lambda m: m["config"]["backbone"].update(width=18), "4 groups do not divide the width 18"),
        (lambda m: m["config"]["encoder"].update(filters=10**9), "'filters' is '1000000000': not possible"),
        (lambda m: m["config"]["encoder"].update(strides=[60_000] * 4), "WavTokenizerConfig|n_fft"),
        (lambda m: m["config"].pop("codebook"), "mis-shaped"),
    ],
)
def test_a_folder_that_is_damaged_or_foreign_is_refused(folder: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    with pytest.raises(AvbenchError, match=message):
        load(edited(folder, change))


def test_a_folder_without_a_manifest_and_an_avtok_folder_are_not_ours(tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match=r"has no manifest.json: not a checkpoint of wavtokenizer"):
        load_checkpoint(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "config": {}, "shards": [], "provenance": {}}))
    with pytest.raises(AvbenchError, match="is not a manifest of wavtokenizer"):
        load_checkpoint(tmp_path)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(AvbenchError, match=r"manifest.json is damaged"):
        load_checkpoint(tmp_path)


def test_variants_are_the_published_rates_and_must_fit_the_checkpoint(folder: Path, publish: Callable[..., Path]) -> None:
    assert load(publish(), "40").info.name == "wavtokenizer@40"
    for variants, message in [(("50",), "no variant 50; it offers 40, 75"), (("40", "75"), "no variant 40@75")]:
        with pytest.raises(UsageError, match=message):
            load(publish(), *variants)
    with pytest.raises(UsageError, match="is wavtokenizer@40, not wavtokenizer@75"):
        load(publish(), "75")
    with pytest.raises(UsageError, match="is wavtokenizer-tiny, not wavtokenizer@40"):
        load(folder, "40")


@pytest.mark.parametrize(
    ("variants", "name"), [((), "wavtokenizer-small-600"), (("40",), "wavtokenizer-small-600"), (("75",), "wavtokenizer-small-320")]
)
def test_absent_weights_name_the_command_that_gets_them(
    variants: tuple[str, ...], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    with pytest.raises(weights.WeightsUnavailable, match=f"avbench weights pull {name}"):
        load(None, *variants)


def test_a_file_without_the_published_digits_is_not_taken_for_the_official_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publish: Callable[..., Path]
) -> None:
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    publish().rename(tmp_path / weights.CATALOG["wavtokenizer-small-600"].file)
    with pytest.raises(AvbenchError, match=r"has sha256 [0-9a-f]{64}, expected d44c40fb"):
        load(None)


def test_a_damaged_payload_is_an_error(folder: Path) -> None:
    tokenizer = load(folder)
    short = Tokens(codes={"audio": torch.zeros(1, 1, 163, dtype=torch.int64)}, vocab_sizes={"audio": 32}, duration_s=4.096)
    with pytest.raises(AvbenchError, match=r"damaged payload: \(1, 163\) codes"):
        tokenizer.decode(short)


@pytest.mark.slow
def test_it_keeps_the_rules_of_a_tokenizer(folder: Path) -> None:
    assert registry.plugins("tokenizer")["wavtokenizer"].distribution == "avbench"
    findings = check("wavtokenizer", checkpoint=folder)
    assert [finding for finding in findings if not finding.passed] == []
    assert len(findings) == 10
