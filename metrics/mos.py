"""Opinion scores of speech without a reference, by Microsoft's networks: DNSMOS P.835 (Reddy et al. 2022, arXiv 2110.01763) and PLCMOS v2
(Diener et al. 2023, arXiv 2305.15127).

The networks are ONNX files of the package speechmos. They are read from the catalog, by their sha256, and not through the package: it
hashes nothing, draws PLCMOS's listeners anew at each call, and brings pandas and requests. What is done to the sound is the package's way.
"""

import importlib.util
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avbench import weights
from avbench.metric import GENERATION, RECONSTRUCTION, MetricInfo, MetricOptions, MetricUnavailable, PerClipMetric
from avbench.metrics.features.cache import features_of
from avbench.metrics.speech import SAMPLE_RATE, at_16_khz
from avbench.types import ClipBatch, Tokens

DNSMOS, PLCMOS = "dnsmos", "plcmos"  # in the catalog
WINDOW_S, WINDOW = 9.01, 144_160  # seconds and samples that DNSMOS hears at once, every second
FRAME = 512  # samples of PLCMOS's spectra; the hop is half
LISTENERS, LISTENER_SIZE = 15, 64  # PLCMOS's mean is over so many random ones, here those of seed 0
# Polynomials of the network's three outputs (highest power first), from its raters to P.835's: signal, background, overall.
CALIBRATION = ((-0.08397278, 1.22083953, 0.0052439), (-0.13166888, 1.60915514, -0.39604546), (-0.06766283, 1.11546468, 0.04602535))


def dnsmos(network: Any, audio: np.ndarray) -> np.ndarray:
    """(3,) opinions from 1 to 5 of the speech's signal, its background, and overall, of (N,) at 16 kHz in [-1, 1].

    A clip under 9.01 s is doubled until it is as long. Windows begin every second; their opinions are averaged. Windows that the authors'
    code leaves out are left out: those after the last whole second, and those whose end its floats put a sample early (the 8th to 24th).
    """
    while len(audio) < WINDOW:
        audio = np.concatenate([audio, audio])
    seconds = range(int(len(audio) // SAMPLE_RATE - WINDOW_S) + 1)
    starts = [at * SAMPLE_RATE for at in seconds if int((at + WINDOW_S) * SAMPLE_RATE) - at * SAMPLE_RATE == WINDOW]
    raw = np.concatenate([network.run(None, {"input_1": audio[None, at : at + WINDOW].astype(np.float32)})[0] for at in starts])
    return np.stack([np.polyval(terms, raw[:, output].astype(np.float64)) for output, terms in enumerate(CALIBRATION)]).mean(1)


def plcmos(network: Any, audio: np.ndarray) -> float:
    """Opinion from 1 to 5 of speech whose lost packets were concealed, of (N,) at 16 kHz in [-1, 1]."""
    spectra = _log_spectra(audio)[None, None].astype(np.float32)
    listeners = np.random.RandomState(0).normal(size=(LISTENERS, 1, LISTENER_SIZE)).astype(np.float32)
    return float(np.mean([network.run(None, {"degraded_audio": spectra, "rater_embed": one})[0] for one in listeners]))


def _log_spectra(audio: np.ndarray) -> np.ndarray:
    """ln |X|^2 / 20, (frames, 257): Hamming windows from half a window before the sound on; zeros 120 dB under the least of the others."""
    frames = -(-(len(audio) + FRAME // 2) // (FRAME // 2))
    padded = np.zeros((frames + 1) * FRAME // 2)
    padded[FRAME // 2 : FRAME // 2 + len(audio)] = audio
    windows = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[:: FRAME // 2] * np.hamming(FRAME + 1)[:-1]
    power = np.square(np.abs(np.fft.rfft(windows)))
    there = power > 0
    floor = power[there].min() * 1e-12 if there.any() else 1e-8
    return np.log(np.where(there, power, floor)) / 20


@lru_cache(maxsize=2)
def load(name: str) -> Any:
    """The onnxruntime session of a network of the catalog, on the CPU. Raises MetricUnavailable where the package or the file is absent."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise MetricUnavailable("the package onnxruntime is not installed; run `pip install 'avbench[speech]'`")
    path = weights.path(name)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class _Opinion(PerClipMetric):
    """Of the reconstruction alone, at 16 kHz."""

    network: str

    def __init__(self, options: MetricOptions) -> None:
        self.session = load(self.network)

    def heard(self, clips: ClipBatch) -> np.ndarray:
        """(B, N) at 16 kHz in [-1, 1]."""
        assert clips.audio is not None
        return at_16_khz(clips.audio, clips.sample_rate).clip(-1, 1)


def _info(name: str, network: str, protocol: str) -> MetricInfo:
    return MetricInfo(
        name=name,
        unit="",
        higher_is_better=True,
        needs=frozenset({"audio"}),
        per_clip=True,
        default=False,
        tasks=RECONSTRUCTION | GENERATION,
        sets=frozenset({"speech"}),
        weights=(network,),
        extra="speech",
        modules=("onnxruntime",),
        protocol=(
            f"{protocol} (weights {(weights.CATALOG[network].sha256 or '')[:8]}, onnxruntime) of the reconstruction alone, "
            "16 kHz mono (channels averaged, torchaudio resample); mean over clips"
        ),
    )


_DNSMOS = "DNSMOS P.835 {}, windows of 9.01 s every second, shorter clips doubled until they fill one"


class _Dnsmos(_Opinion):
    network = DNSMOS
    output: int

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows (B,). The network runs once for all three."""
        assert recon.audio is not None
        key = f"{DNSMOS} {recon.sample_rate}"
        found = features_of(recon.audio, key, lambda _: torch.tensor(np.array([dnsmos(self.session, clip) for clip in self.heard(recon)])))
        return found[:, self.output]


class DnsmosOvrl(_Dnsmos):
    """Overall opinion of noisy speech, by DNSMOS P.835; 1 to 5."""

    output = 2
    info = _info("dnsmos_ovrl", DNSMOS, _DNSMOS.format("overall"))


class DnsmosSig(_Dnsmos):
    """Opinion of the speech itself, by DNSMOS P.835; 1 to 5."""

    output = 0
    info = _info("dnsmos_sig", DNSMOS, _DNSMOS.format("signal"))


class DnsmosBak(_Dnsmos):
    """Opinion of the background behind speech, by DNSMOS P.835; 1 to 5."""

    output = 1
    info = _info("dnsmos_bak", DNSMOS, _DNSMOS.format("background"))


class Plcmos(_Opinion):
    """Opinion of speech whose lost packets were concealed; 1 to 5."""

    network = PLCMOS
    info = _info("plcmos", PLCMOS, f"PLCMOS v2, mean over {LISTENERS} random listeners of seed 0")

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return torch.tensor([plcmos(self.session, clip) for clip in self.heard(recon)], dtype=torch.float64)
