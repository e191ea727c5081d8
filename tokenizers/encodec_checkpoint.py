"""EnCodec's weights: the official file, a Hugging Face folder, and the folders that `avbench train` writes.

The network is `transformers.EncodecModel`, for inference with plain weights (its weight norm folded in). A trained folder is a
Hugging Face folder plus `manifest.json`: {"format": 1, "name", "files": {name: sha256}, "provenance": as saved}.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avbench import weights
from avbench.errors import AvbenchError
from avbench.tokenizers.checkpoint_folder import FORMAT, MANIFEST, trained_on
from avbench.tokenizers.published import (
    CONFIG,
    check_sizes,
    checked_sha256,
    first_here,
    fit,
    fold_weight_norm,
    read_json,
    read_state,
    require,
    tensors,
    weights_file,
    without_weight_norm,
)
from avbench.weights.load import sha256_of

if TYPE_CHECKING:
    from transformers import EncodecConfig, EncodecModel

NAME = "encodec"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
OFFICIAL, NOT_STATED = "official (facebook/encodec_24khz)", "not stated"
WEIGHTS = ("encodec-24khz", "encodec-24khz-th")  # of the catalog: Hugging Face's file and the authors' own
# What makes the network; anything else in a config.json (torch_dtype, attention, remote code) is not ours to follow.
FIELDS = (
    *("target_bandwidths", "sampling_rate", "audio_channels", "normalize", "chunk_length_s", "overlap", "hidden_size", "num_filters"),
    *("num_residual_layers", "upsampling_ratios", "norm_type", "kernel_size", "last_kernel_size", "residual_kernel_size"),
    *("dilation_growth_rate", "use_causal_conv", "pad_mode", "compress", "num_lstm_layers", "trim_right_ratio", "codebook_size"),
    *("codebook_dim", "use_conv_shortcut"),
)
DEPTHS = ("num_residual_layers", "num_lstm_layers", "upsampling_ratios", "target_bandwidths")
# The official code's names -> transformers'
RENAMES = ((r"^(encoder|decoder)\.model\.", r"\1.layers."), (r"\.conv\.conv\.", ".conv."), (r"\.convtr\.convtr\.", ".conv."))
CODEBOOK_RENAME = (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook.")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded network, its name, the sha256 of its weights, and what is known of its training."""

    model: "EncodecModel"
    name: str
    sha256: str
    trained_on: str


def load_checkpoint(path: Path | None, device: torch.device | str = "cpu") -> Checkpoint:
    """The network of a file or folder; None: the official weights, if `avbench weights pull` brought them here.

    Raises AvbenchError for a missing, damaged or foreign file, before it computes anything.
    """
    require("transformers", "encodec", "EnCodec")
    if path is None:
        return replace(_from_file(first_here(WEIGHTS), device), trained_on=OFFICIAL)
    return _from_folder(path, device) if path.is_dir() else _from_file(path, device)


def save_checkpoint(folder: Path, model: "EncodecModel", *, name: str, provenance: dict[str, Any]) -> None:
    """Write `model` (with or without weight norm) as a trained folder that `load_checkpoint` reads; the manifest comes last.

    provenance: JSON values; "split" and "clips_seen" are shown beside the model's row.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / CONFIG).write_text(json.dumps({"model_type": "encodec", **_fields(model.config)}, indent=1) + "\n")
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    files = {file: sha256_of(folder / file) for file in (CONFIG, "model.safetensors")}
    manifest = {"format": FORMAT, "name": name, "files": files, "provenance": provenance}
    scratch = folder / f".{MANIFEST}"
    scratch.write_text(json.dumps(manifest, indent=1) + "\n")
    scratch.replace(folder / MANIFEST)


def load_trained(folder: Path, model: "EncodecModel") -> None:
    """Fill `model` (with weight norm, as it is trained) from a trained folder. Raises AvbenchError where its network is another one."""
    if _manifest(folder) is None:
        raise AvbenchError(f"{folder} has no {MANIFEST}: not a folder that avbench train wrote")
    if read_json(folder / CONFIG) | _fields(model.config) != read_json(folder / CONFIG):
        raise AvbenchError(f"{folder} holds an EnCodec of another config than the recipe's")
    model.load_state_dict(read_state(folder / "model.safetensors"))


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state with the official code's names under transformers' names; one that has those already is returned as it is."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in (*RENAMES, CODEBOOK_RENAME):
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _from_file(file: Path, device: torch.device | str) -> Checkpoint:
    """A file of weights alone has the official 24 kHz model's config."""
    sha256 = checked_sha256(file)
    model = _model({}, file, str(file), device)
    known = sha256.startswith(weights.CATALOG[WEIGHTS[1]].sha256 or "-")
    return Checkpoint(model=model, name=NAME, sha256=sha256, trained_on=OFFICIAL if known else NOT_STATED)


def _from_folder(folder: Path, device: torch.device | str) -> Checkpoint:
    manifest = _manifest(folder)
    file = weights_file(folder)
    sha256 = checked_sha256(file)
    config = {key: value for key, value in read_json(folder / CONFIG).items() if key in FIELDS}
    model = _model(config, file, str(folder), device)
    if manifest is not None:
        return Checkpoint(model=model, name=manifest["name"], sha256=sha256, trained_on=trained_on(manifest["provenance"]))
    official = _fields(model.config) == _fields(_config({}))
    return Checkpoint(model=model, name=NAME, sha256=sha256, trained_on=OFFICIAL if official else NOT_STATED)


def _model(config: dict[str, Any], file: Path, where: str, device: torch.device | str) -> "EncodecModel":
    from transformers import EncodecModel

    check_sizes(config, DEPTHS, f"{where}: {CONFIG}")
    state = fold_weight_norm(to_transformers(tensors(read_state(file), file)), str(file))
    model = fit(lambda: without_weight_norm(EncodecModel(_config(config))), state, f"EnCodec checkpoint {file}", device)
    has = {"normalize": model.config.normalize, "chunk_length_s": model.config.chunk_length_s, "channels": model.config.audio_channels}
    if has != {"normalize": False, "chunk_length_s": None, "channels": 1}:
        raise AvbenchError(f"{where} is an EnCodec with {has}: avbench takes mono models whose codes are all that the decoder needs")
    return model


def _config(config: dict[str, Any]) -> "EncodecConfig":
    from transformers import EncodecConfig

    return EncodecConfig(**config)


def _fields(config: "EncodecConfig") -> dict[str, Any]:
    """What makes the network, as JSON keeps it (lists for tuples)."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.to_dict().items() if key in FIELDS}


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a trained folder, its files' sha256 checked; None where there is none."""
    file = folder / MANIFEST
    if not file.exists():
        return None
    manifest = read_json(file)
    name, files = manifest.get("name"), manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(name, str) or not isinstance(files, dict):
        raise AvbenchError(f"{file} is not a manifest of format {FORMAT} with name and files")
    if not NAME_PATTERN.fullmatch(name) or not isinstance(manifest.get("provenance"), dict):
        raise AvbenchError(f"{file}: name is {name[:40]!r}; letters, digits, dots and dashes are expected, and a provenance")
    for member in (CONFIG, "model.safetensors"):
        if not (folder / member).is_file() or sha256_of(folder / member) != files.get(member):
            raise AvbenchError(f"{folder / member} is missing or damaged: its sha256 is not the manifest's; copy the folder again")
    return manifest
