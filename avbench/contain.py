"""A plugin's code is somebody else's: whatever it does to end the process, or to stay in it, ends its own part only."""

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from avbench.errors import AvbenchError

_exit = os._exit
LEAVE_S = 10.0  # for what is registered to run at the end: closing of logs, temporary folders
GRACE_S = 60.0  # for code that Python cannot interrupt, or that swallows it


class TimeLimit(BaseException):
    """Code took too long. No Exception: a plugin's `except Exception` must not swallow it."""


@contextlib.contextmanager
def plugin_code(doing: str, *passing: type[BaseException]) -> Iterator[None]:
    """Whatever is raised here becomes an AvbenchError that begins with `doing`: SystemExit too, and os._exit does not exit.

    AvbenchError, KeyboardInterrupt and `passing` go through as they are. What is printed goes to stderr: stdout is the command's own.
    """
    main, before = os.getpid(), os._exit

    def told(status: int) -> NoReturn:
        if os.getpid() != main:  # a child that was forked may end
            _exit(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = told
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except BaseException as error:
        if isinstance(error, (AvbenchError, KeyboardInterrupt, *passing)):
            raise
        text = str(error) if isinstance(error, TimeLimit) else f"{type(error).__name__}: {error}"
        raise AvbenchError(f"{doing}: {text}" if doing else text) from error
    finally:
        os._exit = before


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeLimit after `seconds`, in the main thread; code that cannot be interrupted ends the process a minute later."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def late(number: int, frame: FrameType | None) -> NoReturn:
        raise TimeLimit(f"no answer in {seconds:g} s (--timeout allows more)")

    backstop = threading.Timer(seconds + GRACE_S, _end, (seconds,))
    backstop.daemon = True
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again each second, should it be swallowed
    backstop.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        backstop.cancel()


def _end(seconds: float) -> NoReturn:
    print(
        f"avbench: a plugin gave no answer in {seconds:g} s and cannot be interrupted; the same command resumes",
        file=sys.stderr,
        flush=True,
    )
    _exit(1)


def leave(code: int) -> NoReturn:
    """End the process with `code`: handlers that are registered for the end run, but no thread that was left is waited for."""
    insist = threading.Timer(LEAVE_S, _exit, (code,))
    insist.daemon = True
    insist.start()
    with contextlib.suppress(BaseException), plugin_code("at exit"):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    _exit(code)
