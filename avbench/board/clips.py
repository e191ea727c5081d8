"""Reading a run's clips back: clips.jsonl and features.npz, of bounded size and without pickles."""

import json
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avbench.errors import AvbenchError

MAX_LINE = 2**20  # characters; a real line has about 600
MAX_FEATURE_BYTES = 4 * 2**30  # FVD of 15,000 clips has 0.05 GB, histograms over 8192 codes 0.5 GB


@dataclass(frozen=True, kw_only=True)
class RunClips:
    """The ok clips of a run, in the order of clips.jsonl, which is the order of the rows in features.npz."""

    folder: Path
    ids: tuple[str, ...]
    metrics: tuple[dict[str, float], ...]
    names: frozenset[str]  # metrics with a value for some clip
    feature_names: frozenset[str]
    position: dict[str, int] = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> "RunClips":
        """Raises AvbenchError where clips.jsonl is damaged."""
        rows = read_rows(folder / "clips.jsonl")
        ok = [row for row in rows if row["status"] == "ok"]
        metrics = tuple({name: value for name, value in row["metrics"].items() if _is_number(value)} for row in ok)
        ids = tuple(row["id"] for row in ok)
        return cls(
            folder=folder,
            ids=ids,
            metrics=metrics,
            names=frozenset(name for values in metrics for name in values),
            feature_names=_feature_names(folder / "features.npz"),
            position={clip: i for i, clip in enumerate(ids)},
        )

    def has_values(self, metric: str) -> bool:
        """Whether some clip has a number for `metric`."""
        return metric in self.names

    def has_features(self, metric: str) -> bool:
        """Whether features.npz has rows for `metric`."""
        return metric in self.feature_names

    def values(self, metric: str, clips: list[str]) -> np.ndarray:
        """(len(clips),) float64, NaN for a clip without a value."""
        return np.array([self.metrics[self.position[clip]].get(metric, math.nan) for clip in clips])

    def features(self, metric: str, clips: list[str]) -> np.ndarray:
        """(len(clips), ...) rows of `metric`. Raises AvbenchError where they do not fit the clips."""
        path = self.folder / "features.npz"
        try:
            with zipfile.ZipFile(path) as archive:
                rows = _read_array(archive, f"{metric}.npy")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise AvbenchError(f"{metric} of {path} cannot be read ({error}); run with --fresh") from error
        if rows.ndim < 2 or len(rows) != len(self.ids) or not np.issubdtype(rows.dtype, np.number):
            raise AvbenchError(f"{metric} of {path} has shape {rows.shape} for {len(self.ids)} ok clips")
        return rows[[self.position[clip] for clip in clips]]


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array of an npz file, after its header was found to claim no more than the file holds. ValueError otherwise."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if math.prod(shape) * dtype.itemsize > archive.getinfo(name).file_size:
            raise ValueError(f"its header claims shape {shape}, more than the file holds")
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every line of a clips.jsonl, each clip once: {"id", "status": "ok" | "failed", "metrics", ...}. Raises AvbenchError where damaged."""
    rows: dict[str, dict[str, Any]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            number = 0
            while line := lines.readline(MAX_LINE):
                number += 1
                row = _parse_row(line, f"{path} line {number}")
                if row["id"] in rows:
                    raise AvbenchError(f"{path} line {number} names clip {row['id']!r} again; run with --fresh")
                rows[row["id"]] = row
    except (OSError, UnicodeDecodeError) as error:
        raise AvbenchError(f"{path} cannot be read: {error}") from error
    return list(rows.values())


def _parse_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AvbenchError(f"{where} is not valid JSON; run with --fresh") from error
    sound = isinstance(row, dict) and isinstance(row.get("id"), str) and row.get("status") in ("ok", "failed")
    if not sound or not isinstance(row.get("metrics", {}), dict):
        raise AvbenchError(f"{where} is not a clip's row (id, status, metrics); run with --fresh")
    return {"metrics": {}} | row


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _feature_names(path: Path) -> frozenset[str]:
    """Names in features.npz that are of a size to be read; none where there is no such file."""
    if not path.exists():
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise AvbenchError(f"{path} is damaged ({error}); run with --fresh") from error
    return frozenset(name for name, size in sizes.items() if size <= MAX_FEATURE_BYTES)
