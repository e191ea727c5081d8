import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from avbench import weights
from avbench.errors import AvbenchError
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics.cdpam import CdpamDistance, cdpam
from avbench.nn.pretrained.cdpam import SAMPLE_RATE, WEIGHTS, Cdpam, load
from avbench.types import ClipBatch, Tokens
from avbench.weights.load import sha256_of

TOKENS = Tokens(codes={"audio": torch.zeros(1, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=0.5)


@pytest.fixture(scope="module")
def model() -> Cdpam:
    try:
        return load(torch.device("cpu"))
    except MetricUnavailable as missing:
        pytest.skip(str(missing))


def sounds(count: int = 2, samples: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Tones (B, 1, N), and noise of the same size."""
    t = torch.arange(samples) / SAMPLE_RATE
    tones = torch.stack([0.3 * torch.sin(2 * torch.pi * 220 * (1 + clip) * t) for clip in range(count)])[:, None]
    return tones, 0.1 * torch.randn(tones.shape, generator=torch.Generator().manual_seed(0))


def test_agrees_with_the_authors_package(model: Cdpam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resampy", SimpleNamespace())  # it imports this, and does not use it
    package = pytest.importorskip("cdpam.models", reason="pip install --no-deps cdpam, to compare with it")
    theirs = package.FINnet(encoder_layers=16, encoder_filters=64, input_size=512)
    theirs.load_state_dict(weights.load_old_torch(weights.path(WEIGHTS), weights.CATALOG[WEIGHTS].sha256 or "")["state"])
    theirs.eval()
    a, noise = sounds()
    b = a + noise
    with torch.no_grad():
        one, two = (theirs.base_encoder((x[:, 0] * 32768).round()[:, None])[1] for x in (a, b))
        expected = theirs.model_dist(torch.nn.functional.normalize(one, dim=1), torch.nn.functional.normalize(two, dim=1))
    torch.testing.assert_close(cdpam(model, a, b, SAMPLE_RATE), expected, rtol=1e-4, atol=1e-6)


def test_more_noise_is_worse_identical_clips_are_at_zero_and_silence_is_finite(model: Cdpam) -> None:
    clean, noise = sounds()
    values = [cdpam(model, clean, clean + scale * noise, SAMPLE_RATE) for scale in (0.0, 0.1, 1.0)]
    assert values[0].tolist() == [0, 0]
    assert (values[1] > 0).all()
    assert (values[2] > values[1]).all()
    assert torch.isfinite(cdpam(model, clean, 0 * clean, SAMPLE_RATE)).all()
    assert cdpam(model, 0 * clean, 0 * clean, SAMPLE_RATE).tolist() == [0, 0]


def test_the_metric_is_the_mean_of_its_clips_at_any_rate(model: Cdpam) -> None:
    clean, noise = sounds()
    clips = [ClipBatch(audio=audio, fps=4.0, sample_rate=24_000) for audio in (clean, clean + noise)]
    metric = CdpamDistance(MetricOptions())
    rows = metric.update(clips[0], clips[1], TOKENS)
    torch.testing.assert_close(rows[:1], cdpam(model, clean[:1], (clean + noise)[:1], 24_000))
    assert metric.compute(rows.numpy()) == pytest.approx(rows.mean().item())


def test_without_the_file_the_command_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("AVBENCH_OFFLINE", "1")
    with pytest.raises(MetricUnavailable, match="avbench weights pull cdpam"):
        CdpamDistance(MetricOptions())


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("ran",)


@pytest.mark.parametrize("archive", [False, True])
def test_an_old_file_that_holds_code_or_is_another_is_refused(tmp_path: Path, archive: bool, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cdpam.pth"
    torch.save({"state": Evil()}, file, _use_new_zipfile_serialization=archive)
    assert zipfile.is_zipfile(file) == archive
    with pytest.raises(AvbenchError, match="only tensors and plain containers"):
        weights.load_old_torch(file, sha256_of(file))
    assert capsys.readouterr().out == ""
    with pytest.raises(AvbenchError, match="not the file that was checked"):
        weights.load_old_torch(file, "0" * 64)
    torch.save({"state": torch.ones(3)}, file, _use_new_zipfile_serialization=False)
    assert weights.load_old_torch(file, sha256_of(file))["state"].tolist() == [1, 1, 1]
