"""The linear control: patches are put back where they were, fitting is repeatable and pays, files are checked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avbench.errors import AvbenchError, UsageError
from avbench.nn import linear_vq
from avbench.nn.patches import mel_to_patches, patches_to_mel, patches_to_video, video_to_patches
from avbench.run import payload
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.pca_vq import PcaVq
from avbench.tokenizers.pca_vq_state import AUDIO_PATCHES, VIDEO_PATCHES, PcaVqConfig, PcaVqState, fit, load, parse_config, save
from avbench.types import ClipBatch, Tokens

CONFIG = PcaVqConfig(video_patch=(2, 8, 8), video_bits=6, audio_patch=(16, 16), audio_bits=5)


def _clips(seed: int, count: int = 4) -> ClipBatch:
    """Squares that move over ramps, and tones: (count, 4, 3, 32, 32) and 1.024 s."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.linspace(0, 1, 32).expand(count, 4, 3, 32, 32).clone()
    for clip in range(count):
        x, y, step = torch.randint(0, 12, (3,), generator=generator).tolist()
        for frame in range(4):
            left = (x + step * frame) % 20
            video[clip, frame, clip % 3, y : y + 12, left : left + 12] = 1
    pitch = 150 + 600 * torch.rand(count, 1, generator=generator)
    audio = 0.4 * torch.sin(6.283185 * pitch * torch.arange(24_576) / 24_000)
    return ClipBatch(video=video, audio=audio[:, None], fps=4 / 1.024, sample_rate=24_000)


def _training() -> Iterator[ClipBatch]:
    return (_clips(seed) for seed in range(5))


@pytest.fixture(scope="module")
def state() -> PcaVqState:
    return fit(_training(), CONFIG, seed=0, source="squares")


@pytest.fixture
def tokenizer(state: PcaVqState, tmp_path: Path) -> PcaVq:
    save(state, tmp_path / "fitted.safetensors")
    return PcaVq(TokenizerOptions(checkpoint=tmp_path / "fitted.safetensors"))


def _psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().flatten(1).mean(1).log10().mean())


def test_patches_are_put_back_where_they_were() -> None:
    video, mel = torch.rand(2, 4, 3, 16, 24), torch.rand(2, 80, 32)
    assert torch.equal(patches_to_video(video_to_patches(video, (2, 8, 4)), (2, 8, 4), (4, 16, 24)), video)
    assert torch.equal(patches_to_mel(mel_to_patches(mel, (16, 8)), (16, 8), 80), mel)


def test_a_patch_is_a_block_of_neighbours() -> None:
    video = torch.zeros(1, 4, 3, 16, 16)
    video[0, 2:4, :, 8:16, 0:8] = 1
    assert video_to_patches(video, (2, 8, 8))[0].mean(1).tolist() == [0, 0, 0, 0, 0, 0, 1, 0]


def test_a_codebook_of_the_points_themselves_is_exact() -> None:
    patches = torch.rand(16, 5, generator=torch.Generator().manual_seed(0))
    fitted = linear_vq.fit(patches, 1.0, 16, seed=0)
    assert sorted(fitted.encode(patches).tolist()) == list(range(16))
    torch.testing.assert_close(fitted.decode(fitted.encode(patches)), patches)


def test_it_beats_the_training_mean_on_clips_that_it_has_not_seen(tokenizer: PcaVq) -> None:
    clips = _clips(seed=99)
    recon = tokenizer.decode(tokenizer.encode(clips))
    assert clips.video is not None
    assert recon.video is not None
    mean = torch.cat([batch.video for batch in _training() if batch.video is not None]).mean(0)
    assert _psnr(recon.video, clips.video) > _psnr(mean.expand_as(clips.video), clips.video) + 2
    assert recon.video.shape == clips.video.shape
    assert recon.audio is not None
    assert recon.audio.shape == (4, 1, 24_576)
    assert (recon.fps, recon.sample_rate) == (pytest.approx(clips.fps), 24_000)


