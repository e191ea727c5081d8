"""A checkpoint is a folder: `manifest.json` (config, provenance, shards with their sha256) and safetensors shards of at most 15 MB."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.checkpoint_folder import FORMAT, read_manifest, read_shards, write_folder


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded model, how it came to be (`provenance`, as saved), and the sha256 over its shards' sha256."""

    model: AVTokModel
    provenance: dict[str, Any]
    revision: str


def save_checkpoint(folder: Path, model: AVTokModel, provenance: dict[str, Any]) -> None:
    """Write `model` and how it was trained (JSON values) to `folder`; the manifest comes last, so a killed write leaves none."""
    write_folder(folder, {"format": FORMAT, "config": model.config.to_dict(), "provenance": provenance}, model.state_dict())


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of `folder`, in eval mode. Raises AvbenchError for a missing, damaged or foreign checkpoint before it computes anything."""
    manifest = read_manifest(folder, model=None)
    config = AVTokConfig.from_dict(manifest["config"])
    state = read_shards(folder, manifest["shards"])
    with torch.device("meta"):
        model = AVTokModel(config)
    check_fit(str(folder), {name: tensor.shape for name, tensor in model.state_dict().items()}, state)
    model.load_state_dict(state, assign=True)
    revision = hashlib.sha256("".join(shard["sha256"] for shard in manifest["shards"]).encode()).hexdigest()[:16]
    return Checkpoint(model=model.eval().requires_grad_(False).to(device), provenance=manifest["provenance"], revision=revision)


def check_fit(where: str, expected: Mapping[str, torch.Size], state: Mapping[str, Tensor]) -> None:
    """Raise AvbenchError that names the tensors which `state` lacks, has beyond `expected`, or has in another shape."""
    missing, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    misshaped = sorted(name for name in set(expected) & set(state) if expected[name] != state[name].shape)
    for what, names in (("lacks", missing), ("has unknown", unknown), ("has mis-shaped", misshaped)):
        if names:
            raise AvbenchError(f"checkpoint {where} {what} {len(names)} tensors: {', '.join(names[:3])}")
