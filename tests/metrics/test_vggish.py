from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from avbench.errors import AvbenchError
from avbench.metrics.features import vggish


def chirp() -> torch.Tensor:
    """(1, 44000) at 16 kHz: a rising tone that swells and breaks off every 0.7 s."""
    t = np.arange(44_000) / 16_000
    return torch.from_numpy((0.4 * np.sin(2 * np.pi * (300 + 400 * t) * t) * (t % 0.7)).astype(np.float32))[None]


# mel_features.py of AudioSet's VGGish (as in github.com/harritaylor/torchvggish) on chirp(): (frame, band, value).
OFFICIAL_LOG_MEL = [
    (0, 0, -4.37034), (50, 10, -2.49672), (100, 20, 1.06861), (150, 33, -4.49419), (200, 40, -4.44404), (270, 63, -4.60246),
]  # fmt: skip
# Names and shapes of vggish-10086976.pth.
OFFICIAL_SHAPES = {
    "features.0.weight": (64, 1, 3, 3), "features.0.bias": (64,), "features.3.weight": (128, 64, 3, 3), "features.3.bias": (128,),
    "features.6.weight": (256, 128, 3, 3), "features.6.bias": (256,), "features.8.weight": (256, 256, 3, 3), "features.8.bias": (256,),
    "features.11.weight": (512, 256, 3, 3), "features.11.bias": (512,), "features.13.weight": (512, 512, 3, 3), "features.13.bias": (512,),
    "embeddings.0.weight": (4096, 12288), "embeddings.0.bias": (4096,), "embeddings.2.weight": (4096, 4096), "embeddings.2.bias": (4096,),
    "embeddings.4.weight": (128, 4096), "embeddings.4.bias": (128,),
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> vggish.VggishNet:
    torch.manual_seed(0)
    return vggish.VggishNet().eval()


def test_log_mel_is_the_official_front_end() -> None:
    frames = vggish.log_mel(chirp())
    assert frames.shape == (1, 273, 64)
    assert [float(frames[0, t, m]) for t, m, _ in OFFICIAL_LOG_MEL] == pytest.approx([v for *_, v in OFFICIAL_LOG_MEL], abs=5e-4)


def test_log_mel_agrees_with_librosas_stft() -> None:
    magnitude = np.abs(librosa.stft(np.pad(chirp()[0].numpy(), (56, 56)), n_fft=512, hop_length=160, win_length=400, center=False))
    expected = np.log(magnitude.T @ vggish.mel_weights().numpy() + 0.01)
    np.testing.assert_allclose(vggish.log_mel(chirp())[0].numpy(), expected[:273], atol=2e-3)


def test_mel_triangles_by_hand() -> None:
    def mel(hertz: float) -> float:
        return 1127 * float(np.log1p(hertz / 700))

    weights, step = vggish.mel_weights(), (mel(7500) - mel(125)) / 65
    for fft_bin, band in ((7, 2), (100, 41), (230, 62)):
        centre = mel(125) + (band + 1) * step
        assert float(weights[fft_bin, band]) == pytest.approx(max(0.0, 1 - abs(mel(fft_bin * 31.25) - centre) / step), abs=1e-5)
    assert not weights[0].any()


def test_network_has_the_names_and_shapes_of_the_published_file(model: vggish.VggishNet) -> None:
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == OFFICIAL_SHAPES


def test_maps_are_flattened_channels_last_as_in_tensorflow(model: vggish.VggishNet) -> None:
    patches = vggish.to_patches(vggish.log_mel(chirp()))[0]
    maps = model.features(patches[:, None])
    rows = [[maps[n, c, h, w] for h in range(6) for w in range(4) for c in range(512)] for n in range(2)]
    expected = model.embeddings(torch.stack([torch.stack(row) for row in rows]))
    torch.testing.assert_close(model(patches), expected)
    assert (expected < 0).any()  # no last ReLU


def test_embed_gives_a_row_for_each_whole_patch_independent_of_batch(model: vggish.VggishNet) -> None:
    audio = 0.1 * torch.randn(2, 1, 98_304, generator=torch.Generator().manual_seed(0))
    found = vggish.embed(model, audio, 24_000)
    assert found.shape == (2, 4, 128)
    torch.testing.assert_close(found[1:], vggish.embed(model, audio[1:], 24_000), rtol=1e-4, atol=1e-5)


def test_audio_shorter_than_a_patch_is_refused(model: vggish.VggishNet) -> None:
    with pytest.raises(ValueError, match=r"VGGish needs 0\.975 s"):
        vggish.embed(model, torch.zeros(1, 1, 15_599), 16_000)
    assert vggish.embed(model, torch.zeros(1, 1, 15_600), 16_000).shape == (1, 1, 128)


def test_a_file_that_is_not_vggish_is_refused_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "vggish.pth"
    torch.save({"features.0.weight": torch.zeros(1)}, file)
    monkeypatch.setattr(vggish.weights, "path", lambda name: file)
    with pytest.raises(AvbenchError, match=r"vggish\.pth"):
        vggish.load(torch.device("cpu"))
