import av
import numpy as np
import pytest
import torch

from avbench.metrics.loudness import LoudnessDifference, integrated_loudness, k_weighting
from avbench.types import ClipBatch, Tokens

TOKENS = Tokens(codes={"audio": torch.zeros(1, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=1.0)


def sine(level_db: float, seconds: float, rate: int, *, hertz: float = 1000.0, channels: int = 2) -> torch.Tensor:
    """(1, C, N): peaks at `level_db` under full scale."""
    t = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (10 ** (level_db / 20) * torch.sin(2 * torch.pi * hertz * t)).float().expand(1, channels, -1)


def by_ffmpeg(audio: torch.Tensor, rate: int) -> float:
    """ffmpeg's ebur128 of (1, C, N): a program of its own."""
    graph = av.filter.Graph()
    layout = "mono" if audio.shape[1] == 1 else "stereo"
    nodes = [
        graph.add_abuffer(sample_rate=rate, format="fltp", layout=layout),
        graph.add("ebur128", "metadata=1"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    samples, last = audio[0].numpy(), 0.0
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate = rate
    graph.push(frame)
    graph.push(None)
    while True:
        try:
            last = float(graph.pull().metadata.get("lavfi.r128.I", last))
        except (av.error.EOFError, av.error.BlockingIOError):
            return last


def test_the_filters_at_48_khz_are_the_standards_tables() -> None:
    (shelf, poles), (high_pass, low_poles) = k_weighting(48_000)
    assert shelf.tolist() == pytest.approx([1.53512485958697, -2.69169618940638, 1.19839281085285], abs=1e-9)
    assert poles.tolist() == pytest.approx([1, -1.69065929318241, 0.73248077421585], abs=1e-9)
    assert high_pass.tolist() == [1, -2, 1]
    assert low_poles.tolist() == pytest.approx([1, -1.99004745483398, 0.99007225036621], abs=1e-9)


def test_a_sine_of_full_scale_in_one_channel_has_the_standards_loudness() -> None:
    assert integrated_loudness(sine(0, 5, 48_000, hertz=997, channels=1), 48_000).item() == pytest.approx(-3.01, abs=0.01)


# EBU Tech 3341, table 1, cases 1 to 5: (level in dBFS, seconds) one after another, and what a meter must show, within 0.1.
@pytest.mark.parametrize(
    ("parts", "lufs"),
    [
        ([(-23, 20)], -23),
        ([(-33, 20)], -33),
        ([(-36, 10), (-23, 60), (-36, 10)], -23),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23),
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23),
    ],
)
@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_the_test_tones_of_the_ebu_are_measured_as_they_must_be(parts: list[tuple[float, float]], lufs: float, rate: int) -> None:
    audio = torch.cat([sine(level, seconds, rate) for level, seconds in parts], dim=2)
    assert integrated_loudness(audio, rate).item() == pytest.approx(lufs, abs=0.1)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (24_000, 1), (48_000, 2)])
def test_agrees_with_ffmpeg(rate: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(rate)
    swell = torch.linspace(0, 1, 6 * rate).square()
    audio = 0.2 * torch.randn(1, channels, 6 * rate, generator=generator) * swell
    assert integrated_loudness(audio, rate).item() == pytest.approx(by_ffmpeg(audio, rate), abs=0.06)  # it reports tenths


def test_a_gain_is_told_to_the_decibel_and_silence_is_at_the_gate() -> None:
    rate, metric = 24_000, LoudnessDifference()
    x = sine(-20, 1, rate, channels=1)
    reference = ClipBatch(audio=x.expand(4, -1, -1), fps=4.0, sample_rate=rate)
    gains = torch.tensor([1.0, 0.5, 0.1, 0.0])[:, None, None]
    rows = metric.update(reference, ClipBatch(audio=x * gains, fps=4.0, sample_rate=rate), TOKENS)
    loudness = integrated_loudness(x, rate).item()
    assert rows.tolist() == pytest.approx([0, 6.0206, 20, loudness + 70], abs=1e-3)
    silent = ClipBatch(audio=torch.zeros(2, 1, rate), fps=4.0, sample_rate=rate)
    assert metric.update(silent, silent, TOKENS).tolist() == [0.0, 0.0]
    assert metric.compute(rows[:2].numpy()) == pytest.approx(3.0103, abs=1e-3)


def test_clips_that_are_too_short_or_of_too_many_channels_are_refused() -> None:
    for audio in (torch.zeros(1, 1, 9000), torch.zeros(1, 6, 48_000)):
        with pytest.raises(ValueError, match="at most 2 channels and at least 9600 samples"):
            integrated_loudness(audio, 24_000)
