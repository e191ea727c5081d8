"""Where a WavTokenizer comes from: a published `.ckpt`, or a folder of ours (tokenizers/checkpoint_folder.py)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avbench import weights
from avbench.errors import AvbenchError
from avbench.tokenizers.checkpoint_folder import load_folder, save_folder
from avbench.tokenizers.wavtokenizer.config import WavTokenizerConfig, wavtokenizer_40, wavtokenizer_75
from avbench.tokenizers.wavtokenizer.inference import optimise
from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel
from avbench.tokenizers.wavtokenizer.official import official_name, read_official
from avbench.weights.load import sha256_of

MODEL = "wavtokenizer"  # the kind in a folder's manifest
OFFICIAL = {"40": (wavtokenizer_40(), "wavtokenizer-small-600"), "75": (wavtokenizer_75(), "wavtokenizer-small-320")}
NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model for inference only (inference.py), its learned numbers, and digits of the sha256 of what it was read from."""

    model: WavTokenizerModel
    num_parameters: int
    revision: str
    trained_on: str


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of a published file or a folder of ours.

    Raises AvbenchError that names what is damaged, missing, unknown or mis-shaped, before anything is computed.
    """
    if path.is_dir():
        folder = load_folder(path, model=MODEL)
        model = _filled(WavTokenizerConfig.from_dict(folder.config), folder.state, path, lambda name: name)
        return _checkpoint(model, device, folder.revision, folder.trained_on)
    state = read_official(path)
    model = _filled(_official_config(state, path), state, path, official_name)
    sha256 = sha256_of(path)
    return _checkpoint(model, device, sha256[:16], _official_training(sha256))


def pulled(variant: str) -> Path:
    """The published file of variant "40" or "75", verified. Raises WeightsUnavailable with the command that gets it."""
    return weights.path(OFFICIAL[variant][1])


def save_checkpoint(folder: Path, model: WavTokenizerModel, provenance: dict[str, Any]) -> None:
    """Write `model`, its config and how it was trained (JSON values; "split" and "clips_seen" are shown beside its row) to `folder`."""
    save_folder(folder, model=MODEL, config=model.config.to_dict(), state=model.state_dict(), provenance=provenance)


def _filled(config: WavTokenizerConfig, state: Mapping[str, Tensor], where: Path, name_in_state: Callable[[str], str]) -> WavTokenizerModel:
    """The model with exactly the tensors of `state`; first built without memory, so that a config which promises too much costs nothing."""
    try:
        with torch.device("meta"):
            model = WavTokenizerModel(config)
    except Exception as error:  # a config out of a foreign manifest can fail a constructor in any way
        raise AvbenchError(f"{where}: its config makes no model: {error}") from error
    expected = {name_in_state(name): tensor.shape for name, tensor in model.state_dict().items()}
    misshaped = {name: f"{tuple(state[name].shape)}, not {tuple(shape)}" for name, shape in expected.items() if name in state}
    misshaped = {name: text for name, text in misshaped.items() if state[name].shape != expected[name]}
    problems = {"lacks": expected.keys() - state, "has unknown": state.keys() - expected, "has mis-shaped": misshaped}
    for what, names in problems.items():
        if names:
            shown = ", ".join(f"{name} {misshaped.get(name, '')}".strip() for name in sorted(names)[:3])
            raise AvbenchError(f"checkpoint {where} {what} {len(names)} of {len(expected)} tensors: {shown}")
    model.load_state_dict({name: state[name_in_state(name)].float() for name in model.state_dict()}, assign=True)
    return model


def _checkpoint(model: WavTokenizerModel, device: torch.device | str, revision: str, trained_on: str) -> Checkpoint:
    num_parameters = model.num_parameters()
    model = model.eval().requires_grad_(False).to(device)
    optimise(model)
    return Checkpoint(model=model, num_parameters=num_parameters, revision=revision, trained_on=trained_on)


def _official_config(state: Mapping[str, Tensor], file: Path) -> WavTokenizerConfig:
    """Which of the published sizes a file has: they differ in the width of the head, n_fft + 2."""
    width = state["head.out.weight"].shape[0] if "head.out.weight" in state else None
    for config, _ in OFFICIAL.values():
        if width == config.n_fft + 2:
            return config
    known = " or ".join(f"{config.n_fft + 2} ({config.name})" for config, _ in OFFICIAL.values())
    found = "lacks head.out.weight" if width is None else f"has {width} rows in head.out.weight"
    raise AvbenchError(f"{file} {found}; a published WavTokenizer has {known}")


def _official_training(sha256: str) -> str:
    for _, name in OFFICIAL.values():
        pin = weights.CATALOG[name].sha256
        if pin and sha256.startswith(pin):
            return "LibriTTS (speech), official small weights"
    return NOT_STATED
