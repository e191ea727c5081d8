"""Pictures and sound of a clip: reference and reconstruction side by side as mp4, their mel spectrograms as PNG."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.data.media import write_mp4
from avbench.types import ClipBatch

SCALE = 2  # a 128-pixel frame is shown at 256


def write_sample(path: Path, reference: ClipBatch, recon: ClipBatch) -> None:
    """`path` (.mp4): reference left, reconstruction right, sound likewise (left ear: reference, right ear: reconstruction).

    A modality that the tokenizer lacks is black or silent. Beside it, with audio, the spectrograms as .png. Batches of one clip.
    """
    assert reference.video is not None
    assert reference.audio is not None
    video = reference.video[0].cpu()
    audio = reference.audio[0].cpu()
    other_video = torch.zeros_like(video) if recon.video is None else recon.video[0].cpu()
    other_audio = torch.zeros_like(audio) if recon.audio is None else recon.audio[0].cpu()
    frames = F.interpolate(torch.cat([video, other_video], dim=3), scale_factor=SCALE, mode="nearest")
    temporary = path.with_name(f".{path.name}")
    write_mp4(temporary, frames, reference.fps, torch.cat([audio[:1], other_audio[:1]]), reference.sample_rate)
    if recon.audio is not None:
        write_spectrograms(path.with_suffix(".png"), {"reference": audio, "reconstruction": other_audio}, reference.sample_rate)
    temporary.replace(path)  # last: a sample that is there is complete


def write_spectrograms(path: Path, sounds: dict[str, Tensor], sample_rate: int) -> None:
    """Mel spectrograms in dB of named sounds (C, N), one above the other on the same scale."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    pictures = {name: _mel_db(sound, sample_rate) for name, sound in sounds.items()}
    top = max(float(picture.max()) for picture in pictures.values())
    figure = Figure(figsize=(8, 2.4 * len(sounds)), layout="constrained")
    for index, (name, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(len(sounds), 1, index + 1)
        duration = sounds[name].shape[-1] / sample_rate
        image = axes.imshow(
            picture.numpy(), origin="lower", aspect="auto", vmin=top - 80, vmax=top, cmap="magma", extent=(0, duration, 0, len(picture))
        )
        axes.set(title=name, ylabel="mel band", xlabel="seconds" if index == len(sounds) - 1 else "")
        figure.colorbar(image, ax=axes, label="dB")
    figure.savefig(path, dpi=100, format="png")


def _mel_db(sound: Tensor, sample_rate: int) -> Tensor:
    from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

    mel = MelSpectrogram(sample_rate=sample_rate, n_fft=1024, hop_length=256, n_mels=80)(sound.mean(dim=0))
    decibel: Tensor = AmplitudeToDB(stype="power", top_db=80)(mel)
    return decibel
