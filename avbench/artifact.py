"""A folder on disk that holds a model: the only place that writes or reads one.

    manifest.json                   {"version": 2, "kind": "avtok", "config": {...}, "shards": [{"file", "sha256", "bytes"}, ...],
                                     "provenance": {...}}
    model-000-1a2b3c4d.safetensors  the tensors in their order, cut into shards of at most 15 MB; digits of each one's sha256 in its name

Written: shards first, each under another name until it is whole, then the manifest takes the place of an earlier one, and last that
one's shards go. A kill at any moment leaves the earlier folder or the new one.
Read: the manifest's fields and their bounds first; then the shards' headers against the tensors that the model has, before anything is
allocated; then their sha256; then the tensors. Manifests of version 1, of which there were four kinds, are read as well.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from avbench.errors import AvbenchError
from avbench.files import atomic, disk_errors, parse_json, read_json, regular
from avbench.weights.load import load_safetensors, safetensors_header, sha256_of

VERSION = 2
MANIFEST = "manifest.json"
SHARD_BYTES = 15_000_000
MAX_MANIFEST_BYTES = 4_000_000
MAX_SHARDS = 1000
FIELDS = {"config": dict, "provenance": dict, "shards": list}
# Bounds of a config: no model of ours comes near, and a manifest must not make us allocate or build without end.
MAX_LAYERS = 256  # of a number whose name ends in one of DEPTHS
MAX_INTEGER = 1 << 18  # widths, codebooks, sample rates
MAX_BYTES = 2**26  # of a field that ends so: a packed table in the folder's own shards
MAX_NUMBER = 1e9
MAX_LIST, MAX_TEXT, MAX_NESTING = 4096, 200, 8
DEPTHS = ("layers", "depth", "blocks")
NAME = re.compile(r"[A-Za-z0-9@._+-]{1,100}")
SHARD_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.safetensors")
SHA256 = re.compile(r"[0-9a-f]{64}")
NAMED = 3  # tensors that a message spells out


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of tensors. size: in bytes; None where an old manifest does not say."""

    file: str
    sha256: str
    size: int | None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A folder whose manifest is in order. revision: the first digits of a sha256 over config and shards."""

    folder: Path
    kind: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    shards: tuple[Shard, ...]
    revision: str

    @property
    def trained_on(self) -> str:
        """For `TokenizerInfo`."""
        return trained_on(self.provenance)

    def state(self, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors, for a model whose state dict is `expected` (on the meta device, say); None: the caller checks them.

        Raises AvbenchError where one is damaged or does not fit.
        """
        files = [self.folder / shard.file for shard in self.shards]
        for file, shard in zip(files, self.shards, strict=True):
            if not file.exists():
                raise AvbenchError(f"{file} is missing; copy the whole folder")
            if shard.size is not None and regular(file).stat().st_size != shard.size:
                raise AvbenchError(f"{file} is damaged: {file.stat().st_size:,} bytes, {shard.size:,} were written; copy it again")
        where, what = f"checkpoint {self.folder}", f"the {self.kind} of its config"
        if expected is not None:
            check_fit(where, what, expected, _joined(map(safetensors_header, files)))
        for file, shard in zip(files, self.shards, strict=True):
            if sha256_of(file) != shard.sha256:
                raise AvbenchError(f"{file} is damaged: its sha256 is not the manifest's; copy it again")
        state = _joined(map(load_safetensors, files))
        if expected is not None:
            check_fit(where, what, expected, state)
        return state


