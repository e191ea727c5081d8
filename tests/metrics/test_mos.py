import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from voice import voice

from avbench import weights
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics import mos
from avbench.metrics.mos import DNSMOS, PLCMOS, DnsmosBak, DnsmosOvrl, DnsmosSig, Plcmos, dnsmos, load, plcmos
from avbench.types import ClipBatch, Tokens

pytest.importorskip("onnxruntime", reason="the extra speech is not installed")
TOKENS = Tokens(codes={"audio": torch.zeros(1, 1, 1, dtype=torch.int64)}, vocab_sizes={"audio": 1}, duration_s=4.0)


@pytest.fixture(scope="module")
def networks() -> dict[str, object]:
    try:
        return {name: load(name) for name in (DNSMOS, PLCMOS)}
    except MetricUnavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """speechmos itself, whose files are those of the catalog."""
    pytest.importorskip("speechmos", reason="pip install --no-deps speechmos, to compare with it")
    monkeypatch.setitem(sys.modules, "requests", SimpleNamespace(session=None))  # it imports this, and does not use it
    import speechmos.dnsmos
    import speechmos.plcmos

    return lambda name: getattr(speechmos, name)


def noisy(clean: np.ndarray, decibels: float) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal(len(clean))
    return (clean + noise * np.sqrt(np.square(clean).mean() / np.square(noise).mean()) * 10 ** (-decibels / 20)).clip(-1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3, 10.5, 17.2])
def test_dnsmos_is_the_packages(networks: dict[str, object], package: Callable[[str], ModuleType], seconds: float) -> None:
    audio = noisy(voice(seconds), 15)
    theirs = package("dnsmos").run(audio, 16_000)
    assert dnsmos(networks[DNSMOS], audio).tolist() == pytest.approx([theirs[f"{name}_mos"] for name in ("sig", "bak", "ovrl")], abs=1e-4)


@pytest.mark.parametrize("quiet", [False, True])
def test_plcmos_is_the_packages_at_one_seed(networks: dict[str, object], package: Callable[[str], ModuleType], quiet: bool) -> None:
    audio = voice(2)
    audio[8_000:12_000] = 0  # lost packets, and spectra of zeros
    audio = 0 * audio if quiet else audio
    np.random.seed(0)  # the package draws its listeners from here
    assert plcmos(networks[PLCMOS], audio) == pytest.approx(package("plcmos").run(audio, 16_000)["plcmos"], abs=1e-4)


@pytest.mark.slow
def test_noise_and_lost_packets_are_worse(networks: dict[str, object]) -> None:
    clean = voice(9.01)
    scores = np.array([dnsmos(networks[DNSMOS], clip) for clip in (noisy(clean, 0), noisy(clean, 15), clean)])
    assert (np.diff(scores[:, 1:], axis=0) > 0).all()  # background and overall
    lost = clean.copy()
    for start in range(8_000, len(lost), 6_400):
        lost[start : start + 1_600] = 0
    assert plcmos(networks[PLCMOS], lost) < plcmos(networks[PLCMOS], clean)


def test_the_three_of_dnsmos_share_one_pass_and_the_reference_is_not_looked_at(
    networks: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []
    monkeypatch.setattr(mos, "dnsmos", lambda network, audio: heard.append(audio) or np.array([1.0, 2.0, 3.0]))
    recon = ClipBatch(audio=torch.rand(2, 1, 24_000), fps=4.0, sample_rate=24_000)
    silent = ClipBatch(audio=torch.zeros(2, 1, 24_000), fps=4.0, sample_rate=24_000)
    values = [metric(MetricOptions()).update(silent, recon, TOKENS).tolist() for metric in (DnsmosSig, DnsmosBak, DnsmosOvrl)]
    assert values == [[1, 1], [2, 2], [3, 3]]
    assert [len(audio) for audio in heard] == [16_000, 16_000]
    assert min(audio.min() for audio in heard) >= -1
    assert DnsmosOvrl(MetricOptions()).compute(np.array([1.0, 3.0])) == 2


def test_silence_has_a_number(networks: dict[str, object]) -> None:
    silent = ClipBatch(audio=torch.zeros(2, 1, 24_000), fps=4.0, sample_rate=24_000)
    assert np.isfinite(Plcmos(MetricOptions()).update(silent, silent, TOKENS).numpy()).all()


def test_without_the_package_or_the_file_the_command_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    load.cache_clear()
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("AVBENCH_OFFLINE", "1")
    with pytest.raises(weights.WeightsUnavailable, match="avbench weights pull dnsmos"):
        DnsmosOvrl(MetricOptions())
    monkeypatch.setattr(mos.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricUnavailable, match=r"pip install 'avbench\[speech\]'"):
        Plcmos(MetricOptions())
