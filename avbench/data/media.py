"""Video files: `read_clip` decodes the middle of one (see avbench.data.decode), `write_mp4` makes one that browsers play."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor
from torch.nn import functional as F

from avbench.data import convert
from avbench.data.decode import MediaError, read_clip

__all__ = ["MediaError", "read_clip", "write_mp4"]

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
AAC_FRAME = 1024


def write_mp4(path: Path, video: Tensor, fps: float, audio: Tensor | None, sample_rate: int) -> None:
    """H.264 (4:2:0, CRF 16) and AAC in MP4. Odd sizes grow by a row or column, AAC-less sample rates become 48 kHz.

    video: (T, 3, H, W) float in [0, 1]; audio: (C, N) float in [-1, 1], C 1 or 2, or None.
    """
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        rate = Fraction(fps).limit_denominator(100_000)
        pictures = container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "veryfast"})
        pixels = _even(video)
        pictures.height, pictures.width, pictures.pix_fmt = pixels.shape[1], pixels.shape[2], "yuv420p"
        pictures.codec_context.thread_count = 1
        sound = None
        if audio is not None:
            samples, new_rate = _for_aac(audio, sample_rate)
            sound = container.add_stream("aac", rate=new_rate, layout="mono" if len(samples) == 1 else "stereo")
        for picture in pixels:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(pictures.encode(None))
        if sound is not None:
            _write_sound(container, sound, samples, new_rate)


def _even(video: Tensor) -> np.ndarray:
    """(T, 3, H, W) in [0, 1] -> uint8 (T, H', W', 3) with even H', W'; the last row or column is repeated."""
    height, width = video.shape[-2:]
    padded = F.pad(video.detach().float().cpu(), (0, width % 2, 0, height % 2), mode="replicate")
    return (padded.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def _for_aac(audio: Tensor, sample_rate: int) -> tuple[np.ndarray, int]:
    """float32 (C, N) and its rate, one that AAC knows."""
    samples = audio.detach().float().cpu().clamp(-1, 1).numpy()
    if sample_rate in AAC_RATES:
        return samples, sample_rate
    return np.stack([convert.resample(channel, sample_rate, 48_000) for channel in samples]), 48_000


def _write_sound(container: av.container.OutputContainer, stream: av.AudioStream, samples: np.ndarray, rate: int) -> None:
    for start in range(0, samples.shape[1], AAC_FRAME):
        piece = np.ascontiguousarray(samples[:, start : start + AAC_FRAME])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=stream.codec_context.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
