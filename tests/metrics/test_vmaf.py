"""VMAF: libvmaf's known numbers for exact copies, another call of it, and what happens where it cannot run.

Skipped without the extra `vmaf`, which brings 170 MB of FFmpeg.
"""

import subprocess
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench import ffmpeg
from avbench.errors import AvbenchError
from avbench.metric import MetricUnavailable
from avbench.metrics import vmaf as module
from avbench.metrics.vmaf import MODELS, Vmaf, VmafNeg, luma, vmaf
from avbench.run.check import synthetic_clips
from avbench.types import ClipBatch, Tokens

pytest.importorskip("imageio_ffmpeg", reason="the extra vmaf is not installed: pip install 'avbench[vmaf]'")
TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=1.0)


def clips(strength: float = 0.0, frames: int = 4) -> torch.Tensor:
    """(2, frames, 3, 128, 128) with motion, and noise of that strength."""
    video = synthetic_clips().video
    assert video is not None
    video = video[:2, :frames]
    return (video + strength * torch.randn(video.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def test_an_exact_copy_has_libvmafs_own_numbers() -> None:
    """97.43 where nothing moves, as in every first frame; 100 where much does."""
    still = clips()[:, :1].expand(-1, 3, -1, -1, -1)
    assert vmaf(still, still).tolist() == pytest.approx([97.428, 97.428], abs=0.005)
    moving = vmaf(clips(), clips())
    assert ((moving > 97.4) & (moving <= 100)).all()
    black = torch.zeros(1, 2, 3, 64, 64)
    assert vmaf(black, black).item() == pytest.approx(97.428, abs=0.005)


@pytest.mark.parametrize("model", MODELS.values())
def test_it_agrees_with_another_call_of_libvmaf(model: str, tmp_path: Path) -> None:
    """Files of another kind (YUV4MPEG, subsampled), the whole clip's mean as libvmaf pools it, in its other log."""
    reference, recon = clips()[0], clips(0.1)[0]
    for name, clip in {"a.y4m": reference, "b.y4m": recon}.items():
        chroma = b"\x80" * (2 * 64 * 64)
        frames = b"".join(b"FRAME\n" + frame.tobytes() + chroma for frame in luma(clip))
        (tmp_path / name).write_bytes(b"YUV4MPEG2 W128 H128 F25:1 Ip A1:1 C420jpeg\n" + frames)
    graph = f"[0:v][1:v]libvmaf=model=version={model}:pool=mean:log_path=log.xml"
    command = [ffmpeg.program(), "-v", "error", "-i", "b.y4m", "-i", "a.y4m", "-lavfi", graph, "-f", "null", "-"]
    subprocess.run(command, cwd=tmp_path, check=True, stdin=subprocess.DEVNULL)
    pooled = xml.etree.ElementTree.parse(tmp_path / "log.xml").find("pooled_metrics/metric[@name='vmaf']")
    assert pooled is not None
    assert vmaf(reference[None], recon[None], model).item() == pytest.approx(float(pooled.attrib["mean"]), abs=1e-4)


def test_luma_is_bt709s_and_black_and_white_are_16_and_235() -> None:
    colours = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float32)
    assert luma(colours.view(5, 3, 1, 1)).flatten().tolist() == [16, 235, 63, 173, 32]


def test_more_noise_is_worse_and_neg_does_not_reward_contrast() -> None:
    values = [vmaf(clips(), clips(strength)).mean().item() for strength in (0.0, 0.05, 0.1, 0.2)]
    assert values == sorted(values, reverse=True)
    stretched = (0.5 + 1.15 * (0.8 * clips() - 0.4)).clamp(0, 1)
    dull = (0.8 * clips() + 0.1).clamp(0, 1)
    gain = [vmaf(dull, stretched, model).mean().item() for model in MODELS.values()]
    assert gain[1] < gain[0]


def test_the_value_of_two_clips_is_their_mean_and_neither_depends_on_the_other() -> None:
    reference, recon = (ClipBatch(video=video, fps=4.0, sample_rate=24_000) for video in (clips(), clips(0.1)))
    rows = Vmaf().update(reference, recon, TOKENS)
    assert torch.equal(rows[1:], vmaf(clips()[1:], clips(0.1)[1:]))
    assert Vmaf().compute(rows.numpy()) == pytest.approx(rows.mean().item())
    assert not torch.equal(VmafNeg().update(reference, recon, TOKENS), rows)


def test_small_frames_never_reach_libvmaf_which_they_kill() -> None:
    small = torch.zeros(1, 2, 3, 31, 64)
    with pytest.raises(ValueError, match="32 pixels a side"):
        vmaf(small, small)
    with pytest.raises(AvbenchError, match="ended with status"):
        module._frames(np.zeros((2, 16, 16), np.uint8), np.zeros((2, 16, 16), np.uint8), MODELS["vmaf"])


def test_a_log_of_nonsense_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text('{"frames": [{"metrics": {}}]}')
    with pytest.raises(AvbenchError, match="without scores"):
        module._scores(tmp_path / "log.json", 1)
    (tmp_path / "log.json").write_text('{"frames": []}')
    with pytest.raises(AvbenchError, match="0 frames of 1"):
        module._scores(tmp_path / "log.json", 1)


def test_an_ffmpeg_without_libvmaf_is_told_before_any_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/true")
    module.version.cache_clear()
    try:
        with pytest.raises(MetricUnavailable, match="built without libvmaf"):
            Vmaf()
    finally:
        module.version.cache_clear()
