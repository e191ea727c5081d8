"""Features of the training clips that class agreement and the memorisation check know, and the classifier fitted to them.

Both come with avbench, so that a first run has neither to emulate 2,020 clips nor to look at them for 20 minutes of a core. A file's name
says what it was made of: training clips, networks and the way of fitting. Where any of them is another here, the file does not fit, and
what it holds is made on the spot and kept in the cache. `python leaderboards/make/heads.py` writes the files. N clips, D numbers a clip.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avbench.artifact import read_file, write_file
from avbench.errors import AvbenchError
from avbench.files import regular
from avbench.metric import MetricOptions
from avbench.metrics.features import training_clips
from avbench.metrics.features.frozen import KEYS, MODALITIES, Frozen

SHIPPED = Path(__file__).parent / "arcade-train"
MAX_FILE_BYTES = 16 << 20  # it has 7.4 MB


def inputs() -> str:
    """12 hex digits over the training clips and the networks: what features, and whatever is fitted to them, follow from."""
    return hashlib.sha256(json.dumps([training_clips.identity(), KEYS]).encode()).hexdigest()[:12]


def of(modality: str, options: MetricOptions) -> np.ndarray:
    """(N, D) float32 of the training clips in their order, "video" or "audio": what came with avbench, else made here, resumably.

    Raises MetricUnavailable without the networks' weights, AvbenchError where training clips cannot be prepared or read, or where the
    file that came with avbench is damaged.
    """
    file = shipped_file()
    if file.exists():
        return read(file)[modality].numpy()
    return Frozen(modality, options).of_split(training_clips.load())


def shipped_file() -> Path:
    """Where the features that fit this version would lie."""
    return SHIPPED / f"features-{inputs()}.safetensors"


def write(file: Path, features: dict[str, Tensor]) -> None:
    """Both modalities' features, with a digest of all."""
    write_file(file, features, {"sha256": _digest(features)}, key="facts")


def read(file: Path) -> dict[str, Tensor]:
    """What `write` wrote, to the bit. Raises AvbenchError where the file is damaged or of another kind."""
    try:
        if regular(file).stat().st_size > MAX_FILE_BYTES:
            raise ValueError("it is too large")
        facts, arrays = read_file(file, key="facts")
        if facts["sha256"] != _digest(arrays) or set(arrays) != set(MODALITIES):
            raise ValueError("it is not what was written")
        return arrays
    except (AvbenchError, ValueError, KeyError, TypeError) as error:
        raise AvbenchError(f"{file} holds no features of training clips: {error}; install avbench again, or remove the file") from error


def _digest(features: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for modality in sorted(features):
        array = features[modality].to(torch.float32).numpy()
        digest.update(json.dumps([modality, array.shape]).encode() + array.tobytes())
    return digest.hexdigest()
