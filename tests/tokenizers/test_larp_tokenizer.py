"""The `larp` adapter: official and own checkpoints by one option, deterministic tokens, one stream of video, clamped output."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from official_larp import official_args, tensor, video
from safetensors.torch import save_file

from avbench import weights
from avbench.errors import AvbenchError, UsageError
from avbench.registry import load_tokenizer
from avbench.run.check import check
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.avtok.checkpoint import save_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.parts import count_parameters
from avbench.tokenizers.avtok.tokenizer import AVTok
from avbench.tokenizers.larp.model import larp_large
from avbench.tokenizers.larp.tokenizer import Larp
from avbench.types import ClipBatch, Tokens

ROOT = Path(__file__).parents[1]
FPS = 4 / 1.024


def own_config(audio: StreamConfig | None = None) -> AVTokConfig:
    return AVTokConfig(
        name="larp-tiny",
        video=StreamConfig(channels=3, size=(4, 16, 16), patch=(2, 4, 4), tokens=12),
        audio=audio,
        width=48,
        encoder_layers=1,
        decoder_layers=2,
        heads=2,
        quantizer=QuantizerConfig(kind="euclidean", entries=64, dim=8, temperature=0.0),
    )


@pytest.fixture(scope="module")
def official_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official")
    shapes = json.loads((ROOT / "golden" / "larp.json").read_text())["shapes"]
    save_file({name: tensor(name, tuple(shape)) for name, shape in shapes.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(official_args("tiny")))
    return folder


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    model = AVTokModel(own_config())
    torch.nn.init.normal_(model.stream_decoder("video").head.weight, std=0.2)
    save_checkpoint(folder, model, {"split": "arcade-train", "clips_seen": 20_800})
    return folder


def tokenizer_of(folder: Path) -> Larp:
    return Larp(TokenizerOptions(checkpoint=folder))


def clips() -> ClipBatch:
    return ClipBatch(video=video("tiny", clips=3), fps=FPS, sample_rate=24_000)


@pytest.fixture(params=["official", "own"])
def folder(request: pytest.FixtureRequest, official_folder: Path, own_folder: Path) -> Path:
    return official_folder if request.param == "official" else own_folder


def test_a_rows_name_says_whose_weights_they_are(official_folder: Path, own_folder: Path) -> None:
    official, own = tokenizer_of(official_folder).info, tokenizer_of(own_folder).info
    assert (official.name, own.name) == ("larp", "larp-tiny")
    assert own.trained_on == "arcade-train, 20,800 clips seen"
    assert own.parameters == count_parameters(AVTokModel(own_config()))
    assert official.modalities == own.modalities == frozenset({"video"})
    assert official.revision != own.revision


def test_video_comes_back_in_its_shape_from_one_stream_of_tokens(folder: Path) -> None:
    tokenizer = tokenizer_of(folder)
    tokens = tokenizer.encode(clips())
    assert tokens.codes["video"].shape == (3, 1, 12)
    assert tokens.codes["video"].dtype == torch.int64
    assert tokens.vocab_sizes == {"video": 64}
    recon = tokenizer.decode(tokens)
    assert recon.audio is None
    assert recon.video is not None
    assert recon.video.shape == (3, 4, 3, 16, 16)
    assert recon.fps == pytest.approx(FPS)


def test_tokens_are_never_drawn_even_from_a_model_left_in_training_mode(folder: Path) -> None:
    tokenizer = tokenizer_of(folder)
    first = tokenizer.encode(clips())
    tokenizer.model.train()
    again = [tokenizer.encode(clips()) for _ in range(3)]
    assert all(torch.equal(first.codes["video"], tokens.codes["video"]) for tokens in again)


def test_a_clips_tokens_and_decoding_do_not_depend_on_its_neighbours(folder: Path) -> None:
    tokenizer = tokenizer_of(folder)
    tokens = tokenizer.encode(clips())
    together = tokenizer.decode(tokens).video
    assert together is not None
    for index in range(3):
        alone = tokenizer.encode(clips().select([index]))
        assert torch.equal(alone.codes["video"][0], tokens.codes["video"][index])
        video_alone = tokenizer.decode(alone).video
        assert video_alone is not None
        assert torch.equal(video_alone[0], together[index])


def test_the_output_is_clamped_to_what_a_pixel_may_be(official_folder: Path) -> None:
    tokenizer = tokenizer_of(official_folder)
    tokens = tokenizer.encode(clips())
    recon = tokenizer.decode(tokens).video
    assert recon is not None
    assert (float(recon.min()), float(recon.max())) == (0.0, 1.0)
    with torch.inference_mode():
        unbounded = tokenizer.model.decode("video", tokenizer.model.bottleneck.quantizer.decode(tokens.codes["video"][0]))
    assert float(unbounded.max()) > 1.0
    assert torch.equal(recon[0], unbounded[0].clamp(0, 1))


@pytest.mark.slow
def test_the_conformance_kit_passes_on_clips_of_the_standard_protocol(tmp_path: Path) -> None:
    model = AVTokModel(replace(own_config(), video=StreamConfig(channels=3, size=(16, 128, 128), patch=(8, 32, 32), tokens=16)))
    torch.nn.init.normal_(model.stream_decoder("video").head.weight, std=0.2)
    save_checkpoint(tmp_path, model, {})
    findings = check("larp", checkpoint=tmp_path)
    assert len(findings) == 10
    assert not [finding for finding in findings if not finding.passed]


def test_without_a_checkpoint_the_catalogs_file_is_named_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(weights, "cache_root", lambda: tmp_path)
    with pytest.raises(AvbenchError, match="avbench weights pull larp-l-long-tokenizer"):
        load_tokenizer("larp")


def test_the_catalogs_file_is_read_as_the_published_architecture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, official_folder: Path
) -> None:
    """A file of another size under the published name fits none of its shapes, and says so."""
    (tmp_path / "larp-l-long-tokenizer.safetensors").write_bytes((official_folder / "model.safetensors").read_bytes())
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(AvbenchError, match=r"larp-l-long-tokenizer\.safetensors is not the LARP of its config: it lacks"):
        load_tokenizer("larp")
    assert larp_large().name == "larp"


def test_an_audio_video_model_is_sent_to_avtok_and_a_video_model_to_larp(tmp_path: Path, own_folder: Path) -> None:
    audio = StreamConfig(channels=1, size=(1, 80, 32), patch=(1, 16, 16), tokens=10)
    save_checkpoint(tmp_path, AVTokModel(own_config(audio)), {})
    with pytest.raises(UsageError, match="use --tokenizer avtok"):
        load_tokenizer("larp", checkpoint=tmp_path)
    with pytest.raises(UsageError, match="use --tokenizer larp"):
        AVTok(TokenizerOptions(checkpoint=own_folder))


def test_a_shard_that_is_not_the_manifests_is_refused(own_folder: Path, tmp_path: Path) -> None:
    for file in own_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (shard,) = tmp_path.glob("model-000-*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(AvbenchError, match=r"model-000-\w+\.safetensors is damaged"):
        load_tokenizer("larp", checkpoint=tmp_path)


def test_clips_and_tokens_of_another_shape_and_variants_are_refused(own_folder: Path) -> None:
    tokenizer = tokenizer_of(own_folder)
    with pytest.raises(AvbenchError, match="larp-tiny: video of shape"):
        tokenizer.encode(ClipBatch(video=torch.zeros(1, 8, 3, 16, 16), fps=FPS, sample_rate=24_000))
    with pytest.raises(AvbenchError, match="larp-tiny encodes video, but these clips have none"):
        tokenizer.encode(ClipBatch(audio=torch.zeros(1, 1, 10), fps=FPS, sample_rate=24_000))
    for codes in (torch.zeros(1, 1, 11, dtype=torch.int64), torch.full((1, 1, 12), 64)):
        with pytest.raises(AvbenchError, match="larp-tiny: video"):
            tokenizer.decode(Tokens(codes={"video": codes}, vocab_sizes={"video": 64}, duration_s=1.024))
    with pytest.raises(UsageError, match="larp has no variants"):
        Larp(TokenizerOptions(variants=("mini",), checkpoint=own_folder))
