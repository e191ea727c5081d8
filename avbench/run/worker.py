"""The decoder in another interpreter: bytes in, clips out. It never sees a reference, and nothing of what `encode` may have left behind.

Main process and worker talk through a socket of their own: frames of a length (u32, big-endian), a JSON header of that length, and as many
raw bytes as the header's "bytes" says. Nothing is unpickled, sizes are bounded before they are read, and what the worker prints goes to
stderr. A worker that dies, hangs or answers nonsense costs the clips in hand; the next call starts another one.

This module is both ends: `Worker` here, `python -m avbench.run.worker FD` there.
"""

import contextlib
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from avbench.contain import plugin_code
from avbench.errors import AvbenchError
from avbench.protocol import Protocol as ClipProtocol
from avbench.run import payload
from avbench.task import DecoderSpec, Task
from avbench.types import ClipBatch

LOAD_TIMEOUT_S = 900.0
TIMEOUT_S = 1800.0  # for encode or decode of a batch: generous, a network on a busy CPU takes minutes (--timeout)
MAX_HEADER = 2**16
ROOM = 4  # times what the clips themselves have: more is not taken, less is seen by its shape, or trimmed
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8,
          torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)}  # fmt: skip
_LENGTH = struct.Struct(">I")


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
    """The main process's end. Starts at once and loads meanwhile; `decode` waits for it."""

    def __init__(self, spec: DecoderSpec, device: torch.device, modalities: frozenset[str], *, timeout_s: float = TIMEOUT_S) -> None:
        self.spec, self.device, self.modalities, self.timeout_s = spec, device, sorted(modalities), timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def decode(self, payloads: Sequence[bytes], *, seed: int, most: Mapping[str, int]) -> Decoded:
        """Clips on the CPU. Raises AvbenchError where these clips cannot be decoded, CannotLoad where none can."""
        if self._process is None:
            self._start()
        if not self._ready:
            self._await_ready()
        started = time.perf_counter()
        try:
            self._socket.settimeout(self.timeout_s)
            _send(self._socket, {"sizes": [len(part) for part in payloads], "seed": seed, "most": dict(most)}, *payloads)
            header = _receive_header(self._socket, started + self.timeout_s)
            if "error" in header:
                raise AvbenchError(str(header["error"])[:500])
            clips = self._clips(header, most, started + self.timeout_s)
            return Decoded(clips=clips, seconds=float(header["seconds"]), peak_memory_mb=float(header["peak_memory_mb"]))
        except TimeoutError as error:
            self._kill()
            raise AvbenchError(f"decode gave no answer in {self.timeout_s:g} s; its process was ended") from error
        except (OSError, EOFError) as error:
            raise AvbenchError(f"decode's process died ({self._kill()})") from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
            self._kill()
            raise AvbenchError(f"decode's process gave no clip that can be read: {error}") from error

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._kill()

    def _start(self) -> None:
        here, there = socket.socketpair()
        with there:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
            command = [sys.executable, "-P", "-m", "avbench.run.worker", str(there.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=(there.fileno(),), env=environment, start_new_session=True
            )
        self._socket, self._ready = here, False
        here.settimeout(LOAD_TIMEOUT_S)
        setup = {**asdict(self.spec), "device": str(self.device), "modalities": self.modalities, "threads": torch.get_num_threads()}
        _send(here, setup)

    def _await_ready(self) -> None:
        try:
            answer = _receive_header(self._socket, time.perf_counter() + LOAD_TIMEOUT_S)
        except (OSError, EOFError, ValueError) as error:
            raise CannotLoad(f"{self.spec.tokenizer} cannot be loaded in a process of its own ({self._kill()})") from error
        if "error" in answer:
            self._kill()
            raise CannotLoad(f"{self.spec.tokenizer} cannot be loaded in a process of its own: {str(answer['error'])[:500]}")
        self._ready = True

    def _clips(self, header: dict[str, Any], most: Mapping[str, int], deadline: float) -> ClipBatch:
        parts: dict[str, Tensor] = {}
        for name, facts in header["parts"].items():
            dtype, shape = DTYPES[facts["dtype"]], [int(size) for size in facts["shape"]]
            count = math.prod(shape)
            if name not in self.modalities or not 1 <= len(shape) <= 8 or min(shape) < 1 or count > most[name]:
                raise ValueError(f"{name} {facts['dtype']} of shape {shape}")
            data = bytearray(count * dtype.itemsize)
            _receive_into(self._socket, memoryview(data), deadline)
            parts[name] = torch.frombuffer(data, dtype=dtype).reshape(shape)
        return ClipBatch(
            video=parts.get("video"), audio=parts.get("audio"), fps=float(header["fps"]), sample_rate=int(header["sample_rate"])
        )

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


def _send(connection: socket.socket, header: dict[str, Any], *bodies: bytes | memoryview) -> None:
    text = json.dumps(header).encode()
    connection.sendall(_LENGTH.pack(len(text)) + text)
    for body in bodies:
        connection.sendall(body)


def _receive_header(connection: socket.socket, deadline: float | None) -> dict[str, Any]:
    """Raises EOFError where the other end has gone, TimeoutError after `deadline`, ValueError for anything but a small JSON object."""
    (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size, deadline))
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(_receive(connection, length, deadline))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header


