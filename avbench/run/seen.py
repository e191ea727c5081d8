"""What a walled-in tokenizer sees: its code, its weights, the clips that something was fitted to. What it must not see: the split's clips,
other runs (a lossless tokenizer's bytes are the clips), and the programs that make clips."""

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import avbench
from avbench import registry
from avbench.data import splits
from avbench.data.source import Source
from avbench.data.splits import Split
from avbench.paths import cache_root, data_root
from avbench.types import RunSpec

MAKERS = ("ale_py",)  # packages that make a split's clips: an emulator with its games, and a clip's number, is the clip
OWN_CACHE = ("weights", "fitted")  # of the cache folder, what a tokenizer may need
OTHERS_CACHES = (("HF_HOME", "~/.cache/huggingface", "hub"), ("TORCH_HOME", "~/.cache/torch", "hub"))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Folders and files, real paths: for `walls.Walls`."""

    visible: tuple[Path, ...]
    hidden: tuple[Path, ...]


def seen(spec: RunSpec, split: Split, folder: Path) -> Seen:
    """Of a tokenizer that is to decode the kept bytes of the run in `folder`, made of `split`."""
    hidden = {*map(_real, _clips(split)), *map(_real, _makers())}
    visible = {_real(path) for path in (*_python(), *own_files(spec), *_caches(), *_fitted_to()) if path.exists()} - hidden
    hidden |= {_whole(_real(place), visible) for place in (folder, Path("runs"))}
    return Seen(visible=tuple(sorted(visible)), hidden=tuple(sorted(hidden)))


def own_files(spec: RunSpec) -> Iterator[Path]:
    """Where the tokenizer's code from outside avbench lies, and its checkpoints. Imports nothing of it."""
    known = registry.plugins("tokenizer")
    for part in registry.parts_of(spec.tokenizer):
        base = registry.parse_variants(part)[0]
        if ".py:" in part:
            file = Path(part.rpartition(":")[0])
            yield file.resolve().parent if file.exists() else file
        elif base in known and known[base].distribution != "avbench":
            yield from _package(known[base].entry_point.module.partition(".")[0])
    if spec.checkpoint is not None:
        yield from (path for path in registry.checkpoint_paths(spec.tokenizer, spec.checkpoint) if path is not None)


def comes_with(spec: RunSpec, metrics: Iterable[str]) -> list[str]:
    """The metrics, and the split, that were installed with the tokenizer: a ruler of its own maker."""
    bases = [registry.parse_variants(part)[0] for part in registry.parts_of(spec.tokenizer)]
    makers = {plugin.distribution for name, plugin in registry.plugins("tokenizer").items() if name in bases} - {"avbench"}
    named = {"metric": metrics, "split": [spec.split.partition("?")[0].partition("@")[0]]}
    return [
        f"{kind} {name}"
        for kind, names in named.items()
        for name, plugin in registry.plugins(kind).items()
        if name in names and plugin.distribution in makers
    ]


def size_of(paths: Iterator[Path]) -> int:
    """Bytes of files, and of all files below folders."""
    files = {_real(file) for path in paths for file in (path.rglob("*") if path.is_dir() else (path,)) if file.is_file()}
    return sum(file.stat().st_size for file in files)


def _python() -> Iterator[Path]:
    """The interpreter, its packages, and avbench with the folders that it links to."""
    yield from (Path(path) for path in (sys.prefix, sys.base_prefix, *sys.path) if path)
    package = Path(avbench.__file__).parent
    yield package
    yield from (link for link in package.iterdir() if link.is_symlink())


def _caches() -> Iterator[Path]:
    yield from (cache_root() / name for name in OWN_CACHE)
    yield from (Path(os.environ.get(name) or usual).expanduser() / part for name, usual, part in OTHERS_CACHES)


def _fitted_to() -> Iterator[Path]:
    """Prepared clips of the splits that some split of avbench calls its training split; other people's code is not asked."""
    own = [name for name, plugin in registry.plugins("split").items() if plugin.distribution == "avbench"]
    for name in {source.train_split for source in _sources(own) if source.train_split in own}:
        yield from (source.root for source in _sources((name,)))


def _sources(names: Iterable[str]) -> Iterator[Source]:
    for name in names:
        try:
            yield splits.find(name)
        except Exception:  # its data are not on this machine, or a plugin's is broken: nothing of it is shown
            continue


def _clips(split: Split) -> Iterator[Path]:
    yield from (split.root, cache_root() / "prepared", cache_root() / "reference-features", cache_root() / "tokens", data_root())
    if split.name.startswith("folder:"):
        yield Path(split.name.removeprefix("folder:").rpartition("?")[0] or split.name.removeprefix("folder:"))


def _makers() -> Iterator[Path]:
    for name in MAKERS:
        yield from _package(name)


def _package(name: str) -> list[Path]:
    """The folder or file of a top-level module, without importing it."""
    found = importlib.util.find_spec(name)
    if found is None:
        return []
    return [Path(place) for place in found.submodule_search_locations or [found.origin or ""] if place]


def _whole(place: Path, visible: set[Path]) -> Path:
    """The outermost folder around `place` that holds nothing visible: runs/ of runs/ID, a repository of results of one in it."""
    around = [folder for folder in (place, *place.parents) if not any(path == folder or folder in path.parents for path in visible)]
    return around[-1] if around else place


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path.expanduser()))
