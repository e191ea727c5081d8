"""AVTok (and LARP, its video half) as a folder: see avbench/artifact.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avbench import artifact
from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.model import AVTokModel

KIND = "avtok"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded model, how it came to be (`provenance`, as saved), and its folder's revision."""

    model: AVTokModel
    provenance: dict[str, Any]
    revision: str


def save_checkpoint(folder: Path, model: AVTokModel, provenance: dict[str, Any]) -> None:
    """Write `model` and how it was trained (JSON values) to `folder`."""
    artifact.write(folder, kind=KIND, config=model.stored_config().to_dict(), state=model.state_dict(), provenance=provenance)


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of `folder`, in eval mode. Raises AvbenchError for a missing, damaged or foreign checkpoint before it computes anything."""
    found = artifact.read(folder, KIND)
    try:
        config = AVTokConfig.from_dict(found.config)
        if config.heads < 1 or config.width < 1 or config.width % config.heads:
            raise AvbenchError(f"width {config.width} in {config.heads} heads")
        with torch.device("meta"):
            model = AVTokModel(config)
    except Exception as error:  # a config out of a foreign manifest can fail a constructor in any way
        raise AvbenchError(f"{folder}: its config makes no model: {error or type(error).__name__}") from error
    model.load_state_dict(found.state(model.state_dict()), assign=True)
    model = model.eval().requires_grad_(False).to(device)
    return Checkpoint(model=model, provenance=found.provenance, revision=found.revision)
