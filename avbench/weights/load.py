"""Reading pretrained files without running what is in them, and without allocating more than the file can hold."""

import hashlib
import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.files import parse_json, read_json, regular

MAX_FILE_BYTES = 1 << 35  # 32 GiB: no pretrained file of the field comes near, and hashing more takes minutes
MAX_PICKLE_BYTES = 1 << 30
MAX_HEADER_BYTES = 100_000_000  # of a safetensors file, by its format
# An archive that was packed again may be smaller than its tensors. Not much smaller.
MOST_MEMORY_A_BYTE, SPARE_MEMORY = 2, 1 << 26
PREFIXES = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before every name
DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}
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
    torch_file(path)
    source: Path | io.BytesIO = path if sha256 is None else io.BytesIO(_read_checked(path, sha256))
    try:
        with torch.serialization.safe_globals(list(safe_globals)):
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # a crafted file can fail in any way; none of them may look like our own bug
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise AvbenchError(f"{path} refused: {reason[0]}") from error


class _OldUnpickler(pickle.Unpickler):
    """Admits tensors, their storages and plain containers; any other global is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch", "FloatStorage"): torch.FloatStorage,
            ("torch", "LongStorage"): torch.LongStorage,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; only tensors and plain containers are admitted")
        return known[module, name]


class _OldPickle:
    """What torch.load asks of a module that unpickles."""

    Unpickler = _OldUnpickler

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        return _OldUnpickler(file, **options).load()


def load_old_torch(path: Path, sha256: str) -> Any:
    """A PyTorch file from the years of Python 2, which weights_only=True cannot read. sha256: 64 digits, checked first.

    Raises AvbenchError where it is another file, or asks for more than tensors.
    """
    if len(sha256) != 64:
        raise ValueError("a pickle is only read against a whole sha256")
    source = io.BytesIO(_read_checked(path, sha256, MAX_PICKLE_BYTES))
    try:
        return torch.load(source, map_location="cpu", weights_only=False, pickle_module=_OldPickle)
    except Exception as error:  # a crafted file can fail in any way; none of them may look like our own bug
        raise AvbenchError(f"{path} refused: {error}") from error


def torch_file(path: Path) -> Path:
    """`path`, if it is an ordinary file, and no archive whose records claim more than it can hold. Raises AvbenchError otherwise."""
    limit = MOST_MEMORY_A_BYTE * _size(path) + SPARE_MEMORY
    try:
        if not zipfile.is_zipfile(path):
            return path
        with zipfile.ZipFile(path) as archive:
            claimed = sum(record.file_size for record in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise AvbenchError(f"{path} refused: {error}") from error
    if claimed > limit:
        raise AvbenchError(f"{path} refused: it claims {claimed:,} bytes of tensors, more than the file can hold ({limit:,})")
    return path


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU. Raises AvbenchError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _size(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise AvbenchError(f"{path} is not a readable safetensors file: {error}") from error


def safetensors_header(path: Path) -> dict[str, Tensor]:
    """Name -> a tensor on the meta device of the type and shape that the file holds; nothing else of it is read.

    Raises AvbenchError where it is no such file, or shorter than its tensors.
    """
    size = _size(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise ValueError(f"a header of {length:,} bytes")
            header = parse_json(file.read(length))
        header.pop("__metadata__", None)
        found = {name: torch.empty(facts["shape"], dtype=DTYPES[facts["dtype"]], device="meta") for name, facts in header.items()}
        needed = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
        if needed > size:
            raise ValueError(f"it claims {needed:,} bytes of tensors and has {size:,}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise AvbenchError(f"{path} is not a readable safetensors file: {error}") from error
    return found


def tensors(content: Any, where: Path) -> dict[str, Tensor]:
    """`content` as a state dict, without `module.` and `_orig_mod.` where all its names begin so. Raises AvbenchError where it is none."""
    if not isinstance(content, Mapping) or not content:
        raise AvbenchError(f"{where} holds a {type(content).__name__}, not a state dict of tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise AvbenchError(f"{where} holds {str(name)[:80]!r} of type {type(value).__name__} where a state dict has tensors")
    state = dict(content)
    while (prefix := next((start for start in PREFIXES if all(name.startswith(start) for name in state)), None)) is not None:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def indexed_files(index: Path) -> list[Path]:
    """The files of a sharded checkpoint, from its `model.safetensors.index.json`. Raises AvbenchError where one lies elsewhere."""
    names = read_json(index, MAX_HEADER_BYTES).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise AvbenchError(f"{index} has no weight_map of names and files")
    files = sorted(set(names.values()))
    for name in files:
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}\.(safetensors|bin)", name):
            raise AvbenchError(f"{index} names a file {name[:100]!r}; shards are .safetensors or .bin files of the same folder")
    return [index.parent / name for name in files]


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex. Raises AvbenchError where it is no ordinary file or too large to be one of weights."""
    _size(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    size = regular(path).stat().st_size
    if size > MAX_FILE_BYTES:
        raise AvbenchError(f"{path} has {size:,} bytes, more than any file of weights")
    return size


def _read_checked(path: Path, sha256: str, limit: int | None = None) -> bytes:
    if _size(path) > (limit or MAX_FILE_BYTES):
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
