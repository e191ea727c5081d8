"""Runs a command that must not outlive the process which wants it: `python leash.py FOLDER COMMAND...`, standard input held open by it.

When that input closes, because its holder closed it or died in any way, the command is killed with all that it started, and FOLDER, where
it works, is removed. It is run as a file, so that nothing of avbench is imported.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading


def main(folder: str, command: list[str]) -> int:
    """The command's exit status."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_watch, args=(process.pid, folder), daemon=True).start()
    return process.wait()


def _watch(group: int, folder: str) -> None:
    os.read(0, 1)  # nothing is ever written: it returns at the end
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
