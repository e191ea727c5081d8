"""AVTok's checkpoints and its adapter: what is written is read, what is damaged is refused, tokens alone give the clip."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avbench import artifact
from avbench.errors import AvbenchError, UsageError
from avbench.run import payload
from avbench.tokenizer import Tokenizer, TokenizerOptions
from avbench.tokenizers.avtok import melbox
from avbench.tokenizers.avtok.checkpoint import load_checkpoint, save_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig, QuantizerConfig, StreamConfig, avtok_base
from avbench.tokenizers.avtok.linear_init import linear_init
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.streams import patchify
from avbench.tokenizers.avtok.tokenizer import AVTok
from avbench.types import ClipBatch, Tokens

SAMPLES = 98_304


def config() -> AVTokConfig:
    return AVTokConfig(
        name="tiny",
        video=StreamConfig(channels=3, size=(16, 16, 16), patch=(8, 8, 8), tokens=8),
        audio=StreamConfig(channels=1, size=(1, 80, 384), patch=(1, 16, 32), tokens=60),
        width=64,
        encoder_layers=1,
        decoder_layers=2,
        heads=2,
        quantizer=QuantizerConfig(kind="euclidean", entries=64, dim=8),
    )


def clips(count: int = 3) -> ClipBatch:
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(SAMPLES) / 24_000
    pitch = torch.rand(count, 1, 1, generator=generator) * 1000 + 200
    return ClipBatch(
        video=torch.rand(count, 16, 3, 16, 16, generator=generator),
        audio=0.3 * torch.sin(2 * torch.pi * pitch * time),
        fps=16 / 4.096,
        sample_rate=24_000,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model, batch = AVTokModel(config()), clips(8)
    assert batch.video is not None
    assert batch.audio is not None
    inputs = {"video": batch.video, "audio": melbox.to_box(batch.audio[:, 0])}
    linear_init(model, {name: patchify(x, config().stream(name)).flatten(0, 1) for name, x in inputs.items()})
    path = tmp_path_factory.mktemp("avtok") / "checkpoint"
    save_checkpoint(path, model, {"split": "synthetic", "clips_seen": 8})
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> AVTok:
    return AVTok(TokenizerOptions(checkpoint=folder))


def test_a_checkpoint_comes_back_to_the_bit_with_its_config_and_provenance(tmp_path: Path) -> None:
    model = AVTokModel(config())
    save_checkpoint(tmp_path, model, {"split": "x", "minutes": 3.5})
    loaded = load_checkpoint(tmp_path)
    assert loaded.model.config == config()
    assert loaded.provenance == {"split": "x", "minutes": 3.5}
    assert all(torch.equal(loaded.model.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert not loaded.model.training


def test_the_papers_config_survives_the_manifest() -> None:
    assert AVTokConfig.from_dict(json.loads(json.dumps(avtok_base().to_dict()))) == avtok_base()


def test_shards_stay_below_their_limit_and_a_second_save_leaves_no_stale_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AVTokModel(config())
    monkeypatch.setattr(artifact, "SHARD_BYTES", 450_000)
    save_checkpoint(tmp_path, model, {})
    shards = list(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    assert max(file.stat().st_size for file in shards) < 450_000
    load_checkpoint(tmp_path)
    monkeypatch.undo()
    save_checkpoint(tmp_path, model, {})
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_the_revision_follows_the_weights(tmp_path: Path) -> None:
    model = AVTokModel(config())
    save_checkpoint(tmp_path / "a", model, {})
    save_checkpoint(tmp_path / "b", model, {"note": "same weights"})
    model.bottleneck.quantizer.embedding.weight.data[0, 0] += 1
    save_checkpoint(tmp_path / "c", model, {})
    a, b, c = (load_checkpoint(tmp_path / name).revision for name in "abc")
    assert a == b != c


def _edit(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def test_damage_is_refused_by_name(tmp_path: Path) -> None:
    def fresh() -> Path:
        save_checkpoint(tmp_path, AVTokModel(config()), {})
        return tmp_path

    (shard,) = fresh().glob("model-000-*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(AvbenchError, match=r"model-000-\w+.safetensors is damaged"):
        load_checkpoint(tmp_path)
    for shard in fresh().glob("*.safetensors"):
        shard.unlink()
    with pytest.raises(AvbenchError, match="missing"):
        load_checkpoint(tmp_path)
    _edit(fresh(), shards=[{"file": "../model-000.safetensors", "sha256": "0" * 64, "bytes": 1}])
    with pytest.raises(AvbenchError, match="same folder"):
        load_checkpoint(tmp_path)
    _edit(fresh(), shards=[])
    with pytest.raises(AvbenchError, match="lacks"):
        load_checkpoint(tmp_path)
    _edit(fresh(), config=config().to_dict() | {"width": 128})
    with pytest.raises(AvbenchError, match="mis-shaped"):
        load_checkpoint(tmp_path)
    _edit(fresh(), config=config().to_dict() | {"surprise": 1})
    with pytest.raises(AvbenchError, match="surprise"):
        load_checkpoint(tmp_path)
    (fresh() / "manifest.json").write_text("{")
    with pytest.raises(AvbenchError, match="damaged"):
        load_checkpoint(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(AvbenchError, match="no manifest"):
        load_checkpoint(tmp_path)


def test_it_is_a_tokenizer_with_one_joint_stream_over_one_codebook(tokenizer: AVTok) -> None:
    assert isinstance(tokenizer, Tokenizer)
    tokens = tokenizer.encode(clips())
    assert tokens.codes["joint"].shape == (3, 1, 68)
    assert tokens.codes["joint"].dtype == torch.int64
    assert tokens.vocab_sizes == {"joint": 64}
    assert tokens.duration_s == pytest.approx(4.096)
    assert tokenizer.info.trained_on == "synthetic, 8 clips seen"


def test_decoding_gives_both_modalities_of_the_split(tokenizer: AVTok) -> None:
    batch = clips()
    recon = tokenizer.decode(tokenizer.encode(batch))
    assert recon.video is not None
    assert recon.audio is not None
    assert recon.video.shape == batch.video.shape  # type: ignore[union-attr]
    assert recon.audio.shape == (3, 1, SAMPLES)
    assert recon.video.min() >= 0
    assert recon.video.max() <= 1
    assert recon.fps == pytest.approx(batch.fps)
    assert recon.audio.isfinite().all()


def test_a_clips_tokens_and_reconstruction_do_not_depend_on_its_batch_or_the_call(tokenizer: AVTok) -> None:
    batch = clips()
    together = tokenizer.encode(batch)
    recon = tokenizer.decode(together)
    for index in range(3):
        alone = tokenizer.encode(batch.select([index]))
        assert torch.equal(alone.codes["joint"][0], together.codes["joint"][index])
        single = tokenizer.decode(alone)
        assert torch.equal(single.video[0], recon.video[index])  # type: ignore[index]
        assert torch.equal(single.audio[0], recon.audio[index])  # type: ignore[index]


def test_one_modality_alone_gives_the_same_codes_as_in_the_pair(tokenizer: AVTok) -> None:
    batch = clips()
    joint = tokenizer.split(tokenizer.encode(batch).codes)
    for name, missing in (("video", {"audio": None}), ("audio", {"video": None})):
        single = tokenizer.encode(ClipBatch(**{**vars(batch), **missing}))
        assert set(single.codes) == {name}
        assert torch.equal(single.codes[name], joint[name])
    assert torch.equal(tokenizer.join(joint)["joint"], tokenizer.encode(batch).codes["joint"])


def test_the_token_bytes_alone_decode_to_the_same_clip_in_a_fresh_process(tokenizer: AVTok, folder: Path, tmp_path: Path) -> None:
    tokens = tokenizer.encode(clips(1))
    (tmp_path / "tokens").write_bytes(payload.to_bytes(tokens, 0))
    script = (
        "import sys, torch; from pathlib import Path\n"
        "from avbench.run import payload; from avbench.tokenizer import TokenizerOptions\n"
        "from avbench.tokenizers.avtok.tokenizer import AVTok\n"
        "recon = AVTok(TokenizerOptions(checkpoint=Path(sys.argv[1]))).decode(payload.from_bytes([Path(sys.argv[2]).read_bytes()]))\n"
        "torch.save({'video': recon.video, 'audio': recon.audio}, sys.argv[3])"
    )
    paths = [str(folder), str(tmp_path / "tokens"), str(tmp_path / "recon.pt")]
    subprocess.run([sys.executable, "-c", script, *paths], check=True, timeout=120)
    other, here = torch.load(tmp_path / "recon.pt", weights_only=True), tokenizer.decode(tokens)
    torch.testing.assert_close(other["video"], here.video)
    torch.testing.assert_close(other["audio"], here.audio, atol=1e-4, rtol=1e-3)


def test_foreign_clips_and_tokens_are_refused_with_the_reason(tokenizer: AVTok, folder: Path) -> None:
    batch = clips(1)
    with pytest.raises(AvbenchError, match="takes"):
        tokenizer.encode(ClipBatch(video=batch.video[:, :8], fps=1.0, sample_rate=24_000))  # type: ignore[index]
    with pytest.raises(AvbenchError, match="neither"):
        tokenizer.encode(ClipBatch(fps=1.0, sample_rate=24_000))
    bad = {
        "expected": {"joint": torch.zeros(1, 1, 67, dtype=torch.int64)},
        "outside": {"video": torch.full((1, 1, 8), 64)},
        "no stream": {"text": torch.zeros(1, 1, 8, dtype=torch.int64)},
    }
    for reason, codes in bad.items():
        with pytest.raises(AvbenchError, match=reason):
            tokenizer.decode(Tokens(codes=codes, vocab_sizes=dict.fromkeys(codes, 64), duration_s=4.096))
    with pytest.raises(UsageError, match="one vocoder"):
        AVTok(TokenizerOptions(checkpoint=folder, variants=("a", "b")))


def test_mel_boxes_hold_log_mels_from_silence_to_full_scale() -> None:
    mel = torch.tensor([-11.512925, 2.5, -4.0]).view(1, 3, 1)
    box = melbox.mel_to_box(mel)
    torch.testing.assert_close(box.flatten()[:2], torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(melbox.from_box(box), mel)
    silence = melbox.to_box(torch.zeros(1, SAMPLES))
    assert silence.shape == (1, 1, 1, 80, 384)
    assert silence.max() < 0.01
