"""CAV-MAE Sync as AVTok's teacher: its patch tokens, read off at the centres of AVTok's patches.

Which output: that of the joint block under the stream's own norms, then the stream's final norm: what the authors' feature extractor
returns. The eleven blocks before it are two networks that share nothing; the joint block is the one network where sound
and pictures are described in one space, which is what AVTok asks of two streams over one codebook. (Of its outputs the published
model's contrastive loss reads the CLS token; the patch tokens beside it come through the same weights.)

Where: a token covers 16 x 16 pixels of a 224 x 224 picture, or 16 bands x 160 ms of sound. Sound patches of AVTok lie elsewhere in time
(the teacher's 26 tokens last 4.16 s) and frequency (Slaney's scale to 8.7 kHz against Kaldi's to 8 kHz), so features are interpolated at
the true centres; a plain resize is off by up to 0.44 tokens (70 ms) in time and 0.35 in frequency.
How many pictures: one, the middle frame, for each step of the grid. The network sees no motion, and four pictures a clip instead of sixteen
make the teacher four times cheaper.
What it looks at and listens to is made as its authors make it, for whole batches on any device.
B clips, T frames or pictures, N samples, F features or filter-bank frames, (t, h, w) the stream's patch grid, y and x the teacher's.
"""

from functools import lru_cache

import librosa
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F
from torchaudio.compliance.kaldi import mel_scale_scalar

from avbench.nn import mel
from avbench.nn.filter_bank import HOP, LOW_HZ, SAMPLE_RATE, WINDOW, filter_bank
from avbench.nn.patches import unit_range
from avbench.tokenizers.avtok.cav_mae_sync import CavMaeSync

# Mean and deviation of a filter bank in the authors' retrieval code.
LOG_MEAN, LOG_STD = -5.081, 4.4849
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def sound_picture(audio_BN: Tensor, bands: int, frames: int) -> Tensor:
    """(B, 1, bands, frames), normalised, of 16 kHz samples. Frames beyond the sound's end are log 0 = 0 before normalisation, as the
    authors pad. Raises ValueError for more sound than `frames`."""
    found = filter_bank(audio_BN, bands)
    if found.shape[1] > frames:
        raise ValueError(f"{audio_BN.shape[-1]} samples at {SAMPLE_RATE} Hz are {found.shape[1]} frames; the teacher takes {frames}")
    padded = F.pad(found, (0, 0, 0, frames - found.shape[1]))
    return ((padded - LOG_MEAN) / LOG_STD).transpose(1, 2)[:, None]


