"""`out`/state.pt: everything that a resumed run needs, replaced as a whole, so that a kill at any moment leaves the last one.

And how exported weights came to be, for their manifest.
"""

import hashlib
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from avbench.artifact import MAX_MANIFEST_BYTES
from avbench.errors import AvbenchError
from avbench.files import atomic, disk_errors, parse_json, read_bytes
from avbench.run.manifest import git_commit, hardware, versions
from avbench.train.config import TrainConfig
from avbench.train.trainee import Origin
from avbench.weights.load import torch_file

STATE = "state.pt"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a folder belongs to. Two runs that differ here have different loss curves."""

    recipe: str
    digest: str  # of the recipe's config
    split: str
    split_checksum: str
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class Position:
    """The next step to do: number `step` of stage number `stage`. minutes: of training so far."""

    stage: int = 0
    step: int = 0
    minutes: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A read checkpoint; `state` is what `StageRun.state` gave."""

    position: Position
    state: dict[str, Any]
    init: dict[str, Any] | None


def save(out: Path, identity: Identity, position: Position, state: dict[str, Any], init: dict[str, Any] | None = None) -> None:
    """Replace the checkpoint of `out`. init: whose weights the run began from (`provenance.of_folder`). Raises AvbenchError where the
    disk is full."""
    content = {"format": FORMAT, "identity": asdict(identity), "position": asdict(position), "state": state, "init": init}
    with disk_errors(out, "repeat the command: the last checkpoint stands"):
        out.mkdir(parents=True, exist_ok=True)
        with atomic(out / STATE) as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # PyTorch's writer hides the system's error behind its own
                raise _system_error(error) or error from error


def _system_error(error: BaseException | None) -> OSError | None:
    """The first OSError among an exception and those that it came over."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def load(out: Path, identity: Identity) -> Saved | None:
    """The checkpoint of `out`; None where there is none. Read without unpickling code.

    Raises AvbenchError where it is damaged or belongs to another recipe or split.
    """
    path = out / STATE
    if not path.exists():
        return None
    torch_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found, position = Identity(**content["identity"]), Position(**content["position"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise AvbenchError(f"{path} is damaged or of another version ({type(error).__name__}); choose another --out") from error
    _check_same(out, found, identity)
    return Saved(position=position, state=content["state"], init=content.get("init"))


def _check_same(out: Path, found: Identity, wanted: Identity) -> None:
    if found == wanted:
        return
    if found.recipe != wanted.recipe:
        reason = f'recipe "{found.recipe}", not "{wanted.recipe}"'
    elif found.digest != wanted.digest:
        reason = f'recipe "{found.recipe}" as it was before its config changed, or with another seed'
    elif found.split != wanted.split:
        reason = f'split "{found.split}", not "{wanted.split}"'
    else:
        reason = f"another set of clips of {found.split} ({found.num_clips:,}; now {wanted.num_clips:,}): the same --limit is needed"
    raise AvbenchError(f"{out} holds a run of {reason}; give another --out, or delete the folder to start anew")


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
