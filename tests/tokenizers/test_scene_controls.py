"""nearest-train and scene-vq: the nearest clip is found and shown, and the residual pays for its tokens."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avbench.errors import AvbenchError, UsageError
from avbench.nn.mel import log_mel
from avbench.nn.scenes import Bank, mean_frames, to_bytes
from avbench.run import payload
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers import scene_vq
from avbench.tokenizers.banks import load_bank, save_bank
from avbench.tokenizers.nearest_train import NearestTrain
from avbench.tokenizers.pca_vq import PcaVq
from avbench.tokenizers.pca_vq_state import PcaVqConfig, save
from avbench.tokenizers.scene_vq import VIDEO_PATCHES, SceneVq
from avbench.types import ClipBatch
from avbench.weights import sha256_of

CONFIG = PcaVqConfig(video_patch=(1, 8, 8), video_bits=5, audio_patch=(80, 4), audio_bits=4)
FRAMES, SIDE, SAMPLES = 16, 32, 24_576  # 1.024 s


def _clips(first: int, last: int) -> ClipBatch:
    """Clip n: background n % 5, tone n % 3, and a white square that n moves."""
    backgrounds = torch.nn.functional.interpolate(torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)), (SIDE, SIDE))
    video = torch.stack([backgrounds[n % 5] for n in range(first, last)])[:, None].repeat(1, FRAMES, 1, 1, 1)
    for n, clip in zip(range(first, last), video, strict=True):
        for frame in range(FRAMES):
            row, column = divmod((n + frame * (1 + n % 3)) % 16, 4)
            clip[frame, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1
    pitch = torch.tensor([200.0, 400.0, 800.0])[torch.arange(first, last) % 3]
    audio = 0.4 * torch.sin(6.283185 * pitch[:, None] * torch.arange(SAMPLES) / 24_000)
    video = to_bytes(video).float() / 255
    return ClipBatch(video=video, audio=audio[:, None], fps=FRAMES / 1.024, sample_rate=24_000)


def _stored(clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """As training clips lie on disk: uint8 video, float16 mels."""
    assert clips.video is not None
    assert clips.audio is not None
    return to_bytes(clips.video), log_mel(clips.audio[:, 0]).half()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both banks of 30 clips, and codes fitted to 60 others."""
    folder = tmp_path_factory.mktemp("fitted")
    video, mels = _stored(_clips(0, 30))
    bank = Bank(items=to_bytes(mean_frames(video)))
    save_bank(bank, "scenes", folder / "scenes.safetensors")
    save_bank(Bank(items=mels[:, None]), "mels", folder / "mels.safetensors")
    state = scene_vq.fit((_stored(_clips(n, n + 10)) for n in range(30, 90, 10)), 60, bank, CONFIG, seed=0)
    save(replace(state, scenes=sha256_of(folder / "scenes.safetensors")), folder / "codes.safetensors")
    return folder


def test_nearest_train_shows_the_mean_frame_of_the_training_clip_that_looks_most_alike(folder: Path) -> None:
    tokenizer, clips = NearestTrain(TokenizerOptions(checkpoint=folder)), _clips(100, 110)
    tokens = tokenizer.encode(clips)
    recon = tokenizer.decode(tokens)
    assert clips.video is not None
    assert recon.video is not None
    frames, bank = clips.video.mean(1).flatten(1), mean_frames(_stored(_clips(0, 30))[0]).flatten(1)
    assert tokens.codes["video"].flatten().tolist() == torch.cdist(frames, bank).argmin(1).tolist()
    assert [code % 5 for code in tokens.codes["video"].flatten().tolist()] == [n % 5 for n in range(100, 110)]
    torch.testing.assert_close(recon.video[:, 3], bank[tokens.codes["video"].flatten()].unflatten(1, (3, SIDE, SIDE)), atol=0.003, rtol=0)
    assert recon.video.shape == clips.video.shape


def test_nearest_train_hears_the_right_tone_and_keeps_the_length(folder: Path) -> None:
    tokenizer, clips = NearestTrain(TokenizerOptions(checkpoint=folder)), _clips(100, 110)
    tokens = tokenizer.encode(clips)
    recon = tokenizer.decode(tokens)
    assert [code % 3 for code in tokens.codes["audio"].flatten().tolist()] == [n % 3 for n in range(100, 110)]
    assert recon.audio is not None
    assert recon.audio.shape == (10, 1, SAMPLES)
    spectrum = torch.fft.rfft(recon.audio[:, 0]).abs()
    pitch = spectrum.argmax(1) * 24_000 / SAMPLES
    assert (pitch / torch.tensor([200.0, 400.0, 800.0])[torch.arange(100, 110) % 3]).log2().abs().max() < 0.1