def write(
    folder: Path,
    *,
    kind: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    provenance: Mapping[str, Any],
    single: str | None = None,
) -> None:
    """Write a model; config and provenance are JSON values, `kind` is what `read` asks for.

    single: the name of one file for all tensors, where other programs look for it; an earlier manifest then goes first.
    Raises AvbenchError for a config that `read` would refuse, and where the disk is full.
    """
    content = json.loads(json.dumps(config))  # what a reader will see: lists for tuples
    check_config(content, f"the config of {folder}")
    provenance = _finite(dict(provenance))
    with disk_errors(folder, "repeat the command"):
        folder.mkdir(parents=True, exist_ok=True)
        if single is not None:
            (folder / MANIFEST).unlink(missing_ok=True)
        shards = [_write_shard(folder, number, tensors, single) for number, tensors in enumerate(_cut(state, single is not None))]
        manifest = {"version": VERSION, "kind": kind, "config": content, "shards": shards, "provenance": provenance}
        with atomic(folder / MANIFEST, "w") as file:
            file.write(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
        for stale in set(folder.glob("model*.safetensors")) - {folder / shard["file"] for shard in shards}:
            stale.unlink()


def read(folder: Path, kind: str) -> Artifact:
    """The folder of a model of `kind`; no tensor is read yet. Raises AvbenchError where it is missing, damaged or of another kind."""
    file = folder / MANIFEST
    if not file.exists():
        raise AvbenchError(f"{folder} has no {MANIFEST}: not a checkpoint of {kind}, or its saving was cut off")
    content = read_json(file, MAX_MANIFEST_BYTES)
    manifest = content if content.get("version") == VERSION else _of_version_1(content, folder)
    if manifest.get("kind") != kind:
        found = f"kind {str(content.get('kind'))[:40]!r}, version {str(content.get('version'))[:10]!r}"
        raise AvbenchError(f"{file} is not a manifest of {kind} that this avbench can read: {found}")
    wrong = [key for key, kind_of in FIELDS.items() if not isinstance(manifest.get(key), kind_of)]
    if wrong or len(manifest["shards"]) > MAX_SHARDS:
        raise AvbenchError(f"{file} is damaged: {', '.join(wrong) or 'too many shards'}")
    config: dict[str, Any] = manifest["config"]
    check_config(config, str(file))
    read_shards = tuple(_shard(shard, file) for shard in manifest["shards"])
    revision = _digest(json.dumps(config, sort_keys=True), *(shard.sha256 for shard in read_shards))
    if manifest is not content:  # of version 1, whose revisions stand in results
        revision = manifest["revision"]
    return Artifact(folder=folder, kind=kind, config=config, provenance=manifest["provenance"], shards=read_shards, revision=revision)


def write_file(file: Path, tensors: Mapping[str, Tensor], facts: Any, key: str = "about") -> None:
    """Write what is fitted to clips and small: one safetensors file, `facts` (JSON values) under `key` of its header.

    One key: safetensors writes several in a random order, and the file's sha256 is a revision.
    """
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata={key: json.dumps(facts)})
    with disk_errors(file.parent, "repeat the command"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(file) as out:
            out.write(data)


def read_file(file: Path, key: str = "about") -> tuple[Any, dict[str, Tensor]]:
    """The facts and tensors that `write_file` wrote. Raises AvbenchError where it is damaged, or holds values that are not finite."""
    tensors = load_safetensors(file)
    with safe_open(file, framework="pt") as content:
        text = (content.metadata() or {}).get(key)
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    try:
        if text is None or broken:
            raise ValueError(f"{broken[0]} is not finite" if broken else f"its header has no {key!r}")
        return parse_json(text), tensors
    except ValueError as error:
        raise AvbenchError(f"{file} is damaged or something else: {error}") from error


def check_config(config: Any, where: str) -> None:
    """Raise AvbenchError for values that no model has: negative, not finite, huge or unprintable ones, and a name of other letters.

    A config comes out of a file of unknown origin, and is shown: on terminals, in tables and on pages.
    """
    _check_value("config", config, where, 0)
    if isinstance(config, dict) and "name" in config:
        check_name(config["name"], where)


def check_name(name: Any, where: str) -> str:
    """`name`, if it is one. Raises AvbenchError for other letters than a tokenizer's or a recipe's name has."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise AvbenchError(f"{where}: the name {str(name)[:60]!r} is to be of letters, digits and @._+-, at most 100")
    return name


def trained_on(provenance: Mapping[str, Any]) -> str:
    """The split and how many of its clips a training saw, as its provenance says."""
    split, init = provenance.get("split"), provenance.get("init")
    seen = [provenance.get("clips_seen"), init.get("clips_seen", 0) if isinstance(init, Mapping) else 0]  # by the run it began with, too
    counts = [count for count in seen if type(count) is int and 0 <= count < 10**15]
    known = isinstance(split, str) and split.isprintable() and len(split) <= MAX_TEXT and len(counts) == len(seen)
    return f"{split}, {sum(counts):,} clips seen" if known else "not stated in its manifest"


def check_fit(where: Path | str, what: str, expected: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Raise AvbenchError unless `state` has exactly the tensors of `expected`: names, shapes, integers or not, and finite values.

    where: the file. what: it should hold ("a CAV-MAE Sync encoder"). Tensors on the meta device stand for what is not loaded yet.
    """
    shared = {name for name in expected.keys() & state.keys() if isinstance(state[name], Tensor)}
    alike = {name for name in shared if state[name].is_floating_point() == expected[name].is_floating_point()}
    unlike = (expected.keys() & state.keys()) - alike
    problems = {
        "lacks": expected.keys() - state.keys(),
        "has unknown": state.keys() - expected.keys(),
        "holds no floating-point tensor in": {name for name in unlike if expected[name].is_floating_point()},
        "holds no integers in": {name for name in unlike if not expected[name].is_floating_point()},
        "has mis-shaped": {name for name in alike if state[name].shape != expected[name].shape},
    }
    for problem, names in problems.items():
        if names:
            raise AvbenchError(f"{where} is not {what}: it {problem} {_listed(names, expected, state)}")
    broken = {name for name in expected if state[name].is_floating_point() and not _is_finite(state[name])}
    if broken:
        raise AvbenchError(f"{where} is damaged: it has values that are not finite in {_listed(broken, expected, {})}")


def fill(model: nn.Module, state: Mapping[str, Any], where: Path | str, what: str) -> None:
    """Give `model` (on the meta device, say) the tensors of `state` as its own, float32; its integer buffers stay as they are.

    Raises AvbenchError where they do not fit: see `check_fit`.
    """
    expected = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    check_fit(where, what, expected, state)
    model.load_state_dict({name: state[name].float() for name in expected}, strict=False, assign=True)


def _check_value(name: str, value: Any, where: str, nesting: int) -> None:
    if isinstance(value, dict | list):
        if len(value) > MAX_LIST or nesting > MAX_NESTING:
            raise AvbenchError(f"{where}: {name[:MAX_TEXT]} has {len(value)} entries in {nesting} others: not possible")
        for key, item in value.items() if isinstance(value, dict) else ((name, item) for item in value):
            _check_value(key, item, where, nesting + 1)
        return
    if isinstance(value, str):
        possible = value.isprintable() and len(value) <= MAX_TEXT
    elif isinstance(value, int) and not isinstance(value, bool):
        most = MAX_LAYERS if name.endswith(DEPTHS) else MAX_BYTES if name.endswith("_bytes") else MAX_INTEGER
        possible = 0 <= value <= most
    else:
        possible = value is None or isinstance(value, bool) or (math.isfinite(value) and 0 <= value <= MAX_NUMBER)
    if not possible or not name.isprintable():
        raise AvbenchError(f"{where}: {name[:MAX_TEXT]!r} is {str(value)[:60]!r}: not possible")


def _of_version_1(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A manifest as it was written before there was one kind of it, under today's names; {} for anything else."""
    try:
        provenance = content["provenance"]
        if content.get("kind") == "avbench generator 1":
            config = {"model": content["config"], "layout": content["layout"], "tokenizer": content["tokenizer"]}
            kind, shards, revision = "generator", [content["weights"]], content["weights"]["sha256"][:16]
        elif content.get("format") == 1 and "files" in content:
            kind, weights = "encodec", content["files"]["model.safetensors"]
            config = {"name": content["name"], "network": read_json(folder / "config.json", MAX_MANIFEST_BYTES)}
            if sha256_of(folder / "config.json") != content["files"]["config.json"]:
                raise AvbenchError(f"{folder / 'config.json'} is damaged: its sha256 is not the manifest's; copy it again")
            shards, revision = [{"file": "model.safetensors", "sha256": weights}], weights[:16]
        elif content.get("format") == 1:
            kind, config, shards = content.get("model", "avtok"), content["config"], content["shards"]
            text = json.dumps(config, sort_keys=True) if "model" in content else ""  # AVTok's was over the shards alone
            revision = _digest(text, *(shard["sha256"] for shard in shards))
        else:
            return {}
    except (KeyError, TypeError, AttributeError) as error:
        raise AvbenchError(f"{folder / MANIFEST} is damaged: {type(error).__name__}: {error}") from error
    return {"kind": kind, "config": config, "shards": shards, "provenance": provenance, "revision": revision}


def _digest(*texts: str) -> str:
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


def _shard(values: Any, manifest: Path) -> Shard:
    name, sha256, size = (values.get(key) for key in ("file", "sha256", "bytes")) if isinstance(values, dict) else (None, None, None)
    if not isinstance(name, str) or not SHARD_NAME.fullmatch(name):
        raise AvbenchError(f"{manifest} names a shard {str(name)[:100]!r}; shards are .safetensors files of the same folder")
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256) or not (size is None or (type(size) is int and size >= 0)):
        raise AvbenchError(f"{manifest} is damaged: {name} has sha256 {str(sha256)[:70]!r} and {str(size)[:20]!r} bytes")
    return Shard(file=name, sha256=sha256, size=size)


def _cut(state: Mapping[str, Tensor], whole: bool) -> list[dict[str, Tensor]]:
    """The state in its order, cut where a shard would pass SHARD_BYTES."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        amount = tensor.numel() * tensor.element_size()
        if shards[-1] and not whole and size + amount > SHARD_BYTES - 100_000:  # room for the header
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach().cpu().contiguous()
        size += amount
    return shards


def _write_shard(folder: Path, number: int, tensors: dict[str, Tensor], name: str | None) -> dict[str, Any]:
    data = save(tensors, metadata={"format": "pt"})
    sha256 = hashlib.sha256(data).hexdigest()
    name = name or f"model-{number:03d}-{sha256[:8]}.safetensors"
    with atomic(folder / name) as file:
        file.write(data)
    return {"file": name, "sha256": sha256, "bytes": len(data)}


def _joined(parts: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: tensor for part in parts for name, tensor in part.items()}


def _finite(value: Any) -> Any:
    """JSON has no NaN: a loss that was one becomes null, and is no reason to lose a training."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_finite(tensor: Tensor) -> bool:
    return tensor.is_meta or bool(torch.isfinite(tensor).all())


def _listed(names: Iterable[str], expected: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
    """`a.weight (4, 2), which should be (4, 3); b.weight; c.weight and 7 more`."""
    ordered = sorted(names)
    shown = []
    for name in ordered[:NAMED]:
        found = getattr(state.get(name), "shape", None)
        both = found is not None and name in expected
        shown.append(f"{name} {tuple(found or ())}, which should be {tuple(expected[name].shape)}" if both else str(name)[:MAX_TEXT])
    return "; ".join(shown) + (f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else "")
