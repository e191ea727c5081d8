"""ViSQOL in its audio mode: how much a codec is heard, as an opinion from 1 to 5 (Chinen et al. 2020, arXiv 2004.09584).

By the package visqol-python, a port of Google's C++ code, 48 kHz mono, its support vector regression. It compares spectra of 32 bands in
patches of 0.6 s, after aligning the clips.
"""

import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample

from avbench.errors import AvbenchError
from avbench.metric import MetricInfo, MetricUnavailable, PerClipMetric
from avbench.types import ClipBatch, Tokens

SAMPLE_RATE = 48_000  # Hz, which the regression was trained at
MIN_SECONDS = 1.0  # shorter clips have no patch that can be moved
LEAST = 1.0  # of the scale


def opinion(api: Any, reference: np.ndarray, recon: np.ndarray) -> float:
    """Of two (N,) at 48 kHz, by a `visqol.VisqolApi` of mode audio; NaN where the reference is silent.

    Raises AvbenchError for clips of less than a second.
    """
    if len(reference) < MIN_SECONDS * SAMPLE_RATE:
        raise AvbenchError(f"ViSQOL takes {MIN_SECONDS:g} s or more, the clip has {len(reference) / SAMPLE_RATE:.3g} s")
    if not reference.any():
        return float("nan")
    return float(api.measure_from_arrays(reference, recon, SAMPLE_RATE).moslqo) if recon.any() else LEAST


class Visqol(PerClipMetric):
    """How much a codec is heard, by ViSQOL's audio mode; 1 to 4.73."""

    info = MetricInfo(
        name="visqol",
        unit="",
        higher_is_better=True,
        needs=frozenset({"audio"}),
        per_clip=True,
        default=False,
        sets=frozenset({"perceptual", "speech"}),
        extra="visqol",
        protocol=(
            "ViSQOL v3 audio mode (package visqol-python, its nu-SVR), 48 kHz mono (channels averaged, torchaudio resample), search window "
            "60, aligned; digitally silent reference left out, silent reconstruction 1; mean over clips"
        ),
    )

    def __init__(self) -> None:
        if importlib.util.find_spec("visqol") is None:
            raise MetricUnavailable("the package visqol is not installed; run `pip install 'avbench[visqol]'`")
        from visqol import VisqolApi

        self.api = VisqolApi()
        self.api.create(mode="audio")

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows (B,). Raises AvbenchError for clips of less than a second."""
        assert reference.audio is not None
        assert recon.audio is not None
        pairs = zip(*(_at_48_khz(audio, reference.sample_rate) for audio in (reference.audio, recon.audio)), strict=True)
        return torch.tensor([opinion(self.api, real, made) for real, made in pairs], dtype=torch.float64)


def _at_48_khz(audio: Tensor, sample_rate: int) -> np.ndarray:
    return np.asarray(resample(audio.float().mean(1).cpu(), sample_rate, SAMPLE_RATE).double().numpy())