def test_nearest_train_is_one_token_of_few_bits_a_stream(folder: Path) -> None:
    tokenizer = NearestTrain(TokenizerOptions(checkpoint=folder))
    tokens = tokenizer.encode(_clips(100, 103))
    payload.check(tokens, 3)
    assert {name: codes.shape for name, codes in tokens.codes.items()} == {"video": (3, 1, 1), "audio": (3, 1, 1)}
    assert tokens.vocab_sizes == {"video": 30, "audio": 30}
    assert tokenizer.info.kind == "control"


@pytest.mark.parametrize("variants", [("1",), ("7071",), ("all",), ("100", "100")])
def test_nearest_train_names_what_it_takes(variants: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="nearest-train@6144"):
        NearestTrain(TokenizerOptions(variants=variants))


def test_clips_of_another_size_or_length_are_refused(folder: Path) -> None:
    clips = _clips(100, 102)
    assert clips.video is not None
    small = replace(clips, video=clips.video[..., :16])
    for tokenizer, message in ((NearestTrain, "these clips are"), (SceneVq, "fitted to clips of 16x32x32, these are 16x32x16")):
        with pytest.raises(AvbenchError, match=message):
            tokenizer(TokenizerOptions(checkpoint=folder)).encode(small)
    with pytest.raises(AvbenchError, match="these clips are"):
        NearestTrain(TokenizerOptions(checkpoint=folder)).encode(replace(clips, fps=2 * clips.fps))


def _error(tokenizer: NearestTrain | PcaVq, clips: ClipBatch) -> float:
    recon = tokenizer.decode(tokenizer.encode(clips)).video
    assert recon is not None
    assert clips.video is not None
    return float((recon - clips.video).square().mean())


def test_the_residual_paints_what_the_scene_lacks(folder: Path) -> None:
    clips = _clips(100, 115)
    scene = NearestTrain(TokenizerOptions(checkpoint=folder))
    assert _error(SceneVq(TokenizerOptions(checkpoint=folder)), clips) < 0.25 * _error(scene, clips)


def test_scene_and_residual_are_streams_and_do_not_depend_on_the_batch(folder: Path) -> None:
    tokenizer, clips = SceneVq(TokenizerOptions(checkpoint=folder)), _clips(100, 104)
    tokens = tokenizer.encode(clips)
    payload.check(tokens, 4)
    assert {name: codes.shape for name, codes in tokens.codes.items()} == {"scene": (4, 1, 1), "video": (4, 1, 256), "audio": (4, 1, 24)}
    assert tokens.vocab_sizes == {"scene": 30, "video": 32, "audio": 16}
    for clip in range(4):
        assert payload.to_bytes(tokenizer.encode(clips.select([clip])), 0) == payload.to_bytes(tokens, clip)
    assert (tokenizer.info.kind, tokenizer.info.parameters > 30 * 3 * SIDE * SIDE) == ("linear", True)


def test_a_scene_for_each_frame_follows_what_changes(folder: Path, tmp_path: Path) -> None:
    """Clips that show one background in their first half and another in their second."""
    bank = load_bank(folder / "scenes.safetensors", "scenes")

    def halves(first: int, last: int) -> ClipBatch:
        one, other = _clips(first, last), _clips(first + 1, last + 1)
        assert one.video is not None
        assert other.video is not None
        return replace(one, video=torch.cat([one.video[:, :8], other.video[:, 8:]], dim=1))

    errors = []
    for num_scenes in (1, 2, 16):
        clips = (_stored(halves(n, n + 10)) for n in range(30, 90, 10))
        state = scene_vq.fit(clips, 60, bank, CONFIG, seed=0, num_scenes=num_scenes)
        save(replace(state, scenes=sha256_of(folder / "scenes.safetensors")), tmp_path / "codes.safetensors")
        (tmp_path / "scenes.safetensors").write_bytes((folder / "scenes.safetensors").read_bytes())
        tokenizer = SceneVq(TokenizerOptions(checkpoint=tmp_path))
        tokens = tokenizer.encode(halves(100, 110))
        payload.check(tokens, 10)
        assert tokens.codes["scene"].shape == (10, 1, num_scenes)
        half = num_scenes // 2
        if half:
            assert [code % 5 for code in tokens.codes["scene"][:, 0, 0].tolist()] == [n % 5 for n in range(100, 110)]
            assert [code % 5 for code in tokens.codes["scene"][:, 0, half].tolist()] == [(n + 1) % 5 for n in range(100, 110)]
        errors.append(_error(tokenizer, halves(100, 110)))
        cut = replace(tokens, codes={**tokens.codes, "scene": tokens.codes["scene"].repeat(1, 1, 2)})
        with pytest.raises(AvbenchError, match="damaged payload: scene tokens"):
            tokenizer.decode(cut)
    assert errors[1] < 0.6 * errors[0]
    assert tokenizer.info.name.startswith("scene-vq@16s@")


