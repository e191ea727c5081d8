"""`out`/state.pt: everything that a resumed run needs, replaced as a whole, so that a kill at any moment leaves the last one."""

import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from avbench.errors import AvbenchError
from avbench.files import atomic, disk_errors
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
