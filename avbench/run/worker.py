"""The decoder in another interpreter: bytes in, clips out. It never sees a reference, and nothing of what `encode` may have left behind.

Main process and worker talk through a socket of their own (avbench/run/frames.py), and what the worker prints goes to stderr. A worker that
dies, hangs or answers nonsense costs the clips in hand; the next call starts another one.

Within walls (`avbench verify`, avbench/run/walls.py) one may be asked to encode, too: the main process then runs nothing of a plugin.

This module is both ends: `Worker` here, `python -m avbench.run.worker FD` there.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

import torch

from avbench.contain import plugin_code
from avbench.errors import AvbenchError
from avbench.protocol import Protocol as ClipProtocol
from avbench.run import identity, payload
from avbench.run.conform import check_info, most_codes
from avbench.run.frames import facts_of, receive, receive_clips, receive_header, send
from avbench.run.walls import Standing, Walls
from avbench.task import DecoderSpec, Task
from avbench.tokenizer import Tokenizer
from avbench.types import ClipBatch

LOAD_TIMEOUT_S = 900.0
MAX_PAYLOAD = 2**30  # bytes of a clip
TIMEOUT_S = 1800.0  # for encode or decode of a batch: generous, a network on a busy CPU takes minutes (--timeout)
ROOM = 4  # times what the clips themselves have: more is not taken, less is seen by its shape, or trimmed
T = TypeVar("T")


class CannotLoad(AvbenchError):
    """The decoder cannot be had in a process of its own: no clip's fault."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Clips as the decoder gave them, unchecked; seconds: of its `decode` alone. peak_memory_mb: of its process so far."""

    clips: ClipBatch
    seconds: float
    peak_memory_mb: float = 0.0


class Decoder(Protocol):
    """Bytes to clips, in whatever process."""

    def decode(self, payloads: Sequence[bytes], *, seed: int, most: Mapping[str, int]) -> Decoded:
        """Raises AvbenchError where it fails. most: modality -> how many numbers are taken (`room_for`)."""
        ...

    def close(self) -> None: ...


def room_for(clips: ClipBatch) -> dict[str, int]:
    """Modality -> the most numbers that a reconstruction of `clips` may have."""
    parts = {"video": clips.video, "audio": clips.audio}
    return {name: ROOM * part.numel() for name, part in parts.items() if part is not None}


