"""Google's own values on its conformance files: `benchmarks/known_answers.py --sounds FOLDER` (the files are not ours to ship)."""

import numpy as np
import pytest
import torch

from avbench.errors import AvbenchError
from avbench.metric import MetricUnavailable
from avbench.metrics import visqol
from avbench.types import ClipBatch, Tokens

RATE = 24_000
TOKENS = Tokens(codes={"audio": torch.zeros(1, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=1.5)


@pytest.fixture
def metric() -> visqol.Visqol:
    pytest.importorskip("visqol", reason="the extra visqol is not installed")
    return visqol.Visqol()


def chords(seconds: float = 1.5) -> torch.Tensor:
    """(1, 1, N): decaying chords, four a second."""
    t = torch.arange(round(seconds * RATE)) / RATE
    notes = sum(torch.sin(2 * torch.pi * hertz * t) / (1 + number) for number, hertz in enumerate((220, 277, 330, 880, 1760, 3520)))
    return (0.2 * torch.as_tensor(notes) * torch.exp(-8 * (t % 0.25)))[None, None]


def batch(audio: torch.Tensor) -> ClipBatch:
    return ClipBatch(audio=audio, fps=4.0, sample_rate=RATE)


def test_identical_clips_have_the_value_of_googles_identity_case_and_more_noise_is_worse(metric: visqol.Visqol) -> None:
    clean = chords()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    recon = torch.cat([clean + scale * noise for scale in (0.0, 0.003, 0.03)])
    rows = metric.update(batch(clean.expand(3, -1, -1)), batch(recon), TOKENS).numpy()
    assert rows[0] == pytest.approx(4.7321, abs=1e-3)  # castanets_identity of its conformance tests
    assert rows[0] > rows[1] > rows[2] >= 1
    assert metric.compute(rows[1:]) == pytest.approx(rows[1:].mean())


def test_silence_for_a_sound_is_the_least_and_a_silent_reference_has_no_value(metric: visqol.Visqol) -> None:
    clean = chords(1.0)
    reference, recon = torch.cat([clean, 0 * clean]), torch.cat([0 * clean, clean])
    rows = metric.update(batch(reference), batch(recon), TOKENS).numpy()
    assert rows[0] == 1
    assert np.isnan(rows[1])


def test_a_clip_of_less_than_a_second_says_so(metric: visqol.Visqol) -> None:
    with pytest.raises(AvbenchError, match=r"ViSQOL takes 1 s or more, the clip has 0.5 s"):
        metric.update(batch(chords(0.5)), batch(chords(0.5)), TOKENS)


def test_without_the_package_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visqol.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricUnavailable, match=r"pip install 'avbench\[visqol\]'"):
        visqol.Visqol()
