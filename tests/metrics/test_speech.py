import numpy as np
import pytest
import scipy.signal
import torch
from voice import voice

from avbench.errors import AvbenchError
from avbench.metric import MetricUnavailable
from avbench.metrics import speech
from avbench.metrics.speech import Estoi, Pesq, Stoi, pesq, stoi
from avbench.run.measure import measure_batch
from avbench.run.passage import Reconstruction
from avbench.types import ClipBatch, Tokens

pytest.importorskip("pesq", reason="the extra speech is not installed")
pytest.importorskip("pystoi", reason="the extra speech is not installed")

RATE = 24_000
TOKENS = Tokens(codes={"audio": torch.zeros(2, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=4.0)


def noisy(clean: np.ndarray, decibels: float) -> np.ndarray:
    """With white noise at that signal-to-noise ratio."""
    noise = np.random.default_rng(1).standard_normal(len(clean))
    return clean + noise * np.sqrt(np.square(clean).mean() / np.square(noise).mean()) * 10 ** (-decibels / 20)


def batch(*clips: np.ndarray) -> ClipBatch:
    audio = torch.tensor(np.stack(clips), dtype=torch.float32)[:, None]
    return ClipBatch(ids=tuple(map(str, range(len(clips)))), labels=(None,) * len(clips), audio=audio, fps=4.0, sample_rate=RATE)


def test_pesq_is_the_value_that_torchmetrics_documents() -> None:
    """Its doctest: preds = randn(8000), then target = randn(8000), after seed 42, at 16 kHz, wide band."""
    generator = torch.Generator().manual_seed(42)
    recon, reference = (torch.randn(8000, generator=generator).double().numpy() for _ in range(2))
    assert pesq(reference, recon) == pytest.approx(1.6805, abs=1e-4)


def written_out(reference: np.ndarray, recon: np.ndarray, *, extended: bool) -> float:
    """STOI (Taal et al. 2011, section II) and ESTOI (Jensen & Taal 2016, section III) at 10 kHz, with NumPy and SciPy alone."""
    x, y = (scipy.signal.resample_poly(clip, 5, 8) for clip in (reference, recon))
    window = np.hanning(258)[1:-1]
    frames = [np.lib.stride_tricks.sliding_window_view(clip, 256)[::128][: (len(x) - 256 + 127) // 128] * window for clip in (x, y)]
    energy = 20 * np.log10(np.linalg.norm(frames[0], axis=1) + 1e-12)
    spectra = []
    for clip in frames:
        kept = clip[energy > energy.max() - 40]
        joined = np.zeros((len(kept) + 1) * 128)
        for number, frame in enumerate(kept):
            joined[number * 128 : number * 128 + 256] += frame
        windows = np.lib.stride_tricks.sliding_window_view(joined, 256)[::128][: (len(joined) - 256 + 127) // 128] * window
        spectra.append(np.square(np.abs(np.fft.rfft(windows, 512))))
    hertz = np.fft.rfftfreq(512, 1e-4)
    bands = []
    for number in range(15):
        low, high = (int(np.abs(hertz - 150 * 2 ** ((2 * number + side) / 6)).argmin()) for side in (-1, 1))
        bands.append([np.sqrt(spectrum[:, low:high].sum(1)) for spectrum in spectra])
    a, b = (np.array([band[side] for band in bands]) for side in range(2))
    scores = []
    for end in range(30, a.shape[1] + 1):
        one, two = a[:, end - 30 : end], b[:, end - 30 : end]
        if extended:
            for axis in (1, 0):
                one, two = (part - part.mean(axis, keepdims=True) for part in (one, two))
                one, two = (part / np.linalg.norm(part, axis=axis, keepdims=True) for part in (one, two))
            scores.append((one * two).sum() / 30)
            continue
        two = two * np.linalg.norm(one, axis=1, keepdims=True) / np.linalg.norm(two, axis=1, keepdims=True)
        two = np.minimum(two, one * (1 + 10 ** (15 / 20)))
        one, two = (part - part.mean(1, keepdims=True) for part in (one, two))
        scores.append(((one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)).mean())
    return float(np.mean(scores))


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("decibels", [0.0, 10.0])
def test_stoi_agrees_with_the_papers_written_out(extended: bool, decibels: float) -> None:
    clean = voice(3)
    expected = written_out(clean, noisy(clean, decibels), extended=extended)
    assert stoi(clean, noisy(clean, decibels), extended=extended) == pytest.approx(expected, abs=0.01)


def test_more_noise_is_worse_and_identical_clips_are_best() -> None:
    clean = voice(3)
    for measure in (pesq, lambda a, b: stoi(a, b, extended=False), lambda a, b: stoi(a, b, extended=True)):
        values = [measure(clean, noisy(clean, decibels)) for decibels in (0, 10, 20, 40)]
        assert values == sorted(values)
        assert measure(clean, clean) >= values[-1]
    assert pesq(clean, clean) == pytest.approx(4.644, abs=1e-3)
    assert stoi(clean, clean, extended=False) == pytest.approx(1)


def test_silence_for_speech_is_the_least_and_silence_in_the_reference_has_no_value() -> None:
    clean, silent = voice(2), np.zeros(32_000)
    assert pesq(clean, silent) == pytest.approx(1.0427, abs=1e-3)
    assert pesq(clean, silent) <= pesq(clean, noisy(clean, -20))
    assert stoi(clean, silent, extended=False) == pytest.approx(0, abs=1e-3)
    for measure in (pesq, lambda a, b: stoi(a, b, extended=True)):
        with pytest.raises(AvbenchError, match="no speech in the reference"):
            measure(silent, clean)


def test_clips_that_are_too_short_or_too_long_say_so() -> None:
    with pytest.raises(AvbenchError, match=r"PESQ takes 0.25 to 20 s, the clip has 0.1 s"):
        pesq(voice(1)[:1600], voice(1)[:1600])
    with pytest.raises(AvbenchError, match="the clip has 21 s"):
        pesq(np.ones(21 * 16_000), np.ones(21 * 16_000))
    for length in (100, 3000):
        with pytest.raises(AvbenchError, match=r"less than 0\.4 s of the reference"):
            stoi(voice(1)[1600 : 1600 + length], voice(1)[1600 : 1600 + length], extended=False)


@pytest.mark.parametrize("metric", [Pesq, Stoi, Estoi])
def test_a_clip_without_speech_is_a_row_with_a_reason_beside_the_others(metric: type[Pesq]) -> None:
    clean = voice(2, RATE)
    reference, recon = batch(clean, 0 * clean), batch(noisy(clean, 10), clean)
    clips = Reconstruction(reference=reference, recon=recon, tokens=TOKENS, seconds={}, peak_memory_mb=0.0)
    result = measure_batch({"speech": metric()}, [clips], [], index=0, ids=reference.ids, device=torch.device("cpu"))
    assert [row.status for row in result.rows] == ["ok", "ok"]
    assert result.rows[0].metrics["speech"] is not None
    assert result.rows[1].metrics["speech"] is None
    assert "digitally silent" in result.rows[1].errors["speech"]


def test_the_mean_of_two_clips_at_another_rate_and_in_stereo() -> None:
    clean, metric = voice(2, RATE), Stoi()
    rows = metric.update(batch(clean, clean), batch(clean, noisy(clean, 0)), TOKENS).numpy()
    assert rows[0] == pytest.approx(1)
    assert metric.compute(rows) == pytest.approx(rows.mean())
    stereo = ClipBatch(audio=batch(clean).audio.expand(-1, 2, -1), fps=4.0, sample_rate=RATE)
    assert metric.update(stereo, stereo, TOKENS).tolist() == pytest.approx([1])


def test_without_the_package_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech.importlib.util, "find_spec", lambda name: None)
    for metric in (Pesq, Estoi):
        with pytest.raises(MetricUnavailable, match=r"pip install 'avbench\[speech\]'"):
            metric()
