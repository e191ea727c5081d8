"""What a run keeps of a clip to look at and listen to (`--save-samples K`), in the form that the gallery of `avbench report` plays.

samples/<name>/reference.mp4, recon.mp4     the picture (H.264 at CRF 16: a look, not the measured pixels), without sound
samples/<name>/reference.flac, recon.flac   the sound, sample by sample as measured, 16 bits
samples/<name>/reference.png, recon.png     its mel spectrogram, nothing but the picture: its width is the clip's duration
samples/<name>/reference.jpg, recon.jpg     the middle frame, to show before anything plays
samples/<name>.mp4                          both side by side, reference in the left ear: one file to send around; of a generated clip
                                            condition | generated | real (avbench/generate/panels.py)

What a tokenizer lacks is not there; a generated clip's recon holds its condition, too. Picture and sound are apart because browsers run a
movie with sound by the sound device's clock, each movie by its own, and those without by one: eleven movies with sound start up to 120 ms
apart (Chromium 150, busy machine).
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.files import disk_errors, slug
from avbench.types import ClipBatch

Picture = Callable[[Path, ClipBatch, ClipBatch], None]

SCALE = 2  # a 128-pixel frame is shown at 256 in the side-by-side picture
RANGE_DB = 80.0  # of a spectrogram, below the reference's loudest point
MEL_BANDS = 80


def sample_name(clip_id: str) -> str:
    """The clip's file name: readable, safe, and different for every id."""
    return f"{slug(clip_id)}-{hashlib.sha256(clip_id.encode()).hexdigest()[:6]}"


def has_sample(samples: Path, clip_id: str) -> bool:
    """Whether the folder `samples` of a run holds all that write_sample makes of the clip."""
    name = sample_name(clip_id)
    return (samples / f"{name}.mp4").is_file() and (samples / name / "reference.flac").is_file()


def write_sample(samples: Path, reference: ClipBatch, recon: ClipBatch, write_picture: Picture) -> None:
    """Everything this module's docstring lists, of a batch of one clip, below the folder `samples`.

    write_picture: writes the one file to send around, of (path, reference, recon).
    """
    name = sample_name(reference.ids[0])
    folder = samples / name
    top = loudest(reference)
    with disk_errors(samples, "run the same command again: what is finished stands"):
        folder.mkdir(parents=True, exist_ok=True)
        for side, clip in (("reference", reference), ("recon", recon)):
            _write_side(folder / side, clip, reference, top)
        temporary = samples / f".{name}.mp4"
        write_picture(temporary, reference, recon)
        temporary.replace(samples / f"{name}.mp4")  # last: a sample that is there is complete


def _write_side(path: Path, clip: ClipBatch, reference: ClipBatch, top: float) -> None:
    """path.mp4 and .jpg of the picture, path.flac and .png of the sound, of a batch of one clip."""
    import soundfile
    from PIL import Image

    if clip.video is not None:
        from avbench.data.media import write_mp4  # PyAV: a training imports this module too, on machines without it

        video = clip.video[0]
        write_mp4(path.with_suffix(".mp4"), video, reference.fps, None, reference.sample_rate)
        middle = (video[len(video) // 2].clamp(0, 1).cpu() * 255).round().byte().permute(1, 2, 0).contiguous()
        Image.fromarray(middle.numpy()).save(path.with_suffix(".jpg"), quality=90)
    if clip.audio is not None:
        sound = clip.audio[0][:1].float().cpu().clamp(-1, 1)
        flac = io.BytesIO()  # libsndfile says "System error." where a disk is full
        soundfile.write(flac, sound[0].numpy(), reference.sample_rate, format="FLAC", subtype="PCM_16")
        path.with_suffix(".flac").write_bytes(flac.getvalue())
        write_spectrogram(path.with_suffix(".png"), sound, reference.sample_rate, top)


def write_pair(path: Path, reference: ClipBatch, recon: ClipBatch) -> None:
    """Reference and reconstruction side by side, the reference in the left ear."""
    from avbench.data.media import write_mp4

    assert reference.video is not None
    assert reference.audio is not None
    video, audio = reference.video[0].cpu(), reference.audio[0].cpu()
    other_video = torch.zeros_like(video) if recon.video is None else recon.video[0].cpu()
    other_audio = torch.zeros_like(audio) if recon.audio is None else recon.audio[0].cpu()
    frames = F.interpolate(torch.cat([video, other_video], dim=3), scale_factor=SCALE, mode="nearest")
    write_mp4(path, frames, reference.fps, torch.cat([audio[:1], other_audio[:1]]), reference.sample_rate)


def write_spectrogram(path: Path, sound: Tensor, sample_rate: int, top: float) -> None:
    """Mel spectrogram of `sound` (1, N): one pixel a frame and a band, low bands at the bottom, colours from `top` dB to 80 dB below."""
    from PIL import Image

    Image.fromarray(spectrogram(sound, sample_rate, top)).quantize(128).save(path, optimize=True)


def spectrogram(sound: Tensor, sample_rate: int, top: float) -> np.ndarray:
    """The picture that `write_spectrogram` writes: uint8 (MEL_BANDS, frames, 3)."""
    from matplotlib import colormaps

    level = ((_mel_db(sound, sample_rate) - top) / RANGE_DB + 1).clamp(0, 1)
    pixels: np.ndarray = colormaps["magma"](level.flip(0).numpy(), bytes=True)[..., :3]
    return pixels.copy()


def loudest(reference: ClipBatch) -> float:
    """The loudest point of the first clip's mel spectrogram, in dB."""
    assert reference.audio is not None
    return float(_mel_db(reference.audio[0][:1], reference.sample_rate).max())


def _mel_db(sound: Tensor, sample_rate: int) -> Tensor:
    """(1, N) -> (MEL_BANDS, frames) in dB."""
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(sample_rate=sample_rate, n_fft=1024, hop_length=256, n_mels=MEL_BANDS)(sound.float().cpu())[0]
    return 10 * torch.log10(mel.clamp(min=1e-10))
