"""A checkpoint of our own is a folder: `manifest.json` (config, provenance, shards with their sha256) and safetensors shards."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.weights.load import load_safetensors, sha256_of

FORMAT = 1
MANIFEST = "manifest.json"
SHARD_BYTES = 15_000_000
MAX_MANIFEST_BYTES = 1_000_000
MAX_SHARDS = 1000


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What a folder holds: the model's config and tensors, how it came to be, and the first digits of a sha256 over config and shards."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    provenance: dict[str, Any]
    revision: str

    @property
    def trained_on(self) -> str:
        """For `TokenizerInfo`."""
        return trained_on(self.provenance)


def trained_on(provenance: Mapping[str, Any]) -> str:
    """The split and how many of its clips a training saw, as its provenance says."""
    split, clips = provenance.get("split"), provenance.get("clips_seen")
    init = provenance.get("init")
    before = init.get("clips_seen") if isinstance(init, Mapping) else None
    if isinstance(clips, int) and isinstance(before, int):
        clips += before  # by the run whose weights it began with
    return f"{split}, {clips:,} clips seen" if isinstance(split, str) and isinstance(clips, int) else "not stated in its manifest"


def save_folder(folder: Path, *, model: str, config: dict[str, Any], state: Mapping[str, Tensor], provenance: dict[str, Any]) -> None:
    """Write a checkpoint; config and provenance are JSON values, `model` is the kind that `load_folder` asks for.

    The manifest comes last, so a killed write leaves none. Shards stay below SHARD_BYTES unless a single tensor is larger.
    """
    write_folder(folder, {"format": FORMAT, "model": model, "config": config, "provenance": provenance}, state)


def write_folder(folder: Path, manifest: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Shards of `state`, then `manifest` with their list: a killed write leaves no manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for stale in folder.glob("model-*.safetensors"):
        stale.unlink()
    shards = []
    for number, tensors in enumerate(_shards(state)):
        file = folder / f"model-{number:03d}.safetensors"
        save_file(tensors, file)
        shards.append({"file": file.name, "sha256": sha256_of(file), "bytes": file.stat().st_size})
    scratch = folder / f".{MANIFEST}"
    scratch.write_text(json.dumps({**manifest, "shards": shards}, indent=1) + "\n")
    scratch.replace(folder / MANIFEST)


def load_folder(folder: Path, *, model: str) -> Folder:
    """A checkpoint of kind `model`. Raises AvbenchError where it is missing, damaged or of another kind; the tensors are not yet judged."""
    manifest = read_manifest(folder, model)
    state = read_shards(folder, manifest["shards"])
    digest = hashlib.sha256(json.dumps(manifest["config"], sort_keys=True).encode())
    for shard in manifest["shards"]:
        digest.update(shard["sha256"].encode())
    return Folder(config=manifest["config"], state=state, provenance=manifest["provenance"], revision=digest.hexdigest()[:16])


def read_shards(folder: Path, shards: Sequence[Any]) -> dict[str, Tensor]:
    """The tensors of a manifest's `shards`. Raises AvbenchError where one lies elsewhere, is missing, or is not what was written."""
    state: dict[str, Tensor] = {}
    for shard in shards:
        state |= load_safetensors(_verified(folder, shard))
    return state


def read_manifest(folder: Path, model: str | None) -> dict[str, Any]:
    """The manifest's JSON. model: None for AVTok's, which were first and state no kind. Raises AvbenchError where it is not such a one."""
    file, kind = folder / MANIFEST, model or "AVTok"
    if not file.is_file():
        raise AvbenchError(f"{folder} has no {MANIFEST}: not a checkpoint of {kind}, or its saving was cut off")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise AvbenchError(f"{file} is too large for a manifest ({file.stat().st_size:,} bytes)")
    try:
        manifest = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise AvbenchError(f"{file} is damaged: {error}") from error
    kinds = {"config": dict, "shards": list, "provenance": dict}
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("model") != model:
        raise AvbenchError(f"{file} is not a manifest of {kind}, format {FORMAT}")
    wrong = [key for key, kind in kinds.items() if not isinstance(manifest.get(key), kind)]
    if wrong or len(manifest["shards"]) > MAX_SHARDS:
        raise AvbenchError(f"{file} is damaged: {', '.join(wrong) or 'too many shards'}")
    return manifest


def _shards(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
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
    if sha256_of(file) != shard.get("sha256"):
        raise AvbenchError(f"{file} is damaged: its sha256 is not the manifest's; copy it again")
    return file
