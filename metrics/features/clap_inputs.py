"""What CLAP listens to and reads, made as its authors make it, for whole batches on any device. B clips, N samples."""

from functools import cache
from pathlib import Path
from typing import Any

import librosa
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from avbench.errors import AvbenchError

SAMPLE_RATE = 48_000  # Hz
NUM_SAMPLES = 480_000  # 10 s
FFT, HOP = 1024, 480
BANDS, MIN_HZ, MAX_HZ = 64, 50, 14_000
MIN_POWER = 1e-10
MAX_TOKENS = 77
# What roberta-base makes of a known text; another vocabulary gives other numbers.
KNOWN_TEXT, KNOWN_IDS = "Hello world", [0, 31414, 232, 2]


def ten_seconds(audio: Tensor, sample_rate: int) -> Tensor:
    """(B, 480000) at 48 kHz of sound (B, C, N) in [-1, 1]: channels averaged, cut to 16 bits, repeated as often as it fits, then zeros.

    Of more than 10 s the first 10 count; the authors draw a random part. Raises ValueError where there is no sound.
    """
    mono = torchaudio.functional.resample(audio.mean(1), sample_rate, SAMPLE_RATE)[:, :NUM_SAMPLES]
    if mono.shape[-1] == 0:
        raise ValueError("CLAP needs sound, this clip has no sample")
    quantised = (mono.clamp(-1, 1) * 32_767).trunc() / 32_767
    repeated = quantised.repeat(1, NUM_SAMPLES // mono.shape[-1])
    return F.pad(repeated, (0, NUM_SAMPLES - repeated.shape[-1]))


def log_mel(samples: Tensor) -> Tensor:
    """Mel power in dB (B, 1001, 64) of 10 s at 48 kHz (B, 480000): centred frames, reflected ends, periodic Hann window, Slaney's bands."""
    window = torch.hann_window(FFT, device=samples.device)
    power = torch.stft(samples, FFT, HOP, window=window, pad_mode="reflect", return_complex=True).abs().square()
    return 10 * (power.transpose(1, 2) @ mel_weights().to(samples.device)).clamp_min(MIN_POWER).log10()


@cache
def mel_weights() -> Tensor:
    """(513, 64) bands of 50 Hz to 14 kHz."""
    return torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT, n_mels=BANDS, fmin=MIN_HZ, fmax=MAX_HZ).T.copy())


def as_text(label: str) -> str:
    """A class name as it is read out: `space_invaders` -> `space invaders`."""
    return label.replace("_", " ").strip()


def load_vocabulary(path: Path) -> Any:
    """RoBERTa's byte pairs (a `tokenizers.Tokenizer`) from tokenizer.json. Raises AvbenchError for a file of something else."""
    from tokenizers import Tokenizer

    try:
        vocabulary = Tokenizer.from_file(str(path))
        found = vocabulary.encode(KNOWN_TEXT).ids
    except Exception as error:  # the library raises plain Exception for a damaged file
        raise AvbenchError(f"{path} is not a tokenizer.json: {error}") from error
    if found != KNOWN_IDS:
        raise AvbenchError(f'{path} is not that of roberta-base: "{KNOWN_TEXT}" became {found[:8]}, not {KNOWN_IDS}')
    vocabulary.enable_truncation(MAX_TOKENS)
    return vocabulary
