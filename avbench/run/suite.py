"""Many runs as one: tokenizers x splits x tasks, from a YAML file.

    splits: [arcade-mini, "folder:my_videos?res=256"]
    tasks: [reconstruct]                   # default
    metrics: [psnr, fvd, bits_per_s]       # names, and of sets; default: what suits
    limit: 101                             # default: all clips
    tokenizers:
      - avtok
      - h264@20k-opus@6k
      - tokenizer: my_codec.py:Codec
        checkpoint: out/last.pt
        args: {levels: 8}                  # of its constructor, by name

A suite is resumed by the same command: what is finished is not computed again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from avbench.errors import AvbenchError, UsageError
from avbench.files import read_bytes
from avbench.run.evaluate import Run, evaluate
from avbench.types import DEFAULT_TASK, RunSpec, Sampling

MAX_BYTES = 2**20
MAX_RUNS = 10_000
LISTS = ("splits", "tasks", "tokenizers")
COMMON = ("metrics", "limit", "seed", "batch_size", "temperature", "top_k", "top_p", "guidance", "chain", "generator")
OWN = ("tokenizer", "checkpoint", "args", *COMMON)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run of a suite: what was asked for, and the run or why there is none."""

    number: int
    total: int
    spec: RunSpec
    run: Run | None = None
    error: str | None = None


def read_suite(path: Path, *, device: str = "auto") -> list[RunSpec]:
    """The runs of a suite, split by split. Raises UsageError for a file that is no suite, naming the key."""
    import yaml

    try:
        content = yaml.safe_load(read_bytes(path, MAX_BYTES))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no suite: keys splits and tokenizers are needed")
    _check(content, (*LISTS, *COMMON), str(path))
    lists = {name: _list(content.get(name, [DEFAULT_TASK] if name == "tasks" else None), f"{path}: {name}") for name in LISTS}
    common = {key: content[key] for key in COMMON if key in content}
    specs = [
        _spec({**common, **_own(entry, str(path))}, split=str(split), task=str(task), device=device, where=str(path))
        for split in lists["splits"]
        for task in lists["tasks"]
        for entry in lists["tokenizers"]
    ]
    if len(specs) > MAX_RUNS:
        raise UsageError(f"{path} asks for {len(specs):,} runs; at most {MAX_RUNS:,}")
    return specs


def run_suite(specs: list[RunSpec], **options: Any) -> Iterator[Outcome]:
    """The runs in order. One that cannot be made is an outcome with an error, and the others go on. options: of `evaluate`."""
    for number, spec in enumerate(specs, start=1):
        try:
            yield Outcome(number=number, total=len(specs), spec=spec, run=evaluate(spec, **options))
        except AvbenchError as error:
            yield Outcome(number=number, total=len(specs), spec=spec, error=str(error))


def _own(entry: Any, where: str) -> dict[str, Any]:
    """A tokenizer by its name alone, or with options of its own."""
    if isinstance(entry, str):
        return {"tokenizer": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("tokenizer"), str):
        raise UsageError(f"{where}: a tokenizer is a name, or an object with the key tokenizer; not {str(entry)[:80]!r}")
    _check(entry, OWN, f"{where}: {entry['tokenizer']}")
    return entry


def _spec(given: dict[str, Any], *, split: str, task: str, device: str, where: str) -> RunSpec:
    given = dict(given)
    names = {field.name for field in fields(Sampling)}
    metrics = _list(given.pop("metrics", []), f"{where}: metrics", empty=True)
    args = given.pop("args", {})
    if not isinstance(args, dict):
        raise UsageError(f"{where}: args of {given['tokenizer']} are key: value pairs")
    try:
        return RunSpec(
            split=split,
            task=task,
            device=device,
            metrics=tuple(str(metric) for metric in metrics),
            tokenizer_args=tuple(sorted(args.items())),
            sampling=Sampling(**{key: given.pop(key) for key in names & given.keys()}),
            **given,
        )
    except TypeError as error:
        raise UsageError(f"{where}: {given['tokenizer']}: {error}") from error


def _list(value: Any, what: str, *, empty: bool = False) -> list[Any]:
    if not isinstance(value, list) or not (value or empty):
        raise UsageError(f"{what} must be a list with something in it")
    return value


def _check(found: dict[Any, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(str(key) for key in found.keys() - set(known))
    if unknown:
        raise UsageError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(known)}")