class InProcess:
    """`task.decode` here: for what is made of real clips, and to measure what isolation costs."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.device = task, device

    def decode(self, payloads: Sequence[bytes], *, seed: int, most: Mapping[str, int]) -> Decoded:
        torch.manual_seed(seed)
        with torch.inference_mode():
            tokens = payload.from_bytes(payloads).to(self.device)
            started = time.perf_counter()
            with plugin_code("decode failed"), self.task.switches():
                clips = self.task.decode(tokens)
            _synchronise(self.device)
        return Decoded(clips=clips, seconds=time.perf_counter() - started)

    def close(self) -> None:
        """Nothing is held."""


class Worker:
    """The main process's end. Starts at once and loads meanwhile; whatever is asked waits for it."""

    def __init__(
        self, spec: DecoderSpec, device: torch.device, modalities: frozenset[str], *,
        timeout_s: float = TIMEOUT_S, walls: Walls | None = None,
    ) -> None:  # fmt: skip
        self.spec, self.device, self.modalities, self.timeout_s, self.walls = spec, device, sorted(modalities), timeout_s, walls
        self.standing: Standing | None = None  # which walls hold, once it has loaded
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def decode(self, payloads: Sequence[bytes], *, seed: int, most: Mapping[str, int]) -> Decoded:
        """Clips on the CPU. Raises AvbenchError where these clips cannot be decoded, CannotLoad where none can."""
        request = {"do": "decode", "sizes": [len(part) for part in payloads], "seed": seed, "most": dict(most)}
        taken = {name: count for name, count in most.items() if name in self.modalities}

        def read(header: dict[str, Any], deadline: float) -> Decoded:
            clips = receive_clips(self._socket, header, taken, deadline)
            return Decoded(clips=clips, seconds=float(header["seconds"]), peak_memory_mb=float(header["peak_memory_mb"]))

        return self._ask(request, payloads, read)

    def encode(self, clips: ClipBatch, *, seed: int) -> list[bytes]:
        """A payload for each clip. Raises as `decode`."""
        facts, bodies = facts_of(clips, ("video", "audio"))
        request = {"do": "encode", "seed": seed, "ids": clips.ids, "labels": clips.labels, "most": room_for(clips), **facts}

        def read(header: dict[str, Any], deadline: float) -> list[bytes]:
            sizes = [int(size) for size in header["sizes"]]
            if len(sizes) != len(clips) or min(sizes) < 0 or max(sizes) > MAX_PAYLOAD:
                raise ValueError(f"{len(sizes)} payloads of at most {max(sizes, default=0)} bytes for {len(clips)} clips")
            return [receive(self._socket, size, deadline) for size in sizes]

        return self._ask(request, bodies, read)

    def about(self) -> dict[str, Any]:
        """What its tokenizer says of itself: "info" (`TokenizerInfo.facts`) and "code" (`identity.code_of_tokenizer`)."""
        return self._ask({"do": "about"}, (), lambda header, _: header)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._kill()

    def _ask(self, request: Mapping[str, Any], bodies: Sequence[bytes | memoryview], read: Callable[[dict[str, Any], float], T]) -> T:
        """What `read` makes of the answer's header, and of the bytes after it until a deadline."""
        if self._process is None:
            self._start()
        if not self._ready:
            self._await_ready()
        doing, deadline = request["do"], time.perf_counter() + self.timeout_s
        try:
            self._socket.settimeout(self.timeout_s)
            send(self._socket, request, *bodies)
            header = receive_header(self._socket, deadline)
            if "error" in header:
                raise AvbenchError(str(header["error"])[:500])
            return read(header, deadline)
        except TimeoutError as error:
            self._kill()
            raise AvbenchError(f"{doing} gave no answer in {self.timeout_s:g} s; its process was ended") from error
        except (OSError, EOFError) as error:
            raise AvbenchError(f"{doing}'s process died ({self._kill()})") from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
            self._kill()
            raise AvbenchError(f"{doing}'s process gave no clip that can be read: {error}") from error

    def _start(self) -> None:
        here, there = socket.socketpair()
        with there:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
            command = [sys.executable, "-P", "-m", "avbench.run.worker", str(there.fileno())]
            output: int | None = None
            if self.walls is not None:  # what it prints is not shown either: it could pass for ours
                command, environment = self.walls.around(command, there.fileno()), self.walls.environment(environment)
                output = subprocess.DEVNULL
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output or 2, stderr=output, pass_fds=(there.fileno(),), env=environment,
                start_new_session=True,
            )  # fmt: skip
        self._socket, self._ready = here, False
        here.settimeout(LOAD_TIMEOUT_S)
        setup = {**asdict(self.spec), "device": str(self.device), "modalities": self.modalities, "threads": torch.get_num_threads()}
        send(here, setup)

    def _await_ready(self) -> None:
        deadline = time.perf_counter() + LOAD_TIMEOUT_S
        try:
            if self.walls is not None:
                self.standing = Standing.of(receive_header(self._socket, deadline))
            answer = receive_header(self._socket, deadline)
        except (OSError, EOFError, ValueError) as error:
            raise CannotLoad(f"{self.spec.tokenizer} cannot be loaded in a process of its own ({self._kill()})") from error
        if "error" in answer:
            self._kill()
            raise CannotLoad(f"{self.spec.tokenizer} cannot be loaded in a process of its own: {str(answer['error'])[:500]}")
        self._ready = True

    def _kill(self) -> str:
        """End the process, if it has not ended; how it ended by itself."""
        assert self._process is not None
        self._socket.close()
        try:
            code = self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            code = None
            self._process.kill()
            self._process.wait()
        self._process = None
        if code is None:
            return "it was ended"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def peak_memory_mb(device: torch.device) -> float:
    """Most memory this process has held so far, in MB: of the GPU on a CUDA device, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # not a Unix
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# The other end: everything below runs in the worker.


def _serve(connection: socket.socket) -> None:
    from avbench import registry

    setup = receive_header(connection)
    torch.set_num_threads(int(setup["threads"]))
    device = torch.device(setup["device"])
    try:
        tokenizer = registry.load_tokenizer(
            setup["tokenizer"],
            checkpoint=setup["checkpoint"],
            device=device,
            seed=setup["seed"],
            protocol=ClipProtocol(**setup["protocol"]),
            args=setup["args"],
        )
    except (Exception, SystemExit) as error:
        send(connection, {"error": str(error) if isinstance(error, AvbenchError) else f"{type(error).__name__}: {error}"})
        return
    send(connection, {"ready": True})
    while True:
        try:
            request = receive_header(connection)
        except EOFError:
            return
        answer = {"decode": _decode, "encode": _encode, "about": _about}[request["do"]]
        try:
            header, bodies = answer(connection, request, tokenizer, setup)
        except (Exception, SystemExit) as error:
            send(connection, {"error": f"{request['do']} failed: {type(error).__name__}: {error}"[:1000]})
            continue
        send(connection, header, *bodies)


Answer = tuple[dict[str, Any], Sequence[bytes | memoryview]]


def _decode(connection: socket.socket, request: dict[str, Any], tokenizer: Tokenizer, setup: dict[str, Any]) -> Answer:
    payloads, device = [receive(connection, size) for size in request["sizes"]], torch.device(setup["device"])
    torch.manual_seed(request["seed"])
    with torch.inference_mode():
        tokens = payload.from_bytes(payloads).to(device)
        started = time.perf_counter()
        clips = tokenizer.decode(tokens)
        _synchronise(device)
        seconds = time.perf_counter() - started
    if not isinstance(clips, ClipBatch):
        raise TypeError(f"it returned {type(clips).__name__}, not ClipBatch")
    for name, part in (("video", clips.video), ("audio", clips.audio)):
        if part is not None and name in setup["modalities"] and part.numel() > request["most"][name]:
            raise ValueError(f"it returned {name} of shape {tuple(part.shape)}, over {ROOM} times what the clips have")
    facts, bodies = facts_of(clips, setup["modalities"])
    return {**facts, "seconds": seconds, "peak_memory_mb": peak_memory_mb(device)}, bodies


def _encode(connection: socket.socket, request: dict[str, Any], tokenizer: Tokenizer, setup: dict[str, Any]) -> Answer:
    clips = receive_clips(connection, request, request["most"])
    clips = replace(clips, ids=tuple(request["ids"]), labels=tuple(request["labels"]))
    torch.manual_seed(request["seed"])
    with torch.inference_mode():
        tokens = tokenizer.encode(clips.to(setup["device"]))
    payload.check(tokens, len(clips), most_codes=most_codes(clips))
    payloads = [payload.to_bytes(tokens, number) for number in range(len(clips))]
    return {"sizes": [len(data) for data in payloads]}, payloads


def _about(connection: socket.socket, request: dict[str, Any], tokenizer: Tokenizer, setup: dict[str, Any]) -> Answer:
    check_info(tokenizer.info)
    return {"info": tokenizer.info.facts(), "code": identity.code_of_tokenizer(setup["tokenizer"])}, ()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's matter; it closes the socket
    with socket.socket(fileno=int(sys.argv[1])) as _connection, contextlib.suppress(EOFError, ConnectionError):  # it has gone: so does this
        _serve(_connection)
