"""Rows that are nearly all zeros, such as a clip's histogram over 16,384 entries, kept as their numbers and positions.

10,000 such rows are 0.65 GB as an array and 30 MB as a `scipy.sparse.csr_array`; whoever needs all of them at once takes these.
"""

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array, vstack

Rows = np.ndarray | csr_array  # (N, ...); a csr_array is (N, D)
PARTS = ("data", "indices", "indptr", "shape")  # of a csr_array in an npz file, as "NAME~data", ...
WORTH = 0.25  # of the numbers that are not zero: with more, an array is no larger


def compact(rows: np.ndarray) -> Rows:
    """`rows`, as csr_array where that is smaller. Exact."""
    if rows.ndim != 2 or rows.shape[1] < 64 or np.count_nonzero(rows) > WORTH * rows.size:
        return rows
    return csr_array(rows)


def dense(rows: Rows) -> np.ndarray:
    """As an array."""
    return rows if isinstance(rows, np.ndarray) else np.asarray(rows.toarray())


def total(rows: Rows) -> np.ndarray:
    """(1, D) float64: the sum of the rows. Counts below 2**53 stay exact."""
    return np.asarray(rows.sum(axis=0, dtype=np.float64)).reshape(1, -1)


def joined(pieces: list[Rows]) -> Rows:
    """One piece below another; sparse if one of them is."""
    arrays = [piece for piece in pieces if isinstance(piece, np.ndarray)]
    if len(arrays) == len(pieces):
        return np.concatenate(arrays)
    return csr_array(vstack([csr_array(piece) for piece in pieces], format="csr"))


def present(rows: Rows) -> np.ndarray:
    """(N,) True where a row is all numbers: a metric that failed on a clip leaves NaN."""
    if isinstance(rows, np.ndarray):
        return np.asarray(np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)) if rows.size else np.zeros(len(rows), dtype=bool)
    return np.asarray(np.isfinite(np.asarray(rows.sum(axis=1, dtype=np.float64))))


def arrays_of(features: Mapping[str, Rows]) -> dict[str, np.ndarray]:
    """What an npz file holds of them."""
    arrays: dict[str, np.ndarray] = {}
    for name, rows in features.items():
        if isinstance(rows, np.ndarray):
            arrays[name] = rows
        else:
            arrays |= {f"{name}~{part}": np.asarray(getattr(rows, part)) for part in PARTS}
    return arrays


def rows_of(parts: Mapping[str, np.ndarray]) -> csr_array:
    """The rows of the arrays `PARTS`. Raises ValueError where they do not fit each other."""
    shape = tuple(int(side) for side in parts["shape"])
    indptr, indices, data = parts["indptr"], parts["indices"], parts["data"]
    fits = len(shape) == 2 and indptr.shape == (shape[0] + 1,) and data.shape == indices.shape == (int(indptr[-1]),)
    if not fits or indptr[0] != 0 or (np.diff(indptr) < 0).any() or (indices.size and not 0 <= indices.min() <= indices.max() < shape[1]):
        raise ValueError("the parts of its sparse rows do not fit each other")
    return csr_array((data, indices, indptr), shape=shape)
