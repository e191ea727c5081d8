"""The feature networks that a training looks through, in one half-precision file: half the bytes, for a machine that is lent for minutes.

Of VGG16 (LPIPS), I3D (up to the block that AVTok's teacher reads) and aisfx. Matrices and kernels are float16, vectors float32; LPIPS
changes by under 0.01 %. Metrics never read it: their numbers are those of the pinned originals.

    write(path)             makes the file from the originals; its bytes are the same on every machine
    arrays("vgg16")         what the file named by AVBENCH_HALF_WEIGHTS holds, its sha256 checked; None where the variable is not set
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.files import atomic
from avbench.weights.load import load_safetensors, sha256_of

VARIABLE = "AVBENCH_HALF_WEIGHTS"
SHA256 = "b14ba0f4beb31d2a64db3fdd31b515beb4e852dbc9808537b93f6e1680ecd7f7"
BETWEEN = "|"  # of a nested name; "/" is part of some


def write(path: Path, networks: dict[str, dict[str, Any]]) -> None:
    """networks: name -> nested dict of arrays or tensors. Raises AvbenchError where the file is not the one that is pinned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write(save({name: _stored(value) for name, value in sorted(_flat(networks).items())}))
    if sha256_of(path) != SHA256:
        raise AvbenchError(f"{path} has sha256 {sha256_of(path)}, expected {SHA256}: a network or the format changed; pin the new one")


def arrays(name: str) -> dict[str, Any] | None:
    """Network `name` as nested dicts of float32 NumPy arrays. Raises AvbenchError where the file is another one than `write` makes."""
    file = os.environ.get(VARIABLE)
    return None if not file else _read(Path(file))[name]


@lru_cache(maxsize=1)
def _read(file: Path) -> dict[str, Any]:
    if not file.is_file() or sha256_of(file) != SHA256:
        raise AvbenchError(f"{file} is not there, or not the file of sha256 {SHA256[:12]}...; make it anew, or unset {VARIABLE}")
    nested: dict[str, Any] = {}
    for name, tensor in load_safetensors(file).items():
        *parents, last = name.split(BETWEEN)
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = tensor.float().numpy()
    return nested


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    parts = (_flat(inner, f"{name}{BETWEEN}{key}" if name else str(key)) for key, inner in value.items())
    return {key: inner for part in parts for key, inner in part.items()}


def _stored(value: np.ndarray | Tensor) -> Tensor:
    tensor = torch.as_tensor(value)
    return (tensor.half() if tensor.ndim > 1 else tensor.float()).contiguous()
