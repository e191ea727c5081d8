"""A run's clips, metric by metric: values of clips.jsonl and rows of features.npz, of bounded size and without pickles."""

import math
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avbench import sparse
from avbench.errors import AvbenchError
from avbench.files import open_regular
from avbench.run.finished import is_number, read_clips
from avbench.sparse import Rows

MAX_ROW_BYTES = 2**20  # of a clip's features: FVD's have 1.6 kB, a histogram over 16,384 codes 64 kB
MAX_FEATURE_BYTES = 4 * 2**30  # FVD of 15,000 clips has 0.05 GB, histograms over 8192 codes 0.5 GB
# What reading a damaged .npz raises.
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, SyntaxError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


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
        rows = read_clips(folder)
        ok = [row for row in rows if row["status"] == "ok"]
        metrics = tuple({name: value for name, value in row["metrics"].items() if is_number(value)} for row in ok)
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

    def features(self, metric: str, clips: list[str]) -> Rows:
        """(len(clips), ...) rows of `metric`. Raises AvbenchError where they do not fit the clips."""
        path = self.folder / "features.npz"
        try:
            with open_regular(path) as file, zipfile.ZipFile(file) as archive:
                rows = _read_rows(archive, metric, len(self.ids))
        except _DAMAGE as error:
            raise AvbenchError(f"{metric} of {path} cannot be read ({error}); run with --fresh") from error
        return rows[[self.position[clip] for clip in clips]]


def _read_rows(archive: zipfile.ZipFile, name: str, num_clips: int) -> Rows:
    """Rows of numbers, one for each of so many clips. ValueError otherwise."""
    rows: Rows
    if f"{name}~shape.npy" in archive.namelist():
        rows = sparse.rows_of({part: _read_array(archive, f"{name}~{part}.npy", num_clips) for part in sparse.PARTS})
    else:
        rows = _read_array(archive, f"{name}.npy", num_clips)
    if rows.ndim < 2 or rows.shape[0] != num_clips:
        raise ValueError(f"it has shape {rows.shape} for {num_clips} ok clips")
    return rows


def _read_array(archive: zipfile.ZipFile, name: str, num_clips: int) -> np.ndarray:
    """An array of numbers, whose header is looked at before anything is unpacked. ValueError otherwise."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        claimed = math.prod(shape) * dtype.itemsize
        if not np.issubdtype(dtype, np.number):
            raise ValueError(f"its numbers are of type {dtype}")
        if claimed > archive.getinfo(name).file_size:
            raise ValueError(f"its header claims shape {shape}, more than the file holds")
        if claimed > MAX_ROW_BYTES * max(num_clips, 1):
            raise ValueError(f"it has shape {shape}, more than any metric keeps of {num_clips} clips")
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _feature_names(path: Path) -> frozenset[str]:
    """Names in features.npz that are of a size to be read; none where there is no such file."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            sizes: Counter[str] = Counter()
            for entry in archive.infolist():
                sizes[entry.filename.removesuffix(".npy").partition("~")[0]] += entry.file_size
    except FileNotFoundError:
        return frozenset()
    except _DAMAGE as error:
        raise AvbenchError(f"{path} is damaged ({error}); run with --fresh") from error
    return frozenset(name for name, size in sizes.items() if size <= MAX_FEATURE_BYTES)
