"""Reading pretrained files without running what is in them."""

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avbench.errors import AvbenchError

MAX_PICKLE_BYTES = 1 << 30
# NumPy's own array rebuilder, asked from NumPy: its module moved between NumPy 1 and 2.
_REBUILD_ARRAY = np.empty(0).__reduce__()[0]
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _REBUILD_ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _REBUILD_ARRAY,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Admits arrays, dtypes and plain containers; any other global is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; only NumPy arrays and plain containers are admitted")
        return _ADMITTED[module, name]


def load_array_pickle(path: Path, sha256: str) -> dict[str, Any]:
    """Nested dict of numeric arrays from a pickle whose sha256 is `sha256` (64 digits). Raises AvbenchError for anything else.

    The bytes that are hashed are the bytes that are unpickled, and hashing comes first.
    """
    if len(sha256) != 64:
        raise ValueError("a pickle is only read against a whole sha256")
    data = _read_checked(path, sha256, MAX_PICKLE_BYTES)
    try:
        content = _ArrayUnpickler(io.BytesIO(data)).load()
        return _arrays(content)
    except Exception as error:  # a crafted pickle can fail in any way; none of them may look like our own bug
        raise AvbenchError(f"{path} refused: {error}") from error


def load_torch(path: Path, sha256: str | None = None, safe_globals: Sequence[Any] = ()) -> Any:
    """A PyTorch file on the CPU, read with weights_only=True. Raises AvbenchError where it holds code or is damaged.

    sha256: checked before reading, if given (its first digits, 8 or more, where only those are known).
    safe_globals: the few classes admitted beyond tensors.
    """
    source: Path | io.BytesIO = path if sha256 is None else io.BytesIO(_read_checked(path, sha256))
    try:
        with torch.serialization.safe_globals(list(safe_globals)):
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise AvbenchError(f"{path} refused: {reason[0]}") from error


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU. Raises AvbenchError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise AvbenchError(f"{path} is not a readable safetensors file: {error}") from error


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_checked(path: Path, sha256: str, limit: int | None = None) -> bytes:
    if limit is not None and path.stat().st_size > limit:
        raise AvbenchError(f"{path} has {path.stat().st_size} bytes, more than any file of its kind ({limit})")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if len(sha256) < 8 or not found.startswith(sha256):
        raise AvbenchError(f"{path} has sha256 {found}, expected {sha256}: not the file that was checked; remove it and pull again")
    return data


def _arrays(content: Any) -> Any:
    """`content` as plain dicts of arrays; object arrays and anything that is not an array are refused."""
    if isinstance(content, Mapping):
        return {str(key): _arrays(value) for key, value in content.items()}
    if isinstance(content, np.ndarray) and not content.dtype.hasobject:
        return content
    raise ValueError(f"it holds a {type(content).__name__} where an array or a dict was expected")
