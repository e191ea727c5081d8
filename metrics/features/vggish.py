"""VGGish (Hershey et al. 2017, arXiv 1609.09430): log-mel patches of 0.96 s -> a VGG network -> 128 numbers.

The weights are Google's, as torchvggish converted them; front end and layers as in tensorflow/models/research/audioset/vggish. For FAD
the last ReLU and the PCA are left out, as in "Adapting Frechet Audio Distance" (Gui et al. 2024, arXiv 2311.01616).
"""

from functools import cache

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn

from avbench import weights
from avbench.artifact import fill
from avbench.weights.load import tensors

WEIGHTS = "vggish"
SAMPLE_RATE = 16_000
FRAME, HOP, FFT = 400, 160, 512  # 25 ms, 10 ms
MELS, MIN_HZ, MAX_HZ = 64, 125.0, 7500.0
LOG_OFFSET = 0.01
PATCH = 96  # frames, 0.96 s; patches do not overlap
DIM = 128
MIN_SAMPLES = (PATCH - 1) * HOP + FRAME


class VggishNet(nn.Module):
    """Log-mel patches (B, 96, 64) -> embeddings (B, 128) before the last ReLU. State-dict keys as in the torchvggish file."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_conv_layers())
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 6 * 4, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, DIM)
        )  # fmt: skip

    def forward(self, patches: Tensor) -> Tensor:
        maps = self.features(patches[:, None])  # (B, 512, 6, 4)
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))  # channels last, as TensorFlow flattens


def _conv_layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 1
    for group in ((64,), (128,), (256, 256), (512, 512)):
        for width in group:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return layers


def load(device: torch.device) -> VggishNet:
    """The published model (file `vggish` of `avbench.weights`), in eval mode.

    Raises WeightsUnavailable where the file is absent, AvbenchError where it holds something else.
    """
    file = weights.path(WEIGHTS)
    model = VggishNet()
    fill(model, tensors(weights.load_torch(file), file), file, "a VGGish")
    return model.eval().to(device)


def embed(model: VggishNet, audio: Tensor, sample_rate: int) -> Tensor:
    """Embeddings (B, W, 128) of audio (B, C, N) in [-1, 1]: channels averaged, resampled to 16 kHz, W patches of 0.96 s.

    4.096 s give W = 4; a rest of less than a patch is dropped. Raises ValueError where the audio is shorter than one patch.
    """
    patches = to_patches(log_mel(torchaudio.functional.resample(audio.mean(1), sample_rate, SAMPLE_RATE)))
    # TF32 would make the numbers depend on the machine.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        return model(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])


def log_mel(mono: Tensor) -> Tensor:
    """log(mel magnitude + 0.01) of 16 kHz audio (B, N): (B, T, 64); only whole frames, periodic Hann window, FFT of 512."""
    if mono.shape[-1] < MIN_SAMPLES:
        raise ValueError(f"VGGish needs {MIN_SAMPLES / SAMPLE_RATE} s of audio, this has {mono.shape[-1] / SAMPLE_RATE:.3f} s")
    window = torch.hann_window(FRAME, device=mono.device)
    magnitude = torch.fft.rfft(mono.unfold(-1, FRAME, HOP) * window, FFT).abs()
    return torch.log(magnitude @ mel_weights().to(mono.device) + LOG_OFFSET)


def to_patches(frames: Tensor) -> Tensor:
    """Patches (B, W, 96, M) of frames (B, T, M), one after another."""
    return frames.unfold(1, PATCH, PATCH).transpose(2, 3)


@cache
def mel_weights() -> Tensor:
    """(257, 64) triangles on the mel axis (HTK), of height 1, without the bin of 0 Hz."""
    mels = _mel(np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(_mel(np.array(MIN_HZ)), _mel(np.array(MAX_HZ)), MELS + 2)
    rise = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rise, fall))
    triangles[0] = 0
    return torch.from_numpy(triangles.astype(np.float32))


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(hertz / 700)
