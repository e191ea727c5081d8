"""A checkpoint is a folder: `manifest.json` (config, provenance, shards with their sha256) and safetensors shards of at most 15 MB."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.model import AVTokModel

FORMAT = 1
MANIFEST = "manifest.json"
SHARD_BYTES = 15_000_000
MAX_MANIFEST_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded model, how it came to be (`provenance`, as saved), and the sha256 over its shards' sha256."""

    model: AVTokModel
    provenance: dict[str, Any]
    revision: str


def save_checkpoint(folder: Path, model: AVTokModel, provenance: dict[str, Any]) -> None:
    """Write `model` and how it was trained (JSON values) to `folder`; the manifest comes last, so a killed write leaves none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for stale in folder.glob("model-*.safetensors"):
        stale.unlink()
    shards = []
    for number, tensors in enumerate(_shards(model.state_dict())):
        file = folder / f"model-{number:03d}.safetensors"
        save_file(tensors, file)
        shards.append({"file": file.name, "sha256": _sha256(file), "bytes": file.stat().st_size})
    manifest = {"format": FORMAT, "config": model.config.to_dict(), "shards": shards, "provenance": provenance}
    scratch = folder / f".{MANIFEST}"
    scratch.write_text(json.dumps(manifest, indent=1) + "\n")
    scratch.replace(folder / MANIFEST)


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of `folder`, in eval mode. Raises AvbenchError for a missing, damaged or foreign checkpoint before it computes anything."""
    manifest = read_manifest(folder)
    config = AVTokConfig.from_dict(manifest["config"])
    state: dict[str, Tensor] = {}
    for shard in manifest["shards"]:
        state |= load_file(_verified(folder, shard))
    with torch.device("meta"):
        model = AVTokModel(config)
    check_fit(str(folder), {name: tensor.shape for name, tensor in model.state_dict().items()}, state)
    model.load_state_dict(state, assign=True)
    revision = hashlib.sha256("".join(shard["sha256"] for shard in manifest["shards"]).encode()).hexdigest()[:16]
    return Checkpoint(model=model.eval().requires_grad_(False).to(device), provenance=manifest["provenance"], revision=revision)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest's JSON. Raises AvbenchError where it is absent or not one of ours."""
    file = folder / MANIFEST
    if not file.is_file():
        raise AvbenchError(f"{folder} has no {MANIFEST}: not an AVTok checkpoint, or its saving was cut off")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise AvbenchError(f"{file} is too large for a manifest ({file.stat().st_size:,} bytes)")
    try:
        manifest = json.loads(file.read_text())
    except ValueError as error:
        raise AvbenchError(f"{file} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not {"config", "shards", "provenance"} <= set(manifest):
        raise AvbenchError(f"{file} is not an AVTok manifest of format {FORMAT}")
    return manifest


def trained_on(provenance: Mapping[str, Any]) -> str:
    """For `TokenizerInfo`: the split and how many of its clips a training saw, as the manifest says."""
    split, clips = provenance.get("split"), provenance.get("clips_seen")
    return f"{split}, {clips:,} clips seen" if isinstance(split, str) and isinstance(clips, int) else "not stated in its manifest"


def _shards(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The state in its order, cut where a shard would pass SHARD_BYTES."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        amount = tensor.numel() * tensor.element_size()
        if shards[-1] and size + amount > SHARD_BYTES - 100_000:  # room for the header
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach().cpu().contiguous()
        size += amount
    return shards


def _verified(folder: Path, shard: Any) -> Path:
    name = shard.get("file") if isinstance(shard, dict) else None
    if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
        raise AvbenchError(f"{folder / MANIFEST} names a shard {name!r}; shards are .safetensors files of the same folder")
    file = folder / name
    if not file.is_file():
        raise AvbenchError(f"{file} is missing; copy the whole checkpoint folder")
    if _sha256(file) != shard.get("sha256"):
        raise AvbenchError(f"{file} is damaged: its sha256 is not the manifest's; copy it again")
    return file


def check_fit(where: str, expected: Mapping[str, torch.Size], state: Mapping[str, Tensor]) -> None:
    """Raise AvbenchError that names the tensors which `state` lacks, has beyond `expected`, or has in another shape."""
    missing, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    misshaped = sorted(name for name in set(expected) & set(state) if expected[name] != state[name].shape)
    for what, names in (("lacks", missing), ("has unknown", unknown), ("has mis-shaped", misshaped)):
        if names:
            raise AvbenchError(f"checkpoint {where} {what} {len(names)} tensors: {', '.join(names[:3])}")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
