"""Codecs with weights that follow from their keys, and a sound for them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from keyed_weights import keyed_tensor
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"
GAINS = {"encodec": 1.0, "dac": 0.7, "snac": 0.7}
NUM_SAMPLES = 12_000  # half a second, 37.5 frames of EnCodec and DAC


def codec_state(shapes: Mapping[str, Sequence[int]], gain: float) -> dict[str, Tensor]:
    """Key -> shape to key -> tensor, under which a codec neither silences nor saturates; `gain` of each weight-normalised layer."""
    return {key: _tensor(key, tuple(shape), gain) for key, shape in shapes.items()}


def _tensor(key: str, shape: tuple[int, ...], gain: float) -> Tensor:
    older = key.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v")
    drawn = keyed_tensor(older, shape)
    if older.endswith("weight_g"):
        return gain * drawn
    if key.endswith("alpha"):  # Snake's frequency
        return 1 + drawn
    return 0.2 * drawn if key.endswith("bias") else drawn


def golden(name: str) -> dict[str, Any]:
    """What tests/golden/make_codecs.py wrote of the codec `name`."""
    return json.loads((GOLDEN / f"{name}.json").read_text())  # type: ignore[no-any-return]


def sound(num_samples: int) -> Tensor:
    """(1, 1, N) at 24 kHz: a chord under noise that comes and goes, a tenth of full scale."""
    time = torch.arange(num_samples, dtype=torch.float64) / 24_000
    tones = torch.stack([torch.sin(6.283185307179586 * pitch * time) for pitch in (220.0, 554.4, 1318.5)]).sum(0)
    noise = torch.randn(num_samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    swell = torch.sin(6.283185307179586 * 5 * time) ** 2
    return (0.05 * (1 - swell) * tones + 0.2 * swell * noise).float()[None, None]


def stereo() -> Tensor:
    """(1, 2, 60,000) at 48 kHz, 1.25 s: the sound and, on the right, a quieter one of its beginning turned round."""
    left = sound(60_000)
    return torch.cat([left, 0.4 * left.flip(2)], dim=1)
