"""Frozen teachers of the representation loss: a grid of features for each stream.

The paper's teacher is CAV-MAE Sync, whose file pip cannot deliver: `load_teacher` gives it where the file is. The stand-in is I3D (video)
and aisfx (audio) with the pip-delivered weights of `avbench.weights`. The teacher's name goes into the manifest. Projectors are made for
one teacher's dims, so a recipe asks `teacher_dims` and the trainer gives `load_teacher` the config's. A trained tokenizer needs neither.
B clips, F features, (t, h, w) the stream's patch grid.
"""

from typing import Any, Protocol

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from avbench import weights
from avbench.errors import AvbenchError
from avbench.nn import mel
from avbench.nn.patches import unit_range
from avbench.nn.pretrained import aisfx, i3d, lpips
from avbench.tokenizers.avtok import cav_mae_sync, cav_mae_teacher

STAND_IN = "i3d-k400 mixed_4f + aisfx conv_block4 (stand-in for CAV-MAE Sync)"
STAND_IN_DIMS = {"video": 832, "audio": 512}
CAV_MAE_WEIGHTS = "cav-mae-sync"
CAV_MAE = "CAV-MAE Sync (cav_mae_sync.pth), joint block"
CAV_MAE_DIMS = cav_mae_teacher.DIMS
DIMS = {STAND_IN: STAND_IN_DIMS, CAV_MAE: CAV_MAE_DIMS}
LAST_MIXED = "4f"
# aisfx's 96 bands are even on HTK's mel scale up to 22,050 Hz; AVTok's mel ends at 8707 Hz.
BANDS = round(96 * 2.594 / 3.481)


class Teacher(Protocol):
    """name: for the manifest. dims: stream -> F."""

    name: str
    dims: dict[str, int]

    def features(self, stream: str, clips: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Video (B, T, 3, H, W), uint8 or in [0, 1], or waveforms (B, N) at 24 kHz -> (B, t*h*w, F) float32, no gradient.

        Queues work on the device and waits for none of it.
        """
        ...


class StandInTeacher:
    """I3D's Mixed_4f (832 features, one a 4 x 16 x 16 box of a 16 x 128 x 128 clip) and aisfx's last block (512)."""

    name = STAND_IN
    dims = STAND_IN_DIMS

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Raises WeightsUnavailable where a file cannot be had."""
        self.device = torch.device(device)
        self.video = i3d.load_trunk(self.device, LAST_MIXED)
        self.audio = aisfx.load_for_training(self.device)
        self.bands = aisfx.mel_weights()[:, :BANDS].to(self.device)
        self.window = torch.hann_window(aisfx.FRAME, periodic=False, device=self.device)
        # The function makes its kernel anew at every call, and waits for the device.
        self.resample = torchaudio.transforms.Resample(mel.SAMPLE_RATE, aisfx.SAMPLE_RATE).to(self.device)

    @torch.inference_mode()
    def features(self, stream: str, clips: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """See `Teacher`."""
        maps = self._video(clips) if stream == "video" else self._audio(clips)
        return resample_grid(maps, grid)

    def _video(self, clips_BTCHW: Tensor) -> Tensor:
        """(B, 832, T/4, H/16, W/16), at the clips' own size: no upsampling to 224, a third of the work."""
        x = (2 * unit_range(clips_BTCHW.to(self.device)) - 1).transpose(1, 2).contiguous(memory_format=i3d.LAYOUT)
        return self.video.feature_map(x)

    def _audio(self, clips_BN: Tensor) -> Tensor:
        """(B, 512, 1, bands / 8, frames / 8) of the bands that AVTok's mel covers."""
        x = self._log_mel(self.resample(clips_BN.to(self.device).float()))[:, None]
        net = self.audio
        for block in (net.conv_block1, net.conv_block2, net.conv_block3, net.conv_block4):
            x = block(x)
        return x.transpose(2, 3).unsqueeze(2)

    def _log_mel(self, audio_BN: Tensor) -> Tensor:
        """`aisfx.log_mel`'s first BANDS bands. That one copies its table to the device each time, and a training step would wait for it."""
        num_frames = (audio_BN.shape[-1] - 1) // aisfx.HOP + 2
        end = (num_frames - 1) * aisfx.HOP + aisfx.FRAME // 2 - audio_BN.shape[-1]
        frames = F.pad(audio_BN, (aisfx.FRAME // 2, end)).unfold(-1, aisfx.FRAME, aisfx.HOP)
        power = torch.fft.rfft(frames * self.window).abs().square()
        return torch.log10(1 + 1e4 * power @ self.bands) / aisfx.LOG_MEL_MAX


def resample_grid(maps_BFTHW: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """(B, F, t', h', w') -> (B, t*h*w, F): trilinear where the grids differ, as it is where they agree."""
    if maps_BFTHW.shape[2:] != grid:
        maps_BFTHW = F.interpolate(maps_BFTHW, size=grid, mode="trilinear", align_corners=False)
    return maps_BFTHW.flatten(2).transpose(1, 2).float()


def teacher_dims() -> dict[str, int]:
    """Stream -> F of the teacher that this machine has: CAV-MAE Sync's where its file is, else the stand-in's. Reads nothing."""
    try:
        weights.path(CAV_MAE_WEIGHTS, fetch=False)
    except weights.WeightsUnavailable:
        return dict(STAND_IN_DIMS)
    return dict(CAV_MAE_DIMS)


def load_teacher(dims: dict[str, int], device: torch.device | str = "cpu") -> Teacher:
    """The teacher of these `dims`. Raises WeightsUnavailable where its file cannot be had, AvbenchError where no teacher has such dims."""
    name = teacher_name(dims)
    if name is None:
        raise AvbenchError(f"no teacher has features of {dims}; the stand-in has {STAND_IN_DIMS}, CAV-MAE Sync {CAV_MAE_DIMS}")
    if name == STAND_IN:
        return StandInTeacher(device)
    return cav_mae_teacher.CavMaeTeacher(cav_mae_sync.load(weights.path(CAV_MAE_WEIGHTS)), name, device)


def half_networks() -> dict[str, dict[str, Any]]:
    """What a training with the stand-in teacher and LPIPS looks through, for `weights.half.write`."""
    convolutions = lpips.convolutions("vgg")
    return {"vgg16": convolutions, i3d.WEIGHTS: i3d.trunk_variables(LAST_MIXED), aisfx.WEIGHTS: dict(aisfx.state())}


def teacher_name(dims: dict[str, int]) -> str | None:
    """Which teacher has these dims, for a manifest; None where none of ours has. Needs no file."""
    return next((name for name, known in DIMS.items() if known == dims), None)
