"""EnCodec's weights: the official file, a Hugging Face folder, and the folders that `avbench train` writes.

The network is `transformers.EncodecModel`, for inference with plain weights (its weight norm folded in). A trained folder is a
Hugging Face folder that is an artifact (avbench/artifact.py), too: its manifest.json says what it is and how it came to be.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avbench import artifact
from avbench.errors import AvbenchError
from avbench.files import atomic, disk_errors
from avbench.nn.weight_norm import fold_weight_norm, without_weight_norm
from avbench.tokenizers.published import (
    CONFIG,
    WEIGHT_FILES,
    check_sizes,
    checked_sha256,
    first_here,
    fit,
    read_config,
    read_state,
    require,
    weights_files,
)
from avbench.weights import is_official
from avbench.weights.load import tensors

if TYPE_CHECKING:
    from transformers import EncodecConfig, EncodecModel

NAME = "encodec"
NOT_STATED = "not stated"
# Of the catalog: Hugging Face's file and the authors' own
WEIGHTS, STEREO_WEIGHTS = ("encodec-24khz", "encodec-24khz-th"), ("encodec-48khz", "encodec-48khz-th")
# The official 48 kHz model, as far as it is not as the 24 kHz one
STEREO: dict[str, Any] = {
    "target_bandwidths": [3.0, 6.0, 12.0, 24.0], "sampling_rate": 48_000, "audio_channels": 2, "normalize": True, "chunk_length_s": 1.0,
    "overlap": 0.01, "norm_type": "time_group_norm", "use_causal_conv": False,
}  # fmt: skip
# What makes the network; anything else in a config.json (torch_dtype, attention, remote code) is not ours to follow.
FIELDS = (
    *("target_bandwidths", "sampling_rate", "audio_channels", "normalize", "chunk_length_s", "overlap", "hidden_size", "num_filters"),
    *("num_residual_layers", "upsampling_ratios", "norm_type", "kernel_size", "last_kernel_size", "residual_kernel_size"),
    *("dilation_growth_rate", "use_causal_conv", "pad_mode", "compress", "num_lstm_layers", "trim_right_ratio", "codebook_size"),
    *("codebook_dim", "use_conv_shortcut"),
)
DEPTHS = ("num_residual_layers", "num_lstm_layers", "upsampling_ratios", "target_bandwidths")
# The official code's names -> transformers'
RENAMES = (
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.conv\.conv\.", ".conv."),
    (r"\.convtr\.convtr\.", ".conv."),
    (r"\.conv(tr)?\.norm\.", ".norm."),
)
CODEBOOK_RENAME = (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook.")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded network, its name, the sha256 of its weights, and what is known of its training."""

    model: "EncodecModel"
    name: str
    sha256: str
    trained_on: str


def load_checkpoint(path: Path | None, device: torch.device | str = "cpu", *, stereo: bool = False) -> Checkpoint:
    """The network of a file or folder; None: the official weights, if `avbench weights pull` brought them here.

    stereo: the 48 kHz model, whose segments are normalised; else the 24 kHz one.

    Raises AvbenchError for a missing, damaged or foreign file, before it computes anything.
    """
    require("transformers", "encodec", "EnCodec")
    if path is None:
        path = first_here(STEREO_WEIGHTS if stereo else WEIGHTS)
    checkpoint = _from_folder(path, device) if path.is_dir() else _from_file(path, device)
    _check_kind(checkpoint.model, str(path), stereo)
    return checkpoint


def save_checkpoint(folder: Path, model: "EncodecModel", *, name: str, provenance: dict[str, Any]) -> None:
    """Write `model` (with or without weight norm) as a trained folder that `load_checkpoint` reads, and transformers.

    provenance: JSON values; "split" and "clips_seen" are shown beside the model's row.
    """
    network = _fields(model.config)
    config = {"name": name, "network": network}
    artifact.write(folder, kind=NAME, config=config, state=model.state_dict(), provenance=provenance, single=WEIGHT_FILES[0])
    with disk_errors(folder, "repeat the command"), atomic(folder / CONFIG, "w") as file:
        file.write(json.dumps({"model_type": "encodec", **network}, indent=1) + "\n")


