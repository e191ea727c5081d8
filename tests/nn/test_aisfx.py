import numpy as np
import pytest
import torch

from avbench import weights
from avbench.nn.pretrained import aisfx


def chirp(rate: int = 44_100, num_samples: int = 180_634) -> torch.Tensor:
    """(1, N): a rising tone that swells and breaks off every 0.7 s."""
    t = np.arange(num_samples) / rate
    return torch.from_numpy((0.4 * np.sin(2 * np.pi * (300 + 400 * t) * t) * (t % 0.7)).astype(np.float32))[None]


@pytest.fixture(scope="module")
def model() -> aisfx.AisfxNet:
    try:
        weights.path("aisfx", fetch=False)
    except weights.WeightsUnavailable as reason:
        pytest.skip(str(reason))
    return aisfx.load(torch.device("cpu"))


# Essentia 2.1b6.dev1389's own MelBands on single-bin spectra: {FFT bin: {band: weight}}.
ESSENTIA_BANDS = {1: {0: 0.7150638}, 2: {0: 0.28493616, 1: 0.5511529}, 3: {1: 0.44884714, 2: 0.37070853}, 1000: {95: 0.01750239}}
# aisfx 0.1.2's Essentia pipeline (FrameCutter, Windowing, Spectrum, MelBands, log10, "original" scaling) on chirp(): (frame, band, value).
ESSENTIA_LOG_MEL = [
    (0, 20, 0.00027), (10, 15, 0.58054), (50, 30, 0.08319), (100, 50, 0.0), (150, 70, 0.0706), (177, 95, 0.12657), (177, 72, 0.1857),
]  # fmt: skip
# aisfx 0.1.2's model on those spectrograms: every 64th of the 512 numbers of both windows.
AISFX_EMBEDDINGS = [
    [1.5433, 2.5032, 0.4796, 2.2548, 1.0861, 2.0590, 1.0335, 1.6916],
    [1.1449, 2.5666, 0.3416, 2.2807, 1.7502, 2.1878, 0.8721, 0.9238],
]


def test_mel_bands_are_essentias() -> None:
    for fft_bin, bands in ESSENTIA_BANDS.items():
        row = aisfx.mel_weights()[fft_bin]
        assert {int(band): float(row[band]) for band in row.nonzero()} == pytest.approx(bands, abs=1e-6)
    torch.testing.assert_close(aisfx.mel_weights().sum(0), torch.ones(96))


def test_log_mel_frames_are_essentias() -> None:
    frames = aisfx.log_mel(chirp())
    assert frames.shape == (1, 178, 96)
    assert [float(frames[0, t, m]) for t, m, _ in ESSENTIA_LOG_MEL] == pytest.approx([v for *_, v in ESSENTIA_LOG_MEL], abs=2e-5)


@pytest.mark.parametrize(("num_samples", "num_frames"), [(2048, 3), (44_100, 45), (100_000, 99), (180_634, 178)])
def test_number_of_frames_is_essentias(num_samples: int, num_frames: int) -> None:
    assert aisfx.log_mel(torch.zeros(1, num_samples)).shape == (1, num_frames, 96)


def test_embeddings_are_those_of_the_aisfx_package(model: aisfx.AisfxNet) -> None:
    found = aisfx.embed(model, chirp()[None], 44_100)
    assert found.shape == (1, 2, 512)
    np.testing.assert_allclose(found[0, :, ::64].numpy(), AISFX_EMBEDDINGS, atol=2e-4)
    assert float(found.norm()) == pytest.approx(47.93222, abs=1e-3)


def test_an_embedding_does_not_depend_on_its_batch_or_on_channels(model: aisfx.AisfxNet) -> None:
    a, b = chirp(24_000, 98_304)[None], 0.1 * torch.randn(1, 1, 98_304, generator=torch.Generator().manual_seed(0))
    together = aisfx.embed(model, torch.cat([a, b]), 24_000)
    assert together.shape == (2, 2, 512)
    torch.testing.assert_close(together[1:], aisfx.embed(model, b, 24_000), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(aisfx.embed(model, torch.cat([a, a], 1), 24_000), together[:1], rtol=1e-4, atol=1e-4)


def test_windows_overlap_by_half_and_a_short_clip_is_filled_up() -> None:
    frames = torch.arange(178.0)[None, :, None].expand(1, -1, 96)
    windows = aisfx.to_windows(frames)
    assert windows.shape == (1, 2, 100, 96)
    assert windows[0, :, 0, 0].tolist() == [0, 50]
    short = aisfx.to_windows(frames[:, :60] + 1)
    assert short.shape == (1, 1, 100, 96)
    assert short[0, 0, 59:61, 0].tolist() == [60, 0]
