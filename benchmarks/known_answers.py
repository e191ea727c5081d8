"""Known answers: `python benchmarks/known_answers.py` prints what each metric gives beside what it should give, and from where.

Fetches the pinned weights on first use (avbench/weights/catalog.py). Ends with exit code 1 where a difference exceeds its tolerance.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from tabulate import tabulate

from avbench.metrics.frechet import frechet_distance, frechet_from_features
from avbench.metrics.fvd import fvd
from avbench.metrics.lpips import Net, lpips
from avbench.metrics.psnr import psnr
from avbench.metrics.si_sdr import si_sdr
from avbench.metrics.ssim import ssim


class Case(NamedTuple):
    """One known answer. tolerance: how far off `ours` may be, from the digits and the arithmetic of the source."""

    metric: str
    what: str
    known: float
    source: str
    tolerance: float
    ours: Callable[[], float]


def constant(value: float, frames: int, copies: int = 1) -> torch.Tensor:
    """Videos (copies, frames, 3, 64, 64) of one grey."""
    return torch.full((copies, frames, 3, 64, 64), value)


def psnr_textbook() -> float:
    target, preds = torch.tensor([3.0, 2, 1, 0]), torch.tensor([0.0, 1, 2, 3])
    return psnr(target.view(1, 1, 1, 2, 2), preds.view(1, 1, 1, 2, 2), data_range=3).item()


def ssim_noisy() -> float:
    state = np.random.RandomState(0)
    a = state.rand(64, 64)
    b = np.clip(a + 0.1 * state.randn(64, 64), 0, 1)
    return ssim(*(torch.from_numpy(x).expand(1, 1, 3, 64, 64) for x in (a, b))).item()


def frechet_bias(count: int) -> float:
    samples = np.random.default_rng(1).standard_normal((2, count, 400))
    return frechet_from_features(samples[0], samples[1])


def si_sdr_example(zero_mean: bool) -> float:
    target, preds = torch.tensor([[[3.0, -0.5, 2.0, 7.0]]]), torch.tensor([[[2.5, 0.0, 2.0, 8.0]]])
    return si_sdr(target, preds, zero_mean=zero_mean).item()


def lpips_pictures(folder: Path, name: str, net: Net = "alex") -> float:
    """LPIPS of two of the example pictures of the authors' repository (imgs/), as (1, 1, 3, H, W) in [0, 1]."""
    from torchvision.io import ImageReadMode, read_image

    reference, recon = (read_image(str(folder / f"{n}.png"), ImageReadMode.RGB).float()[None, None] / 255 for n in ("ex_ref", name))
    return lpips(reference, recon, net).item()


def cases() -> list[Case]:
    """The known answers that need nothing but the weights."""
    diagonals = (np.zeros(2), np.diag([1.0, 4.0]), np.zeros(2), np.diag([4.0, 9.0]))
    zeros, ones = constant(0, 1), constant(1, 1)
    greys = constant(0.2, 1), constant(0.6, 1)
    return [
        Case("psnr", "[[0,1],[2,3]], range 3", 2.5527, "torchmetrics", 5e-5, psnr_textbook),
        Case("psnr", "0 vs 1", 0, "closed form", 0, lambda: psnr(zeros, ones).item()),
        Case("ssim", "64x64 noise", 0.947342221, "scikit-image", 2e-6, ssim_noisy),
        Case("ssim", "0.2 vs 0.6", 0.60009998, "closed form", 1e-6, lambda: ssim(*greys).item()),
        Case("lpips", "0 vs 1", 0.81401, "published", 1e-4, lambda: lpips(zeros, ones).item()),
        Case("frechet", "diag(1,4) vs diag(4,9)", 2, "closed form", 1e-9, lambda: frechet_distance(*diagonals)),
        Case("frechet", "N(0,I_400), N = 128", 433, "sampling", 8, lambda: frechet_bias(128)),
        Case("frechet", "N(0,I_400), N = 512", 159, "sampling", 3, lambda: frechet_bias(512)),
        Case("frechet", "N(0,I_400), N = 2048", 40, "sampling", 1, lambda: frechet_bias(2048)),
        Case(
            "fvd", "0 vs 1, 8 x 30 frames", 151.39244, "original TensorFlow code", 0.05, lambda: fvd(constant(0, 30, 8), constant(1, 30, 8))
        ),
        Case("fvd", "0 vs 1, 8 x 10 frames", 569.23, "published PyTorch port", 1, lambda: fvd(constant(0, 10, 8), constant(1, 10, 8))),
        Case("si_sdr", "4 samples, raw", 18.4030, "torchmetrics", 1e-3, lambda: si_sdr_example(False)),
        Case("si_sdr", "4 samples, zero-mean", 15.0918, "torchmetrics", 1e-3, lambda: si_sdr_example(True)),
    ]


