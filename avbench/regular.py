"""Opening only what is a file: reading a fifo or a device would wait or go on for ever. No torch: workers import this."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

KINDS = {stat.S_ISFIFO: "a fifo", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device", stat.S_ISDIR: "a folder"}


class NotRegularError(OSError):
    """`strerror` says what it is instead."""


def open_regular(path: Path) -> BufferedReader:
    """`path` for reading, links followed. Raises NotRegularError for what is no regular file, OSError as `open` does."""
    facts = os.stat(path)
    if stat.S_ISREG(facts.st_mode):  # a socket cannot be opened, opening a device may do something
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
        facts = os.fstat(file.fileno())
        if stat.S_ISREG(facts.st_mode):
            return file
        file.close()
    kind = next((words for test, words in KINDS.items() if test(facts.st_mode)), "something else")
    raise NotRegularError(errno.EINVAL, f"is {kind}, not a file", os.fspath(path))
