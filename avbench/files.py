"""Files on disk: written whole or not at all, opened only where they are ordinary files, and a full disk said in words."""

import contextlib
import errno
import gzip
import hashlib
import json
import math
import os
import re
import secrets
import stat
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from avbench.errors import AvbenchError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_LINE_BYTES = 2**20  # of a file of lines; a real line has about 600
MAX_NUMBER = 1e100  # of JSON of unknown origin
MAX_DIGITS = 20  # of an integer of it, its sign included: those of 64 bits (seeds, sizes)
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@contextlib.contextmanager
def atomic(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file that takes `path`'s place once it is written whole and on disk. `file.name` is where it lies until then.

    Its permissions are what the umask says, as for any file that is opened. Text is UTF-8.
    """
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.part")
    encoding = None if "b" in mode else "utf-8"
    try:
        with part.open(mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def disk_errors(where: Path, then: str) -> Iterator[None]:
    """Turn a full or unwritable disk below `where` into an AvbenchError; `then` says what to do after mending it ("repeat the command")."""
    try:
        yield
    except OSError as error:
        if not is_disk_error(error):
            raise
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise AvbenchError(f"no space left for {where} ({reason}); free some space and {then}") from error
        raise AvbenchError(f"{where} cannot be written ({reason}); make it writable or choose another folder, and {then}") from error


def is_disk_error(error: BaseException) -> bool:
    """Whether a disk is full, or does not let us write."""
    return isinstance(error, OSError) and error.errno in (*_FULL, *_UNWRITABLE)


def slug(name: str) -> str:
    """`name` as part of a path: no separators, no leading dot, at most 60 characters; of a longer one both ends and a hash."""
    clean = re.sub(r"[^A-Za-z0-9@+._-]+", "-", name).strip("-.")
    return clean if len(clean) <= 60 else f"{clean[:30]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}-{clean[-22:]}"


def regular(path: Path) -> Path:
    """`path`, if it is an ordinary file: a fifo or a device would block, or never end. Raises AvbenchError for anything else."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise AvbenchError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(mode):
        raise AvbenchError(f"{path} is a {_kind(mode)}, not a file")
    return path


class NotRegularError(OSError):
    """`strerror` says what it is instead."""


def open_regular(path: Path) -> BufferedReader:
    """`path` for reading. Raises NotRegularError for what is no ordinary file, OSError as `open` does.

    For files that may be swapped meanwhile: what is opened is what was looked at.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):  # a socket cannot be opened, opening a device may do something
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode):
            return file
        file.close()
    raise NotRegularError(errno.EINVAL, f"is a {_kind(mode)}, not a file", os.fspath(path))


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """What is in an ordinary file. Raises AvbenchError where it is another thing, cannot be read, or has more than `max_bytes`."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise AvbenchError(f"{path} is too large for what it is ({size:,} bytes)")
        return file.read(max_bytes)


def read_lines(path: Path, max_bytes: int) -> Iterator[bytes]:
    """The lines of an ordinary file, one at a time; one of more than MAX_LINE_BYTES comes in pieces. Raises as `read_bytes`."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise AvbenchError(f"{path} is too large for what it is ({size:,} bytes)")
        while line := file.readline(MAX_LINE_BYTES):
            yield line


def read_gzip_lines(path: Path, max_bytes: int) -> Iterator[bytes]:
    """`read_lines` of a gzip file that unpacks to at most `max_bytes`. Raises AvbenchError as soon as it goes on beyond."""
    with _opened(path) as file, gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
        left = max_bytes
        try:
            while line := unpacked.readline(MAX_LINE_BYTES):
                left -= len(line)
                if left < 0:
                    raise AvbenchError(f"{path} is too large for what it is (over {max_bytes:,} bytes unpacked)")
                yield line
        except (EOFError, zlib.error) as error:
            raise AvbenchError(f"{path} is damaged: {error}") from error


def parse_json(text: str | bytes) -> Any:
    """JSON of unknown origin. Raises ValueError where it is none, or nested too deeply.

    A number that no measurement comes near (1e400, an integer of 400 digits, NaN) is read as NaN, one of 1e-320 as 0: whoever looks
    whether a number is finite has looked at everything, and sums, squares and logarithms of what is left are finite too.
    """
    text = text.decode() if isinstance(text, bytes) else text
    try:
        return json.loads(text, parse_float=_float, parse_int=_integer, parse_constant=lambda _: math.nan)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(file: Path, max_bytes: int) -> dict[str, Any]:
    """The JSON object in `file` (see `parse_json`). Raises AvbenchError where it is no ordinary file, too large, damaged, or no object."""
    try:
        content = parse_json(read_bytes(file, max_bytes))
    except ValueError as error:
        raise AvbenchError(f"{file} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise AvbenchError(f"{file} holds a {type(content).__name__} where an object was expected")
    return content


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """`open_regular`, with what is wrong as AvbenchError."""
    try:
        with open_regular(path) as file:
            yield file
    except NotRegularError as error:
        raise AvbenchError(f"{path} {error.strerror}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise AvbenchError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _float(text: str) -> float:
    value = float(text)
    if abs(value) < 1 / MAX_NUMBER:
        return 0.0
    return value if abs(value) <= MAX_NUMBER else math.nan


def _integer(text: str) -> float:
    return int(text) if len(text) <= MAX_DIGITS else math.nan


def _kind(mode: int) -> str:
    tests = {"folder": stat.S_ISDIR, "fifo": stat.S_ISFIFO, "socket": stat.S_ISSOCK, "device": lambda m: stat.S_ISCHR(m) or stat.S_ISBLK(m)}
    return next((name for name, is_one in tests.items() if is_one(mode)), "special file")
