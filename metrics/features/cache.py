"""Features of reference clips, kept on disk: the second run on a split computes those of the reconstructions only.

And features of the clips at hand, kept in memory: FVD, class accuracy and novelty ask the same network about the same batch.
"""

import hashlib
import io
import os
import sys
import weakref
from collections.abc import Callable
from functools import cache as once
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avbench.files import atomic, open_regular
from avbench.types import ClipBatch

DIGEST_BYTES = 32
MAX_FILE_BYTES = 64 << 20


def cached_features(cache: Path | None, key: str, ids: tuple[str, ...], extract: Callable[[list[int]], Tensor]) -> Tensor:
    """Features (B, ...) of the clips `ids`, on the CPU: read from `cache`/`key`, or extracted and kept.

    cache: a folder unique to split checksum and protocol (MetricOptions.cache); None: extract everything, keep nothing.
    key: names the extractor, its weights' sha256 and the version of its preprocessing; it becomes a folder's name.
    extract: gets the positions in `ids` that are missing, gives their features (len(positions), ...) in that order.
    """
    if cache is None or len(set(ids)) != len(ids) or not ids:
        return extract(list(range(len(ids)))).cpu() if ids else torch.empty(0)
    files = [_file(cache / _folder_name(key), clip_id) for clip_id in ids]
    kept = [_read(file) for file in files]
    missing = [position for position, features in enumerate(kept) if features is None]
    if missing:
        for position, features in zip(missing, extract(missing).cpu().numpy(), strict=True):
            _write(files[position], features)
            kept[position] = features
    return torch.from_numpy(np.stack([features for features in kept if features is not None]))


def side_features(
    clips: ClipBatch, content: Tensor, key: str, extract: Callable[[Tensor], Tensor], *, cache: Path | None, reference: bool
) -> Tensor:
    """`extract(content)` (B, ...) on the CPU, of one side of a distance; content: the clips' video or audio.

    The reference's are kept in `cache` by the clips' ids, the other side's last batch in memory.
    """
    if not reference:
        return features_of(content, key, extract)
    ids = clips.ids or ("",) * len(clips)  # equal ids: the cache declines to keep them
    return cached_features(cache, key, ids, lambda missing: extract(content[missing]))


def _folder_name(key: str) -> str:
    readable = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in key)
    return f"{readable[:80]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _file(folder: Path, clip_id: str) -> Path:
    # Hashed: clip ids hold slashes, and may come from file names that are too long or hostile.
    return folder / f"{hashlib.sha256(clip_id.encode()).hexdigest()[:32]}.npy"


def _read(file: Path) -> np.ndarray | None:
    """The kept features; None where there are none, or where they are not what was written (they are then computed again)."""
    try:
        with open_regular(file) as opened:
            if os.fstat(opened.fileno()).st_size > MAX_FILE_BYTES:
                return None
            data = opened.read()
        kept, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
        if hashlib.sha256(kept).digest() != digest:
            return None
        return np.load(io.BytesIO(kept), allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError):
        return None


def _write(file: Path, features: np.ndarray) -> None:
    """An array as NumPy saves it, and its sha256. Whole or not at all, so that processes may share the folder and a run may be
    killed at any time. A cache that cannot be written is no cache."""
    saved = io.BytesIO()
    np.save(saved, features)
    data = saved.getvalue()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(file) as out:
            out.write(data + hashlib.sha256(data).digest())
    except OSError as error:
        _note_once(str(file.parent.parent), error.strerror or str(error))


@once
def _note_once(folder: str, reason: str) -> None:
    print(f"features of reference clips are not kept: {folder} cannot be written ({reason})", file=sys.stderr, flush=True)


_recent: dict[str, tuple[weakref.ref[Tensor], Tensor]] = {}


def features_of(content: Tensor, key: str, extract: Callable[[Tensor], Tensor]) -> Tensor:
    """`extract(content)` on the CPU; the last batch's is kept. key: names the network, its weights and preprocessing, as in `cache`."""
    name = f"{key} {content.device}"
    kept = _recent.get(name)
    if kept is None or kept[0]() is not content:
        kept = (weakref.ref(content), extract(content).cpu())
        _recent[name] = kept
    return kept[1]
