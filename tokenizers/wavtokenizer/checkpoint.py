"""Where a WavTokenizer comes from: a published `.ckpt`, or a folder of ours (avbench/artifact.py)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avbench import artifact, weights
from avbench.errors import AvbenchError
from avbench.tokenizers.wavtokenizer.config import WavTokenizerConfig, wavtokenizer_40, wavtokenizer_75
from avbench.tokenizers.wavtokenizer.inference import optimise
from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel
from avbench.tokenizers.wavtokenizer.official import official_name, read_official
from avbench.weights.load import sha256_of

KIND = "wavtokenizer"  # the kind in a folder's manifest
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
        model, folder = load_trained(path)
        return _checkpoint(model, device, folder.revision, folder.trained_on)
    state = read_official(path)
    model = _empty(_official_config(state, path), path)
    expected = {official_name(name): tensor for name, tensor in model.state_dict().items()}
    artifact.check_fit(path, "a WavTokenizer as published", expected, state)
    _take(model, {name: state[official_name(name)] for name in model.state_dict()})
    sha256 = sha256_of(path)
    official = weights.is_official([name for _, name in OFFICIAL.values()], [path], sha256)
    return _checkpoint(model, device, sha256[:16], "LibriTTS (speech), official small weights" if official else NOT_STATED)


def pulled(variant: str) -> Path:
    """The published file of variant "40" or "75", verified. Raises WeightsUnavailable with the command that gets it."""
    return weights.path(OFFICIAL[variant][1])


def save_checkpoint(folder: Path, model: WavTokenizerModel, provenance: dict[str, Any]) -> None:
    """Write `model`, its config and how it was trained (JSON values; "split" and "clips_seen" are shown beside its row) to `folder`."""
    artifact.write(folder, kind=KIND, config=model.config.to_dict(), state=model.state_dict(), provenance=provenance)


def load_trained(folder: Path) -> tuple[WavTokenizerModel, artifact.Artifact]:
    """A folder of ours: the model as it was trained, and what its manifest says. Raises AvbenchError where it is damaged or another's."""
    found = artifact.read(folder, KIND)
    model = _empty(WavTokenizerConfig.from_dict(found.config), folder)
    _take(model, found.state(model.state_dict()))
    return model, found


def _empty(config: WavTokenizerConfig, where: Path) -> WavTokenizerModel:
    """Without memory, so that a config which promises too much costs nothing."""
    try:
        with torch.device("meta"):
            return WavTokenizerModel(config)
    except Exception as error:  # a config out of a foreign manifest can fail a constructor in any way
        raise AvbenchError(f"{where}: its config makes no model: {error}") from error


def _take(model: WavTokenizerModel, state: Mapping[str, Tensor]) -> None:
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)


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
