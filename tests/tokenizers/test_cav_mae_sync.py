"""CAV-MAE Sync as a teacher: golden values of the authors' code, its inputs against torchaudio and PIL, its file, its grid, the choice."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import torchaudio
from keyed_weights import keyed_state
from torch import Tensor

from avbench import weights
from avbench.errors import AvbenchError
from avbench.nn.filter_bank import filter_bank
from avbench.tokenizers.avtok import cav_mae_sync, cav_mae_teacher
from avbench.tokenizers.avtok import teacher as teachers
from avbench.tokenizers.avtok.cav_mae_sync import CavMaeConfig, CavMaeSync
from avbench.tokenizers.avtok.cav_mae_teacher import CavMaeTeacher
from avbench.tokenizers.avtok.checkpoint import load_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.train import recipes
from avbench.tokenizers.avtok.train.trainee import export

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "cav_mae_sync.json").read_text())
TINY = CavMaeConfig(width=24, heads=3, resolution=32, frames=48, registers=2)
FILE = "cav_mae_sync.pth"


@pytest.fixture
def published(tmp_path: Path) -> dict[str, Tensor]:
    """The state dict of the authors' small model, decoder and all."""
    shapes = {key: tuple(shape) for key, shape in GOLDEN["shapes"].items()}
    return {f"module.{key}": value for key, value in keyed_state({key.removeprefix("module."): s for key, s in shapes.items()}).items()}


def _saved(folder: Path, state: Any) -> Path:
    torch.save(state, folder / FILE)
    return folder / FILE


def _network(frames: int = 416) -> CavMaeSync:
    """Pictures of 32 x 32, sound of full length, random weights."""
    model = CavMaeSync(CavMaeConfig(width=24, heads=3, resolution=32, own_layers=1, frames=frames, registers=2))
    model.load_state_dict(keyed_state({key: tuple(value.shape) for key, value in model.state_dict().items()}))
    return model.eval().requires_grad_(False)


def test_the_authors_code_gives_the_same_tokens(published: dict[str, Tensor], tmp_path: Path) -> None:
    model = cav_mae_sync.load(_saved(tmp_path, published), config=TINY)
    generator = torch.Generator().manual_seed(0)
    sound, picture = torch.randn(2, 48, 128, generator=generator), torch.randn(2, 3, 32, 32, generator=generator)
    for suffix, x in (("a", sound.transpose(1, 2)[:, None]), ("v", picture)):
        tokens = model(x, suffix)
        expected = GOLDEN["outputs"][suffix]
        torch.testing.assert_close(tokens[0, :, :6].flatten(), torch.tensor(expected["first"]), atol=1e-4, rtol=0)
        assert float(tokens.std()) == pytest.approx(expected["std"], abs=1e-4)


