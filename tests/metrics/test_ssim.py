"""SSIM: known answers and scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from avbench.metrics.ssim import ssim


def _clip(plane: np.ndarray, frames: int = 2) -> torch.Tensor:
    return torch.from_numpy(plane).expand(1, frames, 3, *plane.shape)


def _oracle(a: np.ndarray, b: np.ndarray) -> float:
    """scikit-image's map, cropped to the pixels whose whole window lies inside the picture."""
    _, full = structural_similarity(a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True)
    return float(full[5:-5, 5:-5].mean())


def test_the_known_answer_of_a_noisy_picture() -> None:
    state = np.random.RandomState(0)
    a = state.rand(64, 64)
    b = np.clip(a + 0.1 * state.randn(64, 64), 0, 1)
    assert _oracle(a, b) == pytest.approx(0.947342221, abs=1e-8)
    assert ssim(_clip(a), _clip(b)).item() == pytest.approx(0.947342221, abs=2e-6)


@pytest.mark.parametrize(("left", "right", "expected"), [(0.0, 1.0, 9.999e-05), (0.2, 0.6, 0.60009998)])
def test_constant_pictures_have_the_closed_form(left: float, right: float, expected: float) -> None:
    value = ssim(torch.full((1, 1, 3, 32, 32), left), torch.full((1, 1, 3, 32, 32), right))
    assert value.item() == pytest.approx(expected, rel=2e-5)


def test_a_clip_is_the_mean_of_scikit_image_over_frames_and_channels() -> None:
    generator = np.random.default_rng(1)
    a = generator.random((1, 3, 3, 24, 40), dtype=np.float32)
    b = np.clip(a + 0.2 * generator.standard_normal(a.shape, dtype=np.float32), 0, 1)
    expected = np.mean([_oracle(x, y) for x, y in zip(a.reshape(-1, 24, 40), b.reshape(-1, 24, 40), strict=True)])
    assert ssim(torch.from_numpy(a), torch.from_numpy(b)).item() == pytest.approx(expected, abs=2e-6)


def test_bright_flat_pictures_keep_their_digits_in_float32() -> None:
    generator = np.random.default_rng(2)
    a = 0.999 - 1e-4 * generator.random((48, 48))
    b = 0.999 - 1e-4 * generator.random((48, 48))
    assert ssim(_clip(a.astype(np.float32)), _clip(b.astype(np.float32))).item() == pytest.approx(_oracle(a, b), abs=1e-6)


def test_identical_clips_give_1_and_a_clip_does_not_depend_on_its_batch() -> None:
    clips = torch.rand(3, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert ssim(clips, clips).tolist() == pytest.approx([1.0] * 3, abs=1e-6)
    batch, alone = ssim(clips, clips.flip(0)), ssim(clips[2:], clips.flip(0)[2:])
    assert torch.equal(batch[2:], alone)


def test_frames_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(torch.zeros(1, 1, 3, 10, 64), torch.zeros(1, 1, 3, 10, 64))