def test_the_scene_is_that_of_nearest_train_and_decode_adds_it(folder: Path) -> None:
    tokenizer, clips = SceneVq(TokenizerOptions(checkpoint=folder)), _clips(100, 104)
    tokens = tokenizer.encode(clips)
    assert torch.equal(tokens.codes["scene"], NearestTrain(TokenizerOptions(checkpoint=folder)).encode(clips).codes["video"])
    assert clips.video is not None
    other = replace(tokens, codes={**tokens.codes, "scene": (tokens.codes["scene"] + 1) % 30})
    pictures = [tokenizer.bank.decode(part.codes["scene"].flatten()) for part in (tokens, other)]
    shown = [tokenizer._decode_video(part) for part in (tokens, other)]
    torch.testing.assert_close(shown[1] - shown[0], (pictures[1] - pictures[0])[:, None].expand_as(shown[0]), atol=1e-5, rtol=0)


def test_codes_of_other_scenes_and_pca_vqs_are_refused(folder: Path, tmp_path: Path) -> None:
    bank = load_bank(folder / "scenes.safetensors", "scenes")
    save_bank(Bank(items=bank.items[:20]), "scenes", tmp_path / "scenes.safetensors")
    (tmp_path / "codes.safetensors").write_bytes((folder / "codes.safetensors").read_bytes())
    with pytest.raises(AvbenchError, match="was not fitted for the scenes"):
        SceneVq(TokenizerOptions(checkpoint=tmp_path))
    with pytest.raises(AvbenchError, match="belongs to scene-vq"):
        PcaVq(TokenizerOptions(checkpoint=folder / "codes.safetensors"))


def test_a_bank_of_another_kind_and_a_damaged_one_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match="holds no bank of mels"):
        load_bank(folder / "scenes.safetensors", "mels")
    (tmp_path / "cut").write_bytes((folder / "mels.safetensors").read_bytes()[:-10])
    with pytest.raises(AvbenchError, match="holds no bank of mels"):
        load_bank(tmp_path / "cut", "mels")


def test_fitting_again_gives_the_same_codes(folder: Path, tmp_path: Path) -> None:
    bank = load_bank(folder / "scenes.safetensors", "scenes")
    for name in ("a", "b"):
        save(scene_vq.fit((_stored(_clips(n, n + 10)) for n in range(30, 90, 10)), 60, bank, CONFIG, seed=0), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(AvbenchError, match="no clips"):
        scene_vq.fit([], 60, bank, CONFIG, seed=0)


@pytest.mark.parametrize(
    ("variants", "text"),
    [
        ((), "256x12@128x12"),
        (("512x10",), "512x10@128x10"),
        (("4x16x16x12", "96x11"), "4x16x16x12@96x11"),
        (("1x32x32x12",), "256x12@128x12"),
    ],
)
def test_variants_of_scene_vq_name_tokens_or_a_patch(variants: tuple[str, ...], text: str) -> None:
    assert scene_vq.parse_variants(variants)[1].variant(VIDEO_PATCHES) == text


def test_the_number_of_scenes_is_a_variant_before_the_others() -> None:
    assert scene_vq.parse_variants(("16s",)) == (16, scene_vq.parse_variants(())[1])
    assert scene_vq.parse_variants(("2s", "512x10"))[0] == 2
    for variants in (("3s",), ("256x12", "16s"), ("s",)):
        with pytest.raises(UsageError, match="for example"):
            scene_vq.parse_variants(variants)


def test_every_table_of_patches_makes_the_tokens_that_it_says() -> None:
    for tokens, patch in VIDEO_PATCHES.items():
        assert PcaVqConfig(video_patch=patch).num_tokens((16, 128, 128), 384)[0] == tokens
