"""Quality and intelligibility of speech against its reference, both at 16 kHz mono: PESQ (ITU-T P.862.2), STOI and ESTOI.

PESQ is the ITU's own code in the package pesq. STOI (Taal et al. 2011) and ESTOI (Jensen & Taal 2016) are those of the package pystoi,
which goes on to 10 kHz itself. All were made for speech: of other sounds they give numbers that nobody has validated.
"""

import importlib.util
import warnings

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample

from avbench.errors import AvbenchError
from avbench.metric import MetricInfo, MetricUnavailable, PerClipMetric
from avbench.types import ClipBatch, Tokens

SAMPLE_RATE = 16_000  # Hz
MIN_SECONDS, MAX_SECONDS = 0.25, 20.0  # of PESQ: its code looks for 50 utterances at most and does not check; 20 s hold no more
LEAST_PESQ = 0.999 + 4 / (1 + np.exp(1.3669 * 0.5 + 3.8224))  # P.862.2's map of -0.5, the lowest raw score


def at_16_khz(audio: Tensor, sample_rate: int) -> np.ndarray:
    """(B, C, N) at `sample_rate` Hz -> (B, N') float64, channels averaged."""
    mono = audio.float().mean(1).cpu()
    return np.asarray(resample(mono, sample_rate, SAMPLE_RATE).double().numpy())


def pesq(reference: np.ndarray, recon: np.ndarray) -> float:
    """Wide-band PESQ as MOS-LQO, 1.04 to 4.64, of two (N,) at 16 kHz. A digitally silent recon has the least.

    Raises AvbenchError where there is nothing to measure: no utterance in the reference, under 0.25 s, or over 20 s.
    """
    from pesq import NoUtterancesError
    from pesq import pesq as measure

    seconds = len(reference) / SAMPLE_RATE
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise AvbenchError(f"PESQ takes {MIN_SECONDS:g} to {MAX_SECONDS:g} s, the clip has {seconds:.4g} s")
    if not reference.any():
        raise AvbenchError("no speech in the reference: it is digitally silent")
    if not recon.any():
        return float(LEAST_PESQ)
    try:
        return float(measure(SAMPLE_RATE, reference, recon, "wb"))
    except NoUtterancesError as error:
        raise AvbenchError("no speech in the reference: PESQ finds no utterance") from error


def stoi(reference: np.ndarray, recon: np.ndarray, *, extended: bool) -> float:
    """STOI, or ESTOI, up to 1, of two (N,) at 16 kHz. Raises AvbenchError where too little of the reference is loud (0.4 s are needed)."""
    from pystoi import stoi as measure

    if not reference.any():
        raise AvbenchError("no speech in the reference: it is digitally silent")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames")
        try:
            return float(measure(reference, recon, SAMPLE_RATE, extended=extended))
        except (RuntimeWarning, ValueError) as error:  # ValueError: of clips of less than a frame
            raise AvbenchError("less than 0.4 s of the reference is within 40 dB of its loudest: too little for STOI") from error


class _Speech(PerClipMetric):
    """A measure of pairs of clips at 16 kHz, one after another."""

    package: str

    def __init__(self) -> None:
        if importlib.util.find_spec(self.package) is None:
            raise MetricUnavailable(f"the package {self.package} is not installed; run `pip install 'avbench[speech]'`")

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows (B,). Raises AvbenchError for a clip that has no value, with the reason."""
        assert reference.audio is not None
        assert recon.audio is not None
        pairs = zip(*(at_16_khz(audio, reference.sample_rate) for audio in (reference.audio, recon.audio)), strict=True)
        return torch.tensor([self.measure(real, made) for real, made in pairs], dtype=torch.float64)

    def measure(self, reference: np.ndarray, recon: np.ndarray) -> float:
        """Of two (N,) at 16 kHz."""
        raise NotImplementedError


_AT_16_KHZ = "at 16 kHz mono (channels averaged, torchaudio resample); mean over clips"


def _info(name: str, package: str, protocol: str) -> MetricInfo:
    return MetricInfo(
        name=name,
        unit="",
        higher_is_better=True,
        needs=frozenset({"audio"}),
        per_clip=True,
        default=False,
        sets=frozenset({"speech"}),
        extra="speech",
        modules=(package,),
        protocol=f"{protocol}, {_AT_16_KHZ}",
    )


class Pesq(_Speech):
    """Wide-band PESQ of speech, by the ITU's code; 1.04 to 4.64."""

    package = "pesq"
    info = _info(
        "pesq", package, "PESQ, ITU-T P.862.2 wide band (package pesq), both clips over their common peak, silent reconstruction 1.04"
    )

    def measure(self, reference: np.ndarray, recon: np.ndarray) -> float:
        return pesq(reference, recon)


class Stoi(_Speech):
    """Short-time objective intelligibility of speech, up to 1."""

    package = "pystoi"
    info = _info("stoi", package, "STOI (Taal et al. 2011, package pystoi)")

    def measure(self, reference: np.ndarray, recon: np.ndarray) -> float:
        return stoi(reference, recon, extended=False)


class Estoi(_Speech):
    """Extended STOI of speech, which also hears modulated noise; up to 1."""

    package = "pystoi"
    info = _info("estoi", package, "ESTOI (Jensen & Taal 2016, package pystoi)")

    def measure(self, reference: np.ndarray, recon: np.ndarray) -> float:
        return stoi(reference, recon, extended=True)
