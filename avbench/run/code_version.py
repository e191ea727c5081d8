"""Which code made a number: a hash over the source that a tokenizer's clips and a run's metrics pass through, and nothing else.

A new baseline or metric beside them leaves it alone, so runs at hand stay what `avbench run` would make again.
"""

import ast
import hashlib
import inspect
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
STRAIGHT_LINE = ("types.py", "run/payload.py", "run/reconstruct.py", "run/measure.py", "stats/*.py", "data/*.py")  # every number passes through these
FOLLOWED = ("avbench.nn", "avbench.tokenizers", "avbench.metrics", "avbench.generate", "avbench.train")  # whose imports are followed


def code_version(tokenizer: object, metrics: Iterable[object]) -> str:
    """First 12 hex digits of a sha256 over the sources behind `tokenizer` (and the parts it holds), `metrics` and the straight line."""
    made_by = [tokenizer, *getattr(tokenizer, "__dict__", {}).values(), *metrics]
    modules = {type(thing).__module__ for thing in made_by if _is_ours(type(thing).__module__)}
    paths = {path for pattern in STRAIGHT_LINE for path in ROOT.glob(pattern)} | _sources(modules) | _plugins([tokenizer, *metrics])
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _sources(modules: set[str]) -> set[Path]:
    """The files of `modules` and of all that they import, at the top or inside functions, as far as FOLLOWED goes."""
    found: dict[str, Path] = {}
    left = set(modules)
    while left:
        name = left.pop()
        path = _file(name)
        if path is None or name in found:
            continue
        found[name] = path
        left |= _imported(path)
    return set(found.values())


@cache
def _imported(path: Path) -> frozenset[str]:
    """Modules of FOLLOWED that the source at `path` names in import statements."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in names if _is_ours(name))


def _is_ours(module: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in FOLLOWED)


@cache
def _file(module: str) -> Path | None:
    """A module's source; None for a package's folder and for a name inside a module (`from module import name`)."""
    parts = module.split(".")[1:]
    for path in (ROOT.joinpath(*parts).with_suffix(".py"), ROOT.joinpath(*parts, "__init__.py")):
        if path.is_file():
            return path
    return None


def _plugins(things: list[object]) -> set[Path]:
    """The files that define classes from outside this package."""
    outside = [type(thing) for thing in things if not type(thing).__module__.startswith("avbench.")]
    files = [inspect.getsourcefile(kind) for kind in outside]
    return {Path(file) for file in files if file}
