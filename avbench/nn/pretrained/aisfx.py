"""Sound-effects embedding of "Representation Learning for the Automatic Indexing of Sound Effects Libraries" (Ma & Lerch,
ISMIR 2022, arXiv 2208.09096): log-mel blocks of 2.3 s -> a CNN of 8 convolutions -> 512 numbers.

The paper's spectrograms are Essentia's; this is the same arithmetic in PyTorch (log-mel values within 2e-5, embeddings within 3e-5 of the
aisfx package with Essentia; tests/nn/test_aisfx.py). The package's own librosa variant is another front end, which takes mel bands
for time.
"""

import codecs
from functools import cache
from typing import Any

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from avbench import weights
from avbench.weights import half

WEIGHTS = "aisfx"
SAMPLE_RATE = 44_100
FRAME, HOP, MELS = 2048, 1024, 96
BLOCK, BLOCK_HOP = 100, 50  # frames of a window, and from one window to the next (the paper's 0.5)
LOG_MEL_MAX = 9.457798957824707  # of the paper's training data; divides the log-mel values
DIM = 512


class ConvBlock(nn.Module):
    """(B, C, T, M) -> (B, C', T / pool, M / pool)."""

    def __init__(self, channels_in: int, channels_out: int, pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.max_pool2d(x, self.pool) if self.pool > 1 else x


class AisfxNet(nn.Module):
    """Windows of scaled log-mel values (B, 100, 96) -> embeddings (B, 512). Keys as under `embedding_net.` in the published file."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_block1 = ConvBlock(1, 64, 2)
        self.conv_block2 = ConvBlock(64, 128, 2)
        self.conv_block3 = ConvBlock(128, 256, 2)
        self.conv_block4 = ConvBlock(256, DIM, 1)

    def forward(self, windows: Tensor) -> Tensor:
        x = windows[:, None]
        for block in (self.conv_block1, self.conv_block2, self.conv_block3, self.conv_block4):
            x = block(x)
        return x.mean(3).amax(2)


def load(device: torch.device) -> AisfxNet:
    """The published model (file `aisfx` of `avbench.weights`), in eval mode. Raises WeightsUnavailable where the file cannot be had."""
    return _filled(state(), device)


def load_for_training(device: torch.device) -> AisfxNet:
    """The same, of the half-precision file where there is one."""
    found = half.arrays(WEIGHTS)
    return _filled(state() if found is None else {key: torch.from_numpy(value) for key, value in found.items()}, device)


def state() -> dict[str, Tensor]:
    """The network's tensors. Raises WeightsUnavailable where the file cannot be had."""
    content, _ = weights.load_torch(weights.path(WEIGHTS), weights.CATALOG[WEIGHTS].sha256, _admitted())
    prefix = "embedding_net."
    return {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}


def _filled(tensors: dict[str, Tensor], device: torch.device) -> AisfxNet:
    model = AisfxNet()
    model.load_state_dict(tensors)
    return model.requires_grad_(False).eval().to(device)


def _admitted() -> list[Any]:
    """What the file's second half, a table of data sets with NumPy integers, is made of."""
    integer = np.int64(0)
    return [(integer.__reduce__()[0], "numpy.core.multiarray.scalar"), np.dtype, type(integer.dtype), codecs.encode]


def embed(model: AisfxNet, audio: Tensor, sample_rate: int) -> Tensor:
    """Embeddings (B, W, 512) of audio (B, C, N) in [-1, 1]: channels averaged, resampled to 44.1 kHz, W windows of 100 frames.

    4.096 s give W = 2. Less than one window is filled up with silence.
    """
    mono = torchaudio.functional.resample(audio.mean(1), sample_rate, SAMPLE_RATE)
    windows = to_windows(log_mel(mono))
    # TF32 would make the numbers depend on the machine.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        return model(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])


def log_mel(mono: Tensor) -> Tensor:
    """log10(1 + 10^4 x mel power) / LOG_MEL_MAX of 44.1 kHz audio (B, N): (B, T, 96), T = floor((N - 1) / 1024) + 2.

    Frame t is centred at sample 1024 t, zeros beyond the ends; power spectrum under a symmetric Hann window.
    """
    num_frames = (mono.shape[-1] - 1) // HOP + 2
    padded = F.pad(mono, (FRAME // 2, (num_frames - 1) * HOP + FRAME // 2 - mono.shape[-1]))
    window = torch.hann_window(FRAME, periodic=False, device=mono.device)
    power = torch.fft.rfft(padded.unfold(-1, FRAME, HOP) * window).abs().square()
    return torch.log10(1 + 1e4 * power @ mel_weights().to(mono.device)) / LOG_MEL_MAX


def to_windows(frames: Tensor) -> Tensor:
    """Half-overlapping windows (B, W, 100, M) of frames (B, T, M); the last incomplete one is dropped unless it is the only one."""
    frames = F.pad(frames, (0, 0, 0, max(0, BLOCK - frames.shape[1])))
    return frames.unfold(1, BLOCK, BLOCK_HOP).transpose(2, 3)


@cache
def mel_weights() -> Tensor:
    """(1025, 96) mel bands of 0 to 22,050 Hz: triangles on the mel axis (HTK), each with weights that sum to 1."""
    mels = _mel(np.linspace(0, SAMPLE_RATE / 2, FRAME // 2 + 1))[:, None]
    edges = np.linspace(_mel(np.zeros(1))[0], _mel(np.array([SAMPLE_RATE / 2]))[0], MELS + 2)
    rise = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rise, fall))
    return torch.from_numpy((triangles / triangles.sum(0)).astype(np.float32))


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 1127.01048 * np.log1p(hertz / 700)