def pictures(frames_N3HW: Tensor, resolution: int) -> Tensor:
    """ImageNet-normalised (N, 3, resolution, resolution) of frames in [0, 1]; bicubic with PIL's kernel, as the authors resize."""
    x = frames_N3HW
    if x.shape[-2:] != (resolution, resolution):
        x = F.interpolate(x, (resolution, resolution), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (_channels(values, x.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


@lru_cache(maxsize=8)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(-1, 1, 1)


DIMS = {"video": 768, "audio": 768}


class CavMaeTeacher:
    """See `avbench.tokenizers.avtok.teacher.Teacher`."""

    def __init__(self, network: CavMaeSync, name: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16) -> None:
        """dtype: the network computes in; its inputs are made in float32. bfloat16 turns features by 0.6 degrees (cosine 0.99994, random
        weights) and is three times as fast on one Zen 5 core: 0.5 s against 1.5 for a clip's four pictures, 0.13 against 0.42 for sound.
        """
        self.name = name
        self.device, self.dtype = torch.device(device), dtype
        self.network = network.to(self.device, dtype)
        self.dims = dict.fromkeys(DIMS, network.config.width)
        self.resample = torchaudio.transforms.Resample(mel.SAMPLE_RATE, SAMPLE_RATE).to(self.device)

    @torch.no_grad()
    def features(self, stream: str, clips: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """See `Teacher`. Raises ValueError for frames that do not fill the grid's steps evenly, or over 4.18 s of sound."""
        return self._video(clips, grid) if stream == "video" else self._audio(clips, grid)

    def _video(self, clips_BTCHW: Tensor, grid: tuple[int, int, int]) -> Tensor:
        t, h, w = grid
        B, T = clips_BTCHW.shape[:2]
        if T % t:
            raise ValueError(f"{T} frames are not {t} steps of as many frames each")
        config = self.network.config
        frames = unit_range(clips_BTCHW[:, T // t // 2 :: T // t].flatten(0, 1).to(self.device))
        tokens = self.network(pictures(frames, config.resolution).to(self.dtype), "v")
        y, x = config.picture_grid
        return _read_off(tokens, (y, x), _even(h, y), _even(w, x)).reshape(B, t * h * w, -1)

    def _audio(self, clips_BN: Tensor, grid: tuple[int, int, int]) -> Tensor:
        _, h, w = grid
        config = self.network.config
        audio = self.resample(clips_BN.to(self.device).float())
        tokens = self.network(sound_picture(audio, config.bands, config.frames).to(self.dtype), "a")
        rows = _bands(h, config.bands, config.patch)
        return _read_off(tokens, config.sound_grid, rows, _times(w, clips_BN.shape[-1] / mel.SAMPLE_RATE, config.patch)).flatten(1, 2)


def _read_off(tokens_BLF: Tensor, size: tuple[int, int], rows: tuple[float, ...], columns: tuple[float, ...]) -> Tensor:
    """Bilinear: (B, y*x, F) on a grid of `size` -> float32 (B, len(rows), len(columns), F)."""
    maps_ByxF = tokens_BLF.float().unflatten(1, size)
    vertical, horizontal = _weights(rows, size[0], maps_ByxF.device), _weights(columns, size[1], maps_ByxF.device)
    return torch.einsum("hy,wx,byxf->bhwf", vertical, horizontal, maps_ByxF)


@lru_cache(maxsize=32)
def _weights(positions: tuple[float, ...], count: int, device: torch.device) -> Tensor:
    """(len(positions), count) of linear interpolation, held at the ends. Kept on the device, or every step would wait for a copy."""
    held = torch.tensor(positions).clamp(0, count - 1)
    return (1 - (held[:, None] - torch.arange(count)).abs()).clamp_min(0).to(device)


def _even(patches: int, tokens: int) -> tuple[float, ...]:
    """Centres of `patches` equal parts, in token numbers, of what `tokens` equal parts cover."""
    return tuple((i + 0.5) * tokens / patches - 0.5 for i in range(patches))


def _times(patches: int, duration_s: float, frames_a_token: int) -> tuple[float, ...]:
    """Centres of equal parts of the clip, in token numbers; filter-bank frame k is centred on sample 160 k + 200."""
    samples = ((i + 0.5) * duration_s / patches * SAMPLE_RATE for i in range(patches))
    return tuple(_token((sample - WINDOW / 2) / HOP, frames_a_token) for sample in samples)


def _bands(patches: int, bands: int, bands_a_token: int) -> tuple[float, ...]:
    """Centres of equal parts of AVTok's mel axis, in token numbers of Kaldi's; Kaldi's band k peaks at k + 1 of bands + 1 steps."""
    low, high = mel_scale_scalar(LOW_HZ), mel_scale_scalar(SAMPLE_RATE / 2)
    nominal_hz = librosa.mel_frequencies(2 * patches + 1, fmin=0.0, fmax=mel.F_MAX)[1::2]
    positions = (mel_scale_scalar(float(hertz) * mel.SAMPLE_RATE / mel.NOMINAL_RATE) for hertz in nominal_hz)
    return tuple(_token((position - low) / (high - low) * (bands + 1) - 1, bands_a_token) for position in positions)


def _token(row: float, rows_a_token: int) -> float:
    """The position of a filter-bank row (band or frame) in token numbers."""
    return (row + 0.5) / rows_a_token - 0.5
