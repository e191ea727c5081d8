"""Writes imagebind.json with the authors' code: python tests/golden/make_imagebind.py IMAGEBIND PYTORCHVIDEO

Two folders: an unpacked imagebind-unofficial 0.1.1 (the authors' code with changed imports), and pytorchvideo at the commit that the
authors' requirements name, 28fe037d (its release 0.1.5 spreads spans otherwise: the last one does not reach the clip's end); needs timm,
iopath, ftfy, einops. Keys and shapes of a small model, weights that follow from the keys (tests/helpers/keyed_weights.py), and embeddings
of a clip that the authors' own pre-processing made, in a square and in a wide form.
"""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor

HERE = Path(__file__).parent
sys.path[:0] = [sys.argv[1], sys.argv[2], str(HERE.parent / "helpers")]
package = ModuleType("imagebind")  # its __init__ imports data before the way is paved
package.__path__ = [f"{sys.argv[1]}/imagebind"]
sys.modules["imagebind"] = package
for gone in ("torchvision.transforms.functional_tensor", "torchvision.transforms._functional_video", "pkg_resources", "fvcore", "decord"):
    sys.modules.setdefault(gone, MagicMock())
for gone in ("fvcore.nn", "fvcore.nn.squeeze_excitation", "pytorchvideo.data.encoded_video"):
    sys.modules.setdefault(gone, MagicMock())

from clip_with_sound import chord, moving_colours  # noqa: E402
from imagebind import data  # noqa: E402
from imagebind.models.imagebind_model import ImageBindModel  # noqa: E402
from keyed_weights import keyed_state  # noqa: E402
from pytorchvideo.data.clip_sampling import ConstantClipsPerVideoSampler  # noqa: E402
from pytorchvideo.transforms.functional import short_side_scale, uniform_temporal_subsample  # noqa: E402

SMALL = {"vision_embed_dim": 24, "vision_num_blocks": 2, "vision_num_heads": 3, "audio_embed_dim": 16, "audio_num_blocks": 2}
SMALL |= {"audio_num_heads": 2, "out_embed_dim": 12, "text_embed_dim": 8, "text_num_blocks": 1, "text_num_heads": 1}
SMALL |= {"depth_embed_dim": 8, "depth_num_blocks": 1, "thermal_embed_dim": 8, "thermal_num_blocks": 1, "thermal_num_heads": 1}
SMALL |= {"imu_embed_dim": 8, "imu_num_blocks": 1}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def video_input(frames_CTHW: Tensor, fps: float) -> Tensor:
    """The authors' load_and_transform_video_data without its decoder."""
    num_frames = frames_CTHW.shape[1]
    sampler = ConstantClipsPerVideoSampler(clip_duration=2, clips_per_video=5)
    spans = []
    for start, end in data.get_clip_timepoints(sampler, num_frames / fps):
        first, last = -int(-fps * start // 1), min(-int(-fps * end // 1), num_frames)
        picked = uniform_temporal_subsample(frames_CTHW[:, first:last], 2)
        spans.append(data.NormalizeVideo(MEAN, STD)(short_side_scale(picked, 224)))
    return torch.stack(data.SpatialCrop(224, num_crops=3)(spans))[None]


def audio_input(samples_1N: Tensor) -> Tensor:
    """The authors' load_and_transform_audio_data without its file reader."""
    sampler = ConstantClipsPerVideoSampler(clip_duration=2, clips_per_video=3)
    banks = []
    for start, end in data.get_clip_timepoints(sampler, samples_1N.shape[1] / 16_000):
        span = samples_1N[:, int(start * 16_000) : int(end * 16_000)].clone()
        banks.append((data.waveform2melspec(span, 16_000, 128, 204) + 4.268) / 9.138)
    return torch.stack(banks)[None]


def main() -> None:
    """Sound of 4.096 s already at 16 kHz, so that no resampler is in the way."""
    model = ImageBindModel(**SMALL).eval()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(keyed_state(shapes))
    outputs: dict[str, Any] = {}
    with torch.no_grad():
        for name, size in (("square", (128, 128)), ("wide", (96, 131))):
            video, audio = moving_colours(*size), chord(16_000)
            given = {"vision": video_input(video[0].transpose(0, 1), 3.90625), "audio": audio_input(audio[0])}
            found = model(given)
            score = torch.nn.functional.cosine_similarity(found["vision"], found["audio"])
            outputs[name] = {"vision": found["vision"][0].tolist(), "audio": found["audio"][0].tolist(), "score": float(score)}
    (HERE / "imagebind.json").write_text(json.dumps({"shapes": shapes, "outputs": outputs}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
