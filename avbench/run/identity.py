"""Same inputs, same folder, never a stale number: what a run's numbers follow from, and the hash of it.

Our own parts declare versions (`TokenizerInfo.revision`, `MetricInfo.version`, `LINE_VERSION`); tests/run/test_golden_numbers.py fails
where a number moves and none of them did. What comes from outside counts by its content: a checkpoint's bytes, every module of a plugin.

Which metrics were asked for is no part of it: the bytes that a decoder gets do not depend on them. Each kept row says by which
`metric_key` it was made, and a row of another key is made again.
"""

import hashlib
import json
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import files as distribution_files
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from avbench import registry
from avbench.files import slug
from avbench.metric import Metric
from avbench.types import DEFAULT_TASK, RunSpec
from avbench.weights.load import sha256_of

LINE_VERSION = 1  # raise it when clips, bytes, rows or intervals change on their way though no tokenizer, metric or split did
_NOT_INPUTS = ("metrics", "checkpoint", "generator")  # of a spec: asked for later, or counted by content


def facts_of(
    spec: RunSpec, *, name: str, revision: str, checksum: str, protocol: str, checkpoint: str | None, plugin: str | None
) -> dict[str, Any]:
    """What decides the clips that a run measures.

    name, revision: of the tokenizer. checksum, protocol: of the split. checkpoint, plugin: `content_of_checkpoint`, `code_of_tokenizer`.
    """
    return {
        "line": LINE_VERSION,
        "spec": {key: value for key, value in spec.facts().items() if key not in _NOT_INPUTS},
        "tokenizer": {"name": name, "revision": revision, "checkpoint": checkpoint, "plugin": plugin},
        "split": {"checksum": checksum, "protocol": protocol},
    }


def run_id(facts: dict[str, Any]) -> str:
    """`<tokenizer>_[<task>_]<split>_<hash>`."""
    spec = facts["spec"]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    task = "" if spec["task"] == DEFAULT_TASK else f"{spec['task']}_"
    return f"{slug(facts['tokenizer']['name'])}_{task}{slug(spec['split'])}_{digest}"


def metric_key(metric: Metric) -> str:
    """Changes whenever the metric's rows may: its version, its protocol, and a plugin's code."""
    info = metric.info
    facts = [info.version, info.protocol, code_of([type(metric).__module__])]
    return f"{info.version}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"


def content_of_checkpoint(spec: RunSpec) -> str | None:
    """sha256 (hex) over the bytes of the file, or of every file of the folder, that --checkpoint names; None without one."""
    if spec.checkpoint is None:
        return None
    digest = hashlib.sha256()
    for path in registry.checkpoint_paths(spec.tokenizer, spec.checkpoint):
        digest.update(b"nothing" if path is None else _content(path).encode())
    return digest.hexdigest()


def code_of_tokenizer(name: str) -> str | None:
    """`code_of` the modules that the tokenizer called `name` comes from; None where all are avbench's own."""
    return code_of(registry.modules_behind(name))


def code_of(modules: Iterable[str]) -> str | None:
    """sha256 (hex) over all that comes with imported modules from outside avbench; None where there is none.

    Of a module in a package: every .py of the package. Of a single file: it, and every imported module from its folder.
    """
    files: dict[Path, str] = {}
    for name in modules:
        if name.partition(".")[0] not in ("avbench", "builtins"):
            files |= _files(sys.modules[name])
    if not files:
        return None
    digest = hashlib.sha256()
    for path, label in sorted(files.items(), key=lambda item: (item[1], item[0])):
        digest.update(label.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _files(module: ModuleType) -> dict[Path, str]:
    """Every file that comes with `module` -> its name below the plugin's folder (the plugin may be moved)."""
    top = sys.modules.get(module.__name__.partition(".")[0], module)
    roots = [Path(folder) for folder in getattr(top, "__path__", ())]  # only a package has one
    if roots:
        return {path: str(path.relative_to(root)) for root in roots for path in root.rglob("*.py") if path.is_file()}
    if module.__file__ is None:
        return {}
    own = Path(module.__file__).resolve()
    if own.is_relative_to(Path(sysconfig.get_path("purelib")).resolve()) or "site-packages" in own.parts:
        return {path: path.name for path in (own, *_installed_with(module.__name__))}
    theirs = [other for name, other in list(sys.modules.items()) if name.partition(".")[0] != "avbench"]
    loaded = [Path(found).resolve() for other in theirs if (found := getattr(other, "__file__", None)) and Path(found).is_absolute()]
    beside = [path for path in loaded if path.suffix == ".py" and path.is_relative_to(own.parent) and "site-packages" not in path.parts]
    return {path: str(path.relative_to(own.parent)) for path in (own, *beside)}


def _installed_with(module: str) -> list[Path]:
    """The other sources of the distribution that brought a single-file module."""
    names = packages_distributions().get(module, [])
    files = [Path(str(file.locate())) for name in names for file in distribution_files(name) or () if file.suffix == ".py"]
    return [path.resolve() for path in files if path.is_file()]


def _content(path: Path) -> str:
    if path.is_dir():
        listed = [(str(file.relative_to(path)), _content(file)) for file in sorted(path.rglob("*")) if file.is_file()]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return sha256_of(path)