def picture_cases(folder: Path) -> list[Case]:
    """The two figures of the LPIPS authors' README; `folder` holds their pictures."""
    return [
        Case("lpips", "ex_ref vs ex_p0", 0.722, "authors' README", 5e-4, lambda: lpips_pictures(folder, "ex_p0")),
        Case("lpips", "ex_ref vs ex_p1", 0.138, "authors' README", 5e-4, lambda: lpips_pictures(folder, "ex_p1")),
    ]


def wav(path: Path) -> tuple[np.ndarray, int]:
    """(N,) in [-1, 1], channels averaged, and its rate."""
    samples, rate = soundfile.read(path, always_2d=True)
    return samples.mean(1), rate


def sound_cases(folder: Path) -> list[Case]:
    """Figures that authors publish of sounds in their repositories: google/visqol, pranaymanocha/PerceptualAudio, ludlows/PESQ.

    Their .wav files lie in `folder`, CDPAM's as cdpam_ref.wav and cdpam_2.wav. Needs the extras speech and visqol.
    """
    from visqol import VisqolApi

    from avbench.metrics.cdpam import cdpam
    from avbench.metrics.speech import pesq
    from avbench.metrics.visqol import opinion
    from avbench.nn.pretrained.cdpam import load

    def heard(reference: str, recon: str) -> float:
        api = VisqolApi()
        api.create(mode="audio")
        (a, _), (b, _) = (wav(folder / f"{name}.wav") for name in (reference, recon))
        return opinion(api, a, b)

    def apart() -> float:
        (a, rate), (b, _) = (wav(folder / f"cdpam_{name}.wav") for name in ("ref", "2"))
        one, two = (torch.from_numpy(x).float()[None, None] for x in (a, b))
        return cdpam(load(torch.device("cpu")), one, two, rate).item()

    speech = [wav(folder / name)[0] for name in ("speech.wav", "speech_bab_0dB.wav")]
    google = "google/visqol"
    return [
        Case("visqol", "strauss lp35", 1.3889, google, 1e-4, lambda: heard("strauss48_stereo", "strauss48_stereo_lp35")),
        Case("visqol", "steely lp7", 2.2502, google, 1e-4, lambda: heard("steely48_stereo", "steely48_stereo_lp7")),
        Case("visqol", "guitar 64k AAC", 4.3497, google, 1e-4, lambda: heard("guitar48_stereo", "guitar48_stereo_64kbps_aac")),
        Case("visqol", "castanets, itself", 4.7321, google, 1e-4, lambda: heard("castanets48_stereo", "castanets48_stereo")),
        Case("cdpam", "ref vs 2", 0.1696, "authors' README", 1e-3, apart),
        Case("pesq", "babble at 0 dB", 1.0832, "package's README", 1e-4, lambda: pesq(speech[0], speech[1])),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lpips-pictures", type=Path, help="folder imgs/ of the LPIPS authors' repository, for two more rows")
    parser.add_argument("--sounds", type=Path, help="folder of the .wav files of `sound_cases`, for six more rows")
    arguments = parser.parse_args()
    folder, sounds = arguments.lpips_pictures, arguments.sounds
    rows, wrong = [], 0
    for case in cases() + (picture_cases(folder) if folder else []) + (sound_cases(sounds) if sounds else []):
        ours = case.ours()
        off = abs(ours - case.known) > case.tolerance
        wrong += off
        rows.append([case.metric, case.what, case.known, case.source, f"{ours:.6g}", f"{ours - case.known:+.1e}", "WRONG" if off else "ok"])
    print(tabulate(rows, headers=["metric", "case", "known answer", "source", "ours", "difference", ""], disable_numparse=True))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
