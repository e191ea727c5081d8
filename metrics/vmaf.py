"""VMAF of video clips: Netflix's fusion of picture metrics by a model of viewers' opinions (Li et al. 2016), through FFmpeg's libvmaf.

Each pair of clips goes, as raw luma that nothing converts on the way, to a process of its own with limits on time, memory and files, for
libvmaf crashes on small frames. The model was fitted to films of 1080 lines on a television three heights away; smaller frames are judged
as a window of that size in such a picture. An exact copy has 97.43 in frames without motion, and up to 100 elsewhere; the first frame of
a clip counts as without motion. `vmaf_neg` has limits on what a sharpening or contrast filter may gain.
"""

import json
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avbench import ffmpeg
from avbench.errors import AvbenchError
from avbench.files import read_bytes
from avbench.metric import MetricInfo, MetricUnavailable, PerClipMetric
from avbench.metrics.psnr import check_same_shape, clip_videos
from avbench.types import ClipBatch, Tokens

MODELS = {"vmaf": "vmaf_v0.6.1", "vmaf_neg": "vmaf_v0.6.1neg"}
MIN_SIDE = 32  # libvmaf 3 is killed by its own memory access at 16
LUMA = (0.2126, 0.7152, 0.0722)  # BT.709
GREY = 128  # chroma, which these models do not look at
SECONDS, SECONDS_A_FRAME = 60, 5  # before a process is ended


def vmaf(reference: Tensor, recon: Tensor, model: str = MODELS["vmaf"]) -> Tensor:
    """VMAF (B,) in [0, 100], float64, mean over frames, of clips (B, T, 3, H, W) in [0, 1], at least 32 pixels a side.

    Raises ValueError for smaller frames, MetricUnavailable without FFmpeg, AvbenchError where its process fails.
    """
    check_same_shape(reference, recon)
    if min(reference.shape[-2:]) < MIN_SIDE:
        raise ValueError(f"VMAF needs frames of {MIN_SIDE} pixels a side; these have {tuple(reference.shape[-2:])}")
    values = [np.mean(_frames(luma(a), luma(b), model)) for a, b in zip(reference, recon, strict=True)]
    return torch.tensor(values, dtype=torch.float64)


def luma(clip: Tensor) -> np.ndarray:
    """BT.709's Y in 16-235, uint8 (T, H, W), of a clip (T, 3, H, W) in [0, 1]."""
    weights = torch.tensor(LUMA, dtype=torch.float64).view(3, 1, 1)
    y = (clip.cpu().double() * weights).sum(dim=1)
    return np.asarray((16 + 219 * y).round().to(torch.uint8).numpy())


def _frames(reference: np.ndarray, recon: np.ndarray, model: str) -> list[float]:
    """VMAF of each frame of uint8 luma (T, H, W)."""
    with tempfile.TemporaryDirectory(prefix="avbench-vmaf-") as name:
        folder = Path(name)
        for file, clip in {"recon.yuv": recon, "reference.yuv": reference}.items():
            frames = clip.reshape(len(clip), -1)
            chroma = np.full((len(clip), 2 * frames.shape[1]), GREY, dtype=np.uint8)
            (folder / file).write_bytes(np.concatenate([frames, chroma], axis=1).tobytes())
        size = f"{reference.shape[2]}x{reference.shape[1]}"
        raw = ["-f", "rawvideo", "-pixel_format", "yuv444p", "-video_size", size, "-framerate", "25", "-i"]
        graph = f"[0:v][1:v]libvmaf=model=version={model}:log_fmt=json:log_path=log.json:n_threads=1"
        arguments = [*raw, "recon.yuv", *raw, "reference.yuv", "-filter_complex", graph, "-f", "null", "-"]
        ffmpeg.run(arguments, folder=folder, seconds=SECONDS + SECONDS_A_FRAME * len(reference))
        return _scores(folder / "log.json", len(reference))


def _scores(log: Path, num_frames: int) -> list[float]:
    """The VMAF of each frame. Raises AvbenchError for a log that tells of another number of frames."""
    try:
        scores = [float(frame["metrics"]["vmaf"]) for frame in json.loads(read_bytes(log, ffmpeg.MAX_FILE))["frames"]]
    except (ValueError, KeyError, TypeError) as error:
        raise AvbenchError(f"FFmpeg's libvmaf wrote a log without scores: {error}") from error
    if len(scores) != num_frames:
        raise AvbenchError(f"FFmpeg's libvmaf measured {len(scores)} frames of {num_frames}")
    return scores


@lru_cache(maxsize=1)
def version() -> str:
    """Of an FFmpeg that has libvmaf. Raises MetricUnavailable where there is none."""
    if not ffmpeg.is_here():
        raise MetricUnavailable("the package imageio-ffmpeg is not installed; run `pip install 'avbench[vmaf]'`")
    try:
        told = ffmpeg.run(["-h", "filter=libvmaf"], seconds=SECONDS)
    except AvbenchError as error:
        raise MetricUnavailable(f"{error}; run `pip install 'avbench[vmaf]'`") from error
    if b"libvmaf AVOptions" not in told:
        raise MetricUnavailable(
            f"{ffmpeg.program()} was built without libvmaf; unset IMAGEIO_FFMPEG_EXE, or run `pip install 'avbench[vmaf]'`"
        )
    return ffmpeg.version()


def _info(name: str) -> MetricInfo:
    return MetricInfo(
        name=name,
        unit="",
        higher_is_better=True,
        needs=frozenset({"video"}),
        per_clip=True,
        default=False,
        sets=frozenset({"perceptual"}),
        extra="vmaf",
        protocol=f"libvmaf of FFmpeg (imageio-ffmpeg), model {MODELS[name]} (made for 1080 lines seen from 3 heights), no resize; luma "
        "BT.709 16-235, 8 bits, raw; mean over frames, clips",
    )


class Vmaf(PerClipMetric):
    """Viewers' opinion as Netflix predicts it, 0 to 100 (made for 1080p)."""

    info = _info("vmaf")

    def __init__(self) -> None:
        """Raises MetricUnavailable without FFmpeg."""
        self.info = replace(self.info, protocol=f"{self.info.protocol}; FFmpeg {version()}")

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return vmaf(*clip_videos(reference, recon), MODELS[self.info.name])


class VmafNeg(Vmaf):
    """VMAF without what sharpening and contrast would gain (NEG)."""

    info = _info("vmaf_neg")
