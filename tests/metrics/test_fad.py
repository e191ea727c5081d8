from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from avbench import weights
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics.fad import FadAisfx, FadVggish, fad
from avbench.metrics.features import vggish
from avbench.types import ClipBatch, Tokens

TOKENS = Tokens(codes={"audio": torch.zeros(1, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=4.096)


def clips(count: int, seed: int = 0, volume: float = 0.1) -> ClipBatch:
    audio = volume * torch.randn(count, 1, 98_304, generator=torch.Generator().manual_seed(seed))
    return ClipBatch(ids=tuple(f"clip {i}" for i in range(count)), audio=audio, fps=4.0, sample_rate=24_000)


@pytest.fixture(scope="module")
def vggish_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file in the official format with weights of the same names and shapes (288 MB), drawn at random."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "vggish-10086976.pth"
    torch.save(vggish.VggishNet().state_dict(), file)
    yield file
    file.unlink()


@pytest.fixture
def random_vggish(vggish_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog's `vggish` is `vggish_file`."""
    monkeypatch.setattr(vggish.weights, "path", lambda name: vggish_file)


def test_a_shift_of_the_mean_alone_gives_its_squared_length() -> None:
    features = np.random.default_rng(0).standard_normal((50, 3, 4))
    assert fad(features, features + np.array([3.0, 4.0, 0.0, 0.0])) == pytest.approx(25)
    assert fad(features, features) == pytest.approx(0, abs=1e-9)


def test_agrees_with_scipys_matrix_square_root_over_all_windows() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((40, 4, 6)), 1.5 * rng.standard_normal((30, 4, 6)) + 0.2
    flat_a, flat_b = a.reshape(-1, 6), b.reshape(-1, 6)
    cov_a, cov_b = np.cov(flat_a.T), np.cov(flat_b.T)
    shift = np.square(flat_a.mean(0) - flat_b.mean(0)).sum()
    expected = shift + np.trace(cov_a + cov_b - 2 * scipy.linalg.sqrtm(cov_a @ cov_b).real)
    assert fad(a, b) == pytest.approx(expected, rel=1e-9)


def test_vggish_rows_hold_reference_and_recon_and_identical_clips_are_at_distance_zero(random_vggish: None) -> None:
    metric, reference = FadVggish(MetricOptions()), clips(3)
    rows = metric.update(reference, clips(3, seed=1, volume=0.3), TOKENS)
    assert rows.shape == (3, 2, 4, 128)
    torch.testing.assert_close(rows[:, 0], vggish.embed(vggish.load(torch.device("cpu")), reference.audio, 24_000))
    assert metric.compute(rows.numpy()) > 0
    assert metric.compute(metric.update(reference, reference, TOKENS).numpy()) == pytest.approx(0, abs=1e-6)


def test_rows_do_not_depend_on_the_batch(random_vggish: None) -> None:
    metric, reference, recon = FadVggish(MetricOptions()), clips(3), clips(3, seed=1)
    whole = metric.update(reference, recon, TOKENS)
    alone = torch.cat([metric.update(reference.select([i]), recon.select([i]), TOKENS) for i in range(3)])
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-6)


def test_reference_features_are_read_from_the_cache(random_vggish: None, tmp_path: Path) -> None:
    reference, recon = clips(2), clips(2, seed=1)
    first = FadVggish(MetricOptions(cache=tmp_path / "cache")).update(reference, recon, TOKENS)
    metric = FadVggish(MetricOptions(cache=tmp_path / "cache"))
    embed, calls = metric.embed, []
    metric.embed = lambda audio, sample_rate: calls.append(len(audio)) or embed(audio, sample_rate)  # type: ignore[func-returns-value]
    assert torch.equal(metric.update(reference, recon.copy(), TOKENS), first)
    assert calls == [2]  # the reconstructions


def test_without_the_file_fad_vggish_is_not_available_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("AVBENCH_WEIGHTS", raising=False)
    with pytest.raises(MetricUnavailable, match="avbench weights pull vggish"):
        FadVggish(MetricOptions())


def test_the_protocols_name_embedding_weights_rate_and_ddof() -> None:
    for metric, facts in ((FadAisfx, ("499ea759", "44.1 kHz", "512-d")), (FadVggish, ("10086976", "16 kHz", "128-d"))):
        assert all(fact in metric.info.protocol for fact in (*facts, "ddof 1"))
        assert metric.info.higher_is_better is False
        assert metric.info.min_clips >= 2


def test_aisfx_puts_louder_distortion_further_away() -> None:
    try:
        weights.path("aisfx", fetch=False)
    except weights.WeightsUnavailable as reason:
        pytest.skip(str(reason))
    metric, reference = FadAisfx(MetricOptions()), clips(4)
    near, far = (
        metric.compute(metric.update(reference, ClipBatch(audio=audio, fps=4.0, sample_rate=24_000), TOKENS).numpy())
        for audio in (reference.audio + clips(4, seed=1, volume=0.01).audio, torch.zeros_like(reference.audio))
    )
    assert metric.compute(metric.update(reference, reference, TOKENS).numpy()) == pytest.approx(0, abs=1e-6)
    assert 0 < near < far