def test_tokens_are_in_range_and_do_not_depend_on_the_batch(tokenizer: PcaVq) -> None:
    clips = _clips(seed=98)
    tokens = tokenizer.encode(clips)
    payload.check(tokens, 4)
    assert {name: codes.shape for name, codes in tokens.codes.items()} == {"video": (4, 1, 32), "audio": (4, 1, 30)}
    assert tokens.vocab_sizes == {"video": 64, "audio": 32}
    for clip in range(4):
        alone = tokenizer.encode(clips.select([clip]))
        assert payload.to_bytes(alone, 0) == payload.to_bytes(tokens, clip)


def test_fitting_again_gives_the_same_file_and_another_seed_another(state: PcaVqState, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save(fit(_training(), CONFIG, seed=seed, source="squares"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_info_tells_what_it_was_fitted_on(tokenizer: PcaVq, state: PcaVqState) -> None:
    assert tokenizer.info.trained_on == "squares (20 clips)"
    expected = sum(part.mean.numel() + part.components.numel() + part.codebook.numel() for part in (state.video, state.audio))
    assert (tokenizer.info.kind, tokenizer.info.parameters) == ("linear", expected)


def test_too_few_clips_for_the_codebook_are_refused() -> None:
    with pytest.raises(AvbenchError, match="fewer bits"):
        fit(iter([_clips(0, count=1)]), CONFIG, seed=0)
    with pytest.raises(AvbenchError, match="no clips"):
        fit(iter([]), CONFIG, seed=0)


def test_clips_of_another_size_and_damaged_payloads_are_refused(tokenizer: PcaVq) -> None:
    clips = _clips(0)
    assert clips.video is not None
    with pytest.raises(AvbenchError, match="fitted to clips of 4x32x32"):
        tokenizer.encode(ClipBatch(video=clips.video[:, :2], audio=clips.audio, fps=clips.fps, sample_rate=24_000))
    tokens = tokenizer.encode(clips)
    cut = Tokens(codes={k: v[:, :, 1:] for k, v in tokens.codes.items()}, vocab_sizes=tokens.vocab_sizes, duration_s=tokens.duration_s)
    with pytest.raises(AvbenchError, match="damaged"):
        tokenizer.decode(cut)


def test_files_that_are_no_fitted_state_are_refused(state: PcaVqState, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"not a file" * 10)
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    save(state, tmp_path / "cut")
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-100])
    for name in ("noise", "other", "cut", "absent"):
        with pytest.raises(AvbenchError, match="not a fitted pca-vq"):
            load(tmp_path / name)


@pytest.mark.parametrize(
    ("variants", "text"),
    [
        ((), "256x12@120x12"),
        (("128x10",), "128x10@120x10"),
        (("1024x13", "480x9"), "1024x13@480x9"),
        (("256x12", "128x12"), "256x12@128x12"),
        (("1x32x32x12", "80x3x11"), "1x32x32x12@128x11"),
        (("4x16x16x12", "20x12x12"), "256x12@20x12x12"),
    ],
)
def test_variants_name_tokens_and_bits(variants: tuple[str, ...], text: str) -> None:
    assert str(parse_config(variants)) == text


def test_tables_of_patches_make_the_tokens_that_they_say() -> None:
    for tokens, patch in VIDEO_PATCHES.items():
        assert PcaVqConfig(video_patch=patch).num_tokens((16, 128, 128), 384)[0] == tokens
    for tokens, bands in AUDIO_PATCHES.items():
        assert PcaVqConfig(audio_patch=bands).num_tokens((16, 128, 128), 384)[1] == tokens


@pytest.mark.parametrize(
    "variants",
    [("300x12",), ("256x20",), ("256",), ("256x12", "7x12"), ("256x12", "120x12", "1x1"), ("3x32x32x12",), ("16x64x64x12",), ("x",)],
)
def test_variants_that_are_not_offered_come_with_an_example(variants: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="for example"):
        parse_config(variants)
