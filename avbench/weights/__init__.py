"""Named pretrained files: find, fetch, verify.

    path("i3d-k400")    the file: from the folder AVBENCH_WEIGHTS, or the cache; fetched when first used, but for the largest
    pull("vggish")      fetch it now, whatever its source (`avbench weights pull vggish`)
    verify("vggish")    its sha256 again
    lacks(["vggish"])   what gets it, where it is neither here nor fetched when first used
    status()            rows of `avbench weights list`

Environment: AVBENCH_WEIGHTS, a folder of files with the catalog's file names, wins over everything; AVBENCH_OFFLINE=1 forbids
fetching. Readers that run nothing found in a file: `load_array_pickle`, `load_torch`, `load_old_torch`, `load_safetensors`.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avbench import locks
from avbench.errors import AvbenchError, unknown_name
from avbench.files import disk_errors
from avbench.metric import MetricUnavailable
from avbench.paths import cache_root
from avbench.weights.catalog import CATALOG, HubSource, ManualSource, PipSource, UrlSource, WeightsFile
from avbench.weights.fetch import fetch as _fetch
from avbench.weights.load import load_array_pickle, load_old_torch, load_safetensors, load_torch, sha256_of

__all__ = [
    "CATALOG",
    "HubSource",
    "ManualSource",
    "PipSource",
    "UrlSource",
    "WeightsFile",
    "WeightsStatus",
    "WeightsUnavailable",
    "is_official",
    "lacks",
    "load_array_pickle",
    "load_old_torch",
    "load_safetensors",
    "load_torch",
    "path",
    "pull",
    "status",
    "verify",
]


class WeightsUnavailable(AvbenchError, MetricUnavailable):
    """A pretrained file is not on this machine; the text gives the reason and the command that gets it."""


_not_to_be_had: dict[tuple[str, Path], str] = {}  # what this process has tried in vain, and why


@dataclass(frozen=True, kw_only=True)
class WeightsStatus:
    """One row of `avbench weights list`."""

    name: str
    present: Path | None  # where it lies on this machine
    size: int | None  # bytes, where known
    pin: str  # "sha256 1234abcd", "sha256 starts 1234abcd" or "not pinned"
    licence: str
    source: str
    used_by: str


def path(name: str, *, fetch: bool = True) -> Path:
    """The file called `name`, verified. Raises WeightsUnavailable where it is absent, AvbenchError where it is not the file it should be.

    fetch: get it now if it is not here, unless it is one that is fetched on request only (`WeightsFile.on_request`). What could not be
    had is not tried again by this process: without a network each try waits for the look-up of a name.
    """
    item = _item(name)
    found = _find(item)
    if found is not None:
        _check(item, found)
        return found
    if not fetch or item.on_request:
        raise WeightsUnavailable(_absent(item, "it is not on this machine"))
    if (name, cache_root()) in _not_to_be_had:
        raise WeightsUnavailable(_not_to_be_had[name, cache_root()])
    try:
        return pull(name)
    except WeightsUnavailable as error:
        if _offline():
            raise
        _not_to_be_had[name, cache_root()] = str(error)
        print(error, file=sys.stderr, flush=True)
        raise


def pull(name: str, progress: bool = True) -> Path:
    """Fetch the file called `name` into the cache, verify it, and return its path. A verified file that is there is kept.

    Safe to call from many processes at once: one fetches, the others wait. Raises WeightsUnavailable with the reason.
    """
    item = _item(name)
    target = _cached(item)
    with disk_errors(target.parent, f"run `avbench weights pull {name}` again"):
        return _pull(item, target, progress)


def _pull(item: WeightsFile, target: Path, progress: bool) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with locks.alone(target.with_name(f"{target.name}.lock"), f"waiting for another process that fetches {item.name} ..."):
        for stale in target.parent.glob(f".{item.name}.*"):  # of a pull that was killed: whoever has the lock is alone
            shutil.rmtree(stale, ignore_errors=True)
        if target.is_file():
            _check(item, target)
            return target
        if _offline():
            raise WeightsUnavailable(_absent(item, "AVBENCH_OFFLINE is set, so nothing is fetched"))
        if progress:
            print(f"fetching weights {item.name} ({item.source}), once", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{item.name}.") as scratch:
            _fetch_verified(item, Path(scratch), progress).replace(target)
    return target


def verify(name: str) -> None:
    """Check the sha256 of the file called `name` on this machine. Raises WeightsUnavailable where absent, AvbenchError where wrong."""
    path(name, fetch=False)


def is_official(names: Sequence[str], files: Sequence[Path], sha256: str) -> bool:
    """Whether `files` are what the catalog calls one of `names`: by their sha256, or by lying where the catalog looks for it.

    A config proves nothing: anybody's weights may have the official one.
    """
    items = [_item(name) for name in names]
    pinned = any(item.sha256 is not None and sha256.startswith(item.sha256) for item in items)
    places = {place.resolve() for item in items for place in _places(item)}
    return pinned or [file.resolve() in places for file in files] == [True]


def lacks(names: Sequence[str]) -> str | None:
    """The command that gets those of the files that are neither here nor fetched when first used; None where there are none of these."""
    items = [item for name in names if _find(item := _item(name)) is None and (item.on_request or _offline())]
    return f"avbench weights pull {' '.join(item.name for item in items)}" if items else None


def status() -> list[WeightsStatus]:
    """One row per file of the catalog; looks only whether files exist, hashes nothing."""
    return [_status(item) for item in CATALOG.values()]


def _fetch_verified(item: WeightsFile, scratch: Path, progress: bool) -> Path:
    try:
        fetched = _fetch(item, scratch, progress=progress)
    except AvbenchError as error:
        raise WeightsUnavailable(_absent(item, str(error))) from error
    found = sha256_of(fetched)
    if item.sha256 is not None and not found.startswith(item.sha256):
        raise AvbenchError(f"{item.source} gave a file with sha256 {found}, expected {item.sha256}: it was not kept")
    return fetched


def _check(item: WeightsFile, file: Path) -> None:
    """Raise AvbenchError unless `file` has the catalog's sha256. A wrong file of the cache is moved aside, a user's own is left alone."""
    if item.sha256 is None:
        return
    found = sha256_of(file)
    if found.startswith(item.sha256):
        return
    if file == _cached(item):
        aside = file.with_name(f"{file.name}.wrong")
        file.replace(aside)
        raise AvbenchError(
            f"{file} has sha256 {found}, expected {item.sha256}; moved to {aside.name}: run `avbench weights pull {item.name}` again"
        )
    raise AvbenchError(f"{file} has sha256 {found}, expected {item.sha256}: replace it, or unset AVBENCH_WEIGHTS")


def _item(name: str) -> WeightsFile:
    if name not in CATALOG:
        raise unknown_name("weights", name, CATALOG)
    return CATALOG[name]


def _find(item: WeightsFile) -> Path | None:
    return next((file for file in _places(item) if file.is_file()), None)


def _places(item: WeightsFile) -> list[Path]:
    own = os.environ.get("AVBENCH_WEIGHTS")
    return [*([Path(own) / item.file] if own else []), _cached(item)]


def _cached(item: WeightsFile) -> Path:
    return cache_root() / "weights" / item.file


def _offline() -> bool:
    return os.environ.get("AVBENCH_OFFLINE", "0") not in ("", "0")


def _absent(item: WeightsFile, reason: str) -> str:
    by_hand = f"put {item.file} into a folder and set AVBENCH_WEIGHTS to it"
    get = by_hand if isinstance(item.source, ManualSource) else f"run `avbench weights pull {item.name}`, or {by_hand}"
    return f"weights {item.name} ({item.source}) are missing: {reason}; {get}"


def _status(item: WeightsFile) -> WeightsStatus:
    pin = "not pinned" if item.sha256 is None else f"sha256 {'' if item.pinned else 'starts '}{item.sha256[:8]}"
    return WeightsStatus(
        name=item.name, present=_find(item), size=item.size, pin=pin, licence=item.licence, source=str(item.source), used_by=item.used_by
    )
