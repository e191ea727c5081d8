"""Untrusted or crash-prone work in processes of its own: a crash costs the request that it happened in, and nothing else."""

import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from avbench.data import wire

REQUEST_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One message that a worker sent for request number `request`."""

    request: int
    header: wire.Header
    payloads: tuple[bytes, ...] = ()

    @property
    def failure(self) -> str | None:
        """Why the rest of the request will not be answered; None for an answer."""
        return self.header.get("failure")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(module: str, requests: Sequence[wire.Header], jobs: int, timeout_s: float = REQUEST_TIMEOUT_S) -> Iterator[Reply]:
    """Every reply of `python -m module` workers to `requests`, in the order in which they come.

    A worker that crashes, or takes longer than `timeout_s` for one request, is replaced; its request ends with a reply whose
    `failure` says so. Closing the iterator ends the workers.
    """
    pool = _Pool(module=module, requests=requests, timeout_s=timeout_s)
    threads = [threading.Thread(target=pool.work, daemon=True) for _ in range(max(1, min(jobs, len(requests))))]
    for thread in threads:
        thread.start()
    working = len(threads)
    try:
        while working:
            item = pool.replies.get()
            if isinstance(item, Reply):
                yield item
            elif isinstance(item, BaseException):
                raise item
            else:
                working -= 1
    finally:
        pool.stop()
        for thread in threads:
            thread.join()


@dataclass(kw_only=True)
class _Pool:
    module: str
    requests: Sequence[wire.Header]
    timeout_s: float
    # Bounded: workers wait while a slow disk takes what they have made. None: a thread has ended.
    replies: "queue.Queue[Reply | BaseException | None]" = field(default_factory=lambda: queue.Queue(maxsize=32))
    _next: int = 0
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: "set[_Worker]" = field(default_factory=set)

    def work(self) -> None:
        """One thread: a worker process, and requests until there are none left."""
        worker = None
        try:
            while (number := self._take()) is not None:
                if worker is None or not worker.alive:
                    worker = self._start()
                if worker is None:
                    return
                for reply in worker.ask(number, self.requests[number], self.timeout_s):
                    self._put(reply)
        except BaseException as error:
            self._put(error)
        finally:
            if worker is not None:
                worker.end()
            self._put(None)

    def stop(self) -> None:
        """End the workers and let every thread come to its end."""
        with self._lock:
            self._stopped = True
            for worker in self._running:
                worker.end()

    def _start(self) -> "_Worker | None":
        with self._lock:
            if self._stopped:
                return None
            worker = _Worker(self.module)
            self._running = {other for other in self._running if other.alive} | {worker}
            return worker

    def _take(self) -> int | None:
        with self._lock:
            if self._stopped or self._next >= len(self.requests):
                return None
            self._next += 1
            return self._next - 1

    def _put(self, item: Reply | BaseException | None) -> None:
        while not self._stopped:
            try:
                self.replies.put(item, timeout=0.2)
                return
            except queue.Full:
                continue


class _Worker:
    """One worker process."""

    def __init__(self, module: str) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-m", module]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, env=environment)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, number: int, request: wire.Header, timeout_s: float) -> Iterator[Reply]:
        """Replies to one request; the last one is a failure where the worker came to an end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timed_out = threading.Event()

        def too_long() -> None:
            timed_out.set()
            self._process.kill()

        timer = threading.Timer(timeout_s, too_long)
        timer.daemon = True
        timer.start()
        try:
            wire.send(self._process.stdin, request)  # type: ignore[arg-type]
            while (message := wire.receive(self._process.stdout)) is not None:  # type: ignore[arg-type]
                if message[0].get("done"):
                    return
                yield Reply(request=number, header=message[0], payloads=tuple(message[1]))
            yield Reply(request=number, header={"failure": self._post_mortem(timeout_s if timed_out.is_set() else None)})
        except OSError:
            yield Reply(request=number, header={"failure": self._post_mortem(timeout_s if timed_out.is_set() else None)})
        finally:
            timer.cancel()

    def end(self) -> None:
        """Kill the process (it holds nothing that could be lost) and collect it."""
        self._process.kill()
        self._process.wait()

    def _post_mortem(self, timeout_s: float | None) -> str:
        self._process.kill()
        code = self._process.wait()  # a dying process must not be taken for one that can be asked again
        if timeout_s is not None:
            return f"took longer than {timeout_s:g} s and was stopped"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 200))
        said = " ".join(self._errors.read().decode(errors="replace").split())
        ending = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the worker process ended with {ending}" + (f": {said}" if said else "")