def test_the_published_size_is_the_authors() -> None:
    """190,660,864 with its decoder and the norms of the audio-visual pass; ours leaves those out."""
    with torch.device("meta"):
        assert sum(weight.numel() for weight in CavMaeSync().parameters()) == 164_140_800


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("module.blocks_v.3.attn.qkv.bias"), "lacks blocks_v.3.attn.qkv.bias"),
        (lambda state: state.update({"module.blocks_a.11.norm1.bias": torch.zeros(24)}), "unknown blocks_a.11.norm1.bias"),
        (lambda state: state.update({"module.pos_embed_a": torch.zeros(1, 512, 24)}), r"pos_embed_a \(1, 512, 24\).*\(1, 24, 24\)"),
        (lambda state: state.update({"module.norm_a.bias": torch.zeros(24, dtype=torch.int64)}), "floating-point tensor in norm_a.bias"),
        (lambda state: state.update({"module.norm_a.bias": torch.full((24,), torch.inf)}), r"not finite in norm_a\.bias"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_the_keys_name(
    published: dict[str, Tensor], tmp_path: Path, change: Any, named: str
) -> None:
    change(published)
    with pytest.raises(AvbenchError, match=named):
        cav_mae_sync.load(_saved(tmp_path, published), config=TINY)


@pytest.mark.parametrize("content", [[1, 2], {3: torch.zeros(2)}, print])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(AvbenchError, match=FILE):
        cav_mae_sync.load(_saved(tmp_path, content))


def test_the_filter_bank_is_kaldis() -> None:
    """Oracle: torchaudio's kaldi.fbank with the authors' arguments, on noise, a click and silence."""
    audio = torch.stack([0.2 * torch.randn(65_536, generator=torch.Generator().manual_seed(1)), torch.zeros(65_536), torch.zeros(65_536)])
    audio[1, 30_000] = 0.9
    audio = audio + torch.tensor([[0.1], [0.0], [0.0]])
    options: dict[str, Any] = {"htk_compat": True, "use_energy": False, "window_type": "hanning", "dither": 0.0, "frame_shift": 10}
    expected = torch.stack(
        [torchaudio.compliance.kaldi.fbank(x[None] - x.mean(), sample_frequency=16_000, num_mel_bins=128, **options) for x in audio]
    )
    assert expected.shape == (3, 408, 128)
    torch.testing.assert_close(filter_bank(audio, 128), expected, atol=1e-4, rtol=1e-4)


def test_sound_is_filled_up_as_the_authors_do_and_too_much_is_refused() -> None:
    picture = cav_mae_teacher.sound_picture(torch.zeros(1, 65_536), 128, 416)
    assert picture.shape == (1, 1, 128, 416)
    assert torch.allclose(picture[..., 408:], torch.tensor(5.081 / 4.4849))
    assert picture[..., :408].max() < -2
    with pytest.raises(ValueError, match="frames"):
        cav_mae_teacher.sound_picture(torch.zeros(1, 80_000), 128, 416)


def test_a_picture_is_resized_as_pil_does() -> None:
    """PIL on floating-point images, which it does not round; noise within the range that no overshoot leaves."""
    image = 0.3 + 0.4 * torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(2))
    resized = [PIL.Image.fromarray(channel.numpy()).resize((224, 224), PIL.Image.Resampling.BICUBIC) for channel in image]
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = (torch.stack([torch.from_numpy(np.array(channel)) for channel in resized]) - mean) / std
    torch.testing.assert_close(cav_mae_teacher.pictures(image[None], 224)[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("stream", "grid"), [("video", (4, 16, 16)), ("video", (2, 4, 2)), ("audio", (1, 5, 24))])
def test_features_lie_on_the_streams_grid(stream: str, grid: tuple[int, int, int]) -> None:
    teacher = CavMaeTeacher(_network(), "test", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    clips = torch.rand(2, 8, 3, 16, 16, generator=generator) if stream == "video" else 0.1 * torch.randn(2, 98_304, generator=generator)
    features = teacher.features(stream, clips, grid)
    assert features.shape == (2, grid[0] * grid[1] * grid[2], 24)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert not torch.allclose(features[0], features[1])
    assert torch.allclose(teacher.features(stream, clips[1:], grid), features[1:], atol=1e-5)


def test_where_the_grids_agree_the_features_are_the_tokens_of_the_middle_frames() -> None:
    network = _network()
    video = torch.randint(0, 256, (1, 8, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features = CavMaeTeacher(network, "test", dtype=torch.float32).features("video", video, (4, 2, 2))
    frames = cav_mae_teacher.pictures(video[0, [1, 3, 5, 7]].float() / 255, 32)
    torch.testing.assert_close(features, network(frames, "v").reshape(1, 16, 24))


def test_patch_centres_are_found_in_the_teachers_time_and_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that returns each token's own centre, in seconds and hertz: what is read off must be the patch's centre."""
    delta = 1127 * np.log((1 + 8000 / 700) / (1 + 20 / 700)) / 129
    mels = 1127 * np.log1p(20 / 700) + delta * (16 * torch.arange(8) + 8.5)
    seconds = 0.01 * (16 * torch.arange(26) + 7.5) + 0.0125
    tokens = torch.stack(torch.meshgrid(mels.float(), seconds.float(), indexing="ij"), dim=-1).reshape(1, 208, 2)
    teacher = CavMaeTeacher(_network(), "test", dtype=torch.float32)
    monkeypatch.setattr(teacher, "network", type("Centres", (), {"config": teacher.network.config, "__call__": lambda *_: tokens})())
    found = teacher.features("audio", torch.zeros(1, 98_304), (1, 5, 24)).view(5, 24, 2)
    slaney = torch.tensor([301.6, 904.8, 1688.6, 3145.6, 5859.6])  # librosa's centres of bands 8, 24, ... of 80
    expected_mel = 1127 * torch.log1p(slaney * 24_000 / 22_050 / 700)
    torch.testing.assert_close(found[:, 0, 0], expected_mel, rtol=1e-3, atol=0)
    expected_s = (torch.arange(24) + 0.5) * 4.096 / 24
    torch.testing.assert_close(found[0, 1:, 1], expected_s[1:], rtol=1e-4, atol=0)
    assert float(found[0, 0, 1]) == pytest.approx(0.0875)  # the first token's own centre: 2 ms after the patch's


def test_features_need_no_value_from_the_device() -> None:
    """Tensors without data: anything that waits for a number, .item() or a branch on one, raises."""
    with torch.device("meta"):
        network = CavMaeSync(CavMaeConfig(width=24, heads=3, own_layers=1))
    teacher = CavMaeTeacher(network, "test", "meta")
    assert teacher.features("video", torch.empty(2, 16, 3, 128, 128, dtype=torch.uint8, device="meta"), (4, 16, 16)).shape == (2, 1024, 24)
    assert teacher.features("audio", torch.empty(2, 98_304, device="meta"), (1, 5, 24)).shape == (2, 120, 24)


@pytest.mark.gpu
def test_features_never_wait_for_the_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    teacher = CavMaeTeacher(_network(), "test", "cuda")
    video, audio = torch.rand(2, 16, 3, 128, 128, device="cuda"), torch.randn(2, 98_304, device="cuda")
    torch.cuda.synchronize()
    try:
        for mode in ("default", "error"):  # the first round makes the tables
            torch.cuda.set_sync_debug_mode(mode)
            teacher.features("video", video, (4, 16, 16))
            teacher.features("audio", audio, (1, 5, 24))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_frames_that_do_not_fill_the_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="9 frames"):
        CavMaeTeacher(_network(), "test").features("video", torch.zeros(1, 9, 3, 32, 32), (4, 2, 2))


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_without_its_file_the_stand_in_is_chosen_and_a_config_for_cav_mae_sync_says_what_is_missing(weights_folder: Path) -> None:
    assert teachers.teacher_dims() == {"video": 832, "audio": 512}
    with pytest.raises(weights.WeightsUnavailable, match=FILE):
        teachers.load_teacher({"video": 768, "audio": 768})
    with pytest.raises(AvbenchError, match="no teacher has features of"):
        teachers.load_teacher({"video": 5, "audio": 5})


def test_with_its_file_cav_mae_sync_is_chosen(weights_folder: Path) -> None:
    """Official shapes; each tensor one number repeated, so the file is small."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in CavMaeSync().state_dict().items()}
    torch.save({f"module.{key}": torch.zeros(1).expand(shape) for key, shape in shapes.items()}, weights_folder / FILE)
    dims = teachers.teacher_dims()
    assert dims == {"video": 768, "audio": 768}
    teacher = teachers.load_teacher(dims)
    assert isinstance(teacher, cav_mae_teacher.CavMaeTeacher)
    assert teacher.dims == dims
    assert "CAV-MAE Sync" in teacher.name


def test_a_recipe_is_made_for_the_teacher_at_hand(weights_folder: Path) -> None:
    assert recipes.avtok_small().model.teacher_dims == {"video": 832, "audio": 512}
    (weights_folder / FILE).write_bytes(b"")
    assert recipes.avtok_small().model.teacher_dims == {"video": 768, "audio": 768}


def test_a_checkpoint_trained_under_cav_mae_sync_names_it_and_loads_where_its_file_is_not(weights_folder: Path) -> None:
    quantizer = QuantizerConfig(kind="euclidean", entries=32, dim=16, temperature=0.0)
    model = AVTokConfig(
        name="tiny",
        video=StreamConfig(channels=3, size=(2, 16, 16), patch=(1, 8, 8), tokens=4),
        audio=StreamConfig(channels=1, size=(1, 80, 32), patch=(1, 16, 16), tokens=4),
        width=16,
        encoder_layers=1,
        decoder_layers=1,
        heads=2,
        quantizer=quantizer,
        teacher_dims={"video": 768, "audio": 768},
    )
    config = replace(recipes.avtok_small(), model=model)
    export(weights_folder / "out", {"joint": AVTokModel(model)}, config, {})
    loaded = load_checkpoint(weights_folder / "out")
    assert loaded.provenance["teacher"] == teachers.CAV_MAE
    assert loaded.model.config.teacher_dims == model.teacher_dims