def load_trained(folder: Path, model: "EncodecModel") -> None:
    """Fill `model` (with weight norm, as it is trained) from a trained folder. Raises AvbenchError where its network is another one."""
    found = artifact.read(folder, NAME)
    if found.config["network"] | _fields(model.config) != found.config["network"]:
        raise AvbenchError(f"{folder} holds an EnCodec of another config than the recipe's")
    model.load_state_dict(found.state(model.state_dict()))


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state with the official code's names under transformers' names; one that has those already is returned as it is."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in (*RENAMES, CODEBOOK_RENAME):
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _from_file(file: Path, device: torch.device | str) -> Checkpoint:
    """A file of weights alone has the config of the official model whose tensors it holds: the 48 kHz one has group norm."""
    config = STEREO if any(".norm." in name for name in tensors(read_state([file]), file)) else {}
    return _published(config, [file], str(file), device)


def _from_folder(folder: Path, device: torch.device | str) -> Checkpoint:
    if not (folder / artifact.MANIFEST).exists():
        files = weights_files(folder)
        return _published(read_config(folder), files, str(folder), device)
    trained = artifact.read(folder, NAME)
    network, name = trained.config.get("network"), trained.config.get("name")
    if not isinstance(network, dict) or not isinstance(name, str):
        raise AvbenchError(f"{folder / artifact.MANIFEST} is damaged: its config lacks a name or a network")
    model = _model(network, trained.state(), str(folder), device)
    return Checkpoint(model=model, name=name, sha256=trained.revision, trained_on=trained.trained_on)


def _published(config: dict[str, Any], files: list[Path], where: str, device: torch.device | str) -> Checkpoint:
    sha256 = checked_sha256(files)
    model = _model(config, tensors(read_state(files), files[0]), where, device)
    names = STEREO_WEIGHTS if model.config.audio_channels == 2 else WEIGHTS
    official = f"official (facebook/{names[0].replace('-', '_')})"
    return Checkpoint(model=model, name=NAME, sha256=sha256, trained_on=official if is_official(names, files, sha256) else NOT_STATED)


def _model(config: dict[str, Any], state: dict[str, Tensor], where: str, device: torch.device | str) -> "EncodecModel":
    from transformers import EncodecModel

    config = {key: value for key, value in config.items() if key in FIELDS}
    check_sizes(config, DEPTHS, f"{where}: {CONFIG}")
    state = fold_weight_norm(to_transformers(state), where)
    return fit(lambda: without_weight_norm(EncodecModel(_config(config))), state, f"EnCodec checkpoint {where}", device)


def _check_kind(model: "EncodecModel", where: str, stereo: bool) -> None:
    config = model.config
    has = {"normalize": config.normalize, "chunk_length_s": config.chunk_length_s, "channels": config.audio_channels}
    if stereo and not (config.normalize and config.chunk_length_s and config.audio_channels == 2):
        raise AvbenchError(f"{where} is an EnCodec with {has}: encodec-48khz takes stereo models of normalised segments; try encodec")
    if not stereo and has != {"normalize": False, "chunk_length_s": None, "channels": 1}:
        raise AvbenchError(
            f"{where} is an EnCodec with {has}: encodec takes mono models whose codes are all that the decoder needs; try encodec-48khz"
        )


def _config(config: dict[str, Any]) -> "EncodecConfig":
    from transformers import EncodecConfig

    return EncodecConfig(**config)


def _fields(config: "EncodecConfig") -> dict[str, Any]:
    """What makes the network, as JSON keeps it (lists for tuples)."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.to_dict().items() if key in FIELDS}
