"""A run's folder as a claim that can be checked: what it says was evaluated, its rows, its values, and the bytes to make them again.

Anybody may have written it. A folder that cannot be verified is an error that says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from avbench.errors import AvbenchError, UsageError
from avbench.files import read_json
from avbench.run.conform import check_info
from avbench.run.finished import MAX_RESULT_BYTES, Run, read_clips
from avbench.tokenizer import TokenizerInfo
from avbench.types import DEFAULT_TASK, RunSpec, Sampling

MAX_BATCH = 4096
_TYPES: dict[str, tuple[type, ...]] = {
    **{"tokenizer": (str,), "split": (str,), "task": (str,), "device": (str,), "seed": (int,), "batch_size": (int,)},
    **{"limit": (int, type(None)), "checkpoint": (str, type(None))},
}  # of a spec, what matters to a reconstruction


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A run that says how it can be made again."""

    folder: Path
    manifest: Mapping[str, Any]
    result: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]  # of clips.jsonl
    spec: RunSpec
    info: TokenizerInfo  # of its tokenizer, as the manifest has it

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its numbers follow from: `identity.facts_of`, then."""
        return self.manifest["identity"]  # type: ignore[no-any-return]


def read_kept(folder: Path) -> Kept:
    """The run in `folder`. Raises UsageError where it is no folder, AvbenchError where it is damaged or cannot be verified."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; avbench verify takes a run's (runs/ID) or a submission's")
    result, manifest = Run.read(folder).result, read_json(folder / "manifest.json", MAX_RESULT_BYTES)
    try:
        refuse(manifest, folder)
        spec, info = spec_of(manifest["spec"]), info_of(manifest["tokenizer"])
        if not all(isinstance(entry["name"], str) and "value" in entry for entry in (*result["values"], *result["cost"])):
            raise TypeError("a value's name")
        _ = manifest["identity"]["tokenizer"], manifest["identity"]["split"], manifest["identity"]["line"]
    except (KeyError, TypeError, AttributeError) as error:
        raise AvbenchError(f"{folder} is damaged: its manifest or result lacks {error}, or has another thing there") from error
    return Kept(folder=folder, manifest=manifest, result=result, rows=tuple(read_clips(folder)), spec=spec, info=info)


def refuse(manifest: Mapping[str, Any], folder: Path) -> None:
    """Raises AvbenchError where a run is of a kind that cannot be verified."""
    spec, why = manifest["spec"], None
    if "scored" in spec:
        why = "its clips were made elsewhere (avbench score): there are no bytes to make them of again"
    elif spec["task"] != DEFAULT_TASK:
        why = f"it is of task {str(spec['task'])[:20]}: its tokens were sampled by a generator, which verify does not run yet"
    elif manifest.get("isolated") is not True:
        why = "it was decoded in the process that encoded (isolated: false), so that bytes may not be all that was passed on"
    elif next(folder.glob("tokens/*.avt"), None) is None:
        why = "it has no kept bytes (tokens/)"
    if why is not None:
        raise AvbenchError(f"{folder} cannot be verified: {why}")


def spec_of(facts: Mapping[str, Any]) -> RunSpec:
    """What `RunSpec.facts` was made of, metrics apart. Raises KeyError or TypeError for another thing."""
    for name, kinds in _TYPES.items():
        if not isinstance(facts[name], kinds) or isinstance(facts[name], bool):
            raise TypeError(f"spec.{name}")
    if not 1 <= facts["batch_size"] <= MAX_BATCH or not abs(facts["seed"]) < 2**32 or not (facts["limit"] is None or facts["limit"] > 0):
        raise TypeError("spec.batch_size, seed or limit")
    sampling = Sampling(**{field.name: facts[field.name] for field in fields(Sampling)})
    args = facts.get("tokenizer_args", {})
    return RunSpec(**{name: facts[name] for name in _TYPES}, sampling=sampling, tokenizer_args=tuple(sorted(args.items())))


def info_of(facts: Mapping[str, Any]) -> TokenizerInfo:
    """What `TokenizerInfo.facts` was made of. Raises TypeError or AvbenchError for another thing."""
    sets = {"modalities": frozenset(facts["modalities"]), "entropy_coded": frozenset(facts.get("entropy_coded", ()))}
    info = TokenizerInfo(**{**facts, **sets})
    check_info(info)
    return info