def _receive(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    data = bytearray(size)
    _receive_into(connection, memoryview(data), deadline)
    return bytes(data)


def _receive_into(connection: socket.socket, view: memoryview, deadline: float | None) -> None:
    while view:
        if deadline is not None:
            left = deadline - time.perf_counter()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]


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

    setup = _receive_header(connection, None)
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
        _send(connection, {"error": str(error) if isinstance(error, AvbenchError) else f"{type(error).__name__}: {error}"})
        return
    _send(connection, {"ready": True})
    while True:
        try:
            request = _receive_header(connection, None)
        except EOFError:
            return
        payloads = [_receive(connection, size, None) for size in request["sizes"]]
        try:
            torch.manual_seed(request["seed"])
            with torch.inference_mode():
                tokens = payload.from_bytes(payloads).to(device)
                started = time.perf_counter()
                clips = tokenizer.decode(tokens)
                _synchronise(device)
                seconds = time.perf_counter() - started
            header, bodies = _answer(clips, setup["modalities"], request["most"])
            header |= {"seconds": seconds, "peak_memory_mb": peak_memory_mb(device)}
        except (Exception, SystemExit) as error:
            _send(connection, {"error": f"decode failed: {type(error).__name__}: {error}"[:1000]})
            continue
        _send(connection, header, *bodies)


def _answer(clips: ClipBatch, modalities: Sequence[str], most: Mapping[str, int]) -> tuple[dict[str, Any], list[memoryview]]:
    if not isinstance(clips, ClipBatch):
        raise TypeError(f"it returned {type(clips).__name__}, not ClipBatch")
    found = {name: part for name, part in (("video", clips.video), ("audio", clips.audio)) if part is not None and name in modalities}
    for name, part in found.items():
        if part.numel() > most[name]:
            raise ValueError(f"it returned {name} of shape {tuple(part.shape)}, over {ROOM} times what the clips have")
    tensors = {name: part.detach().cpu().contiguous() for name, part in found.items()}
    parts = {name: {"dtype": str(part.dtype).removeprefix("torch."), "shape": list(part.shape)} for name, part in tensors.items()}
    bodies = [part.reshape(-1).view(torch.uint8).numpy().data for part in tensors.values()]
    return {"parts": parts, "fps": float(clips.fps), "sample_rate": int(clips.sample_rate)}, bodies


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's matter; it closes the socket
    with socket.socket(fileno=int(sys.argv[1])) as _connection, contextlib.suppress(EOFError, ConnectionError):  # it has gone: so does this
        _serve(_connection)
