"""One process at a time in a folder: the kernel's lock on a file, which is free again when its process ends, however it ends."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = frozenset([errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])  # NFS, FUSE, some cluster disks

_held: set[int] = set()  # descriptors of this process's locks


def _forget() -> None:
    """In a forked child: a lock is held until the last copy of its descriptor is closed, and the child may live on."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def alone(path: Path, waiting: str) -> Iterator[None]:
    """Alone at work as long as this lasts; another process that asks for the same `path` waits, and says so (`waiting`) on stderr.

    Where there are no locks it goes on with a note. The file's permissions are the umask's, so that a group may share it.
    Raises OSError where the file cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    _held.add(descriptor)
    try:
        try:
            _lock(descriptor, waiting)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"{path.parent} cannot be locked ({error.strerror}): let no other process write there now", file=sys.stderr, flush=True)
        yield
    finally:
        if descriptor in _held:  # not in a forked child
            _held.discard(descriptor)
            os.close(descriptor)


def _lock(descriptor: int, waiting: str) -> None:
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no flock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(waiting, file=sys.stderr, flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
