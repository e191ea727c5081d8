"""How published weights came to be, for their manifest."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from avbench.artifact import MAX_MANIFEST_BYTES
from avbench.errors import AvbenchError
from avbench.files import parse_json, read_bytes
from avbench.run.manifest import git_commit, hardware, versions
from avbench.train.config import TrainConfig
from avbench.train.trainee import Origin

MANIFEST = "manifest.json"  # of every folder that `Trainee.export` writes


def provenance(
    config: TrainConfig, origin: Origin, device: torch.device, progress: dict[str, Any], init: dict[str, Any] | None = None
) -> dict[str, Any]:
    """progress: clips_seen, minutes, stage, the last held-out numbers. init: `of_folder` of the weights that the run began from."""
    return {
        "recipe": config.name,
        "split": origin.split,
        "split_checksum": origin.checksum,
        "split_clips": origin.split_clips,
        **progress,
        "config": config.to_dict(),
        "machine": hardware(device),
        "versions": versions(),
        "git_commit": git_commit(),
        **({} if init is None else {"init": init}),
    }


def of_folder(folder: Path) -> dict[str, Any]:
    """name, recipe, clips_seen (those of its own beginning included) and revision of an exported folder (of a dual run, its video half).

    Raises AvbenchError where it holds none.
    """
    file = next((path for path in (folder / MANIFEST, folder / "video" / MANIFEST) if path.exists()), None)
    if file is None:
        raise AvbenchError(f"{folder} has no {MANIFEST}: not a folder that avbench train wrote")
    content = read_bytes(file, MAX_MANIFEST_BYTES)
    try:
        facts = parse_json(content)["provenance"]
        seen = int(facts["clips_seen"]) + int((facts.get("init") or {}).get("clips_seen", 0))
        name = folder.resolve().name
        return {"name": name, "recipe": str(facts["recipe"]), "clips_seen": seen, "revision": hashlib.sha256(content).hexdigest()[:16]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AvbenchError(f"{file} does not say how its weights came to be ({type(error).__name__}: {error})") from error
