"""Worker processes: what crashes, hangs or babbles costs its own request only."""

import time
from pathlib import Path

import pytest

from avbench.data import media_worker, wire, workers

WORKER = """
import os, signal, sys, time
from avbench.data import wire

def handle(request):
    print("babble on stdout", flush=True)
    os.write(1, b"more babble")
    action = request["do"]
    if action == "crash":
        print("about to go", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if action == "exit":
        os._exit(7)
    if action == "hang":
        time.sleep(60)
    if action == "raise":
        raise ValueError("no such thing")
    for number in range(request.get("count", 1)):
        yield {"number": number}, [bytes([number]) * 1000, b""]
    if action == "half":
        os._exit(0)

wire.serve(handle)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "toy_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "toy_worker"


def ask(module: str, *actions: str, jobs: int = 1, timeout_s: float = 30.0) -> dict[int, list[workers.Reply]]:
    replies: dict[int, list[workers.Reply]] = {}
    for reply in workers.run(module, [{"do": action} for action in actions], jobs, timeout_s):
        replies.setdefault(reply.request, []).append(reply)
    return replies


def test_every_request_is_answered_whatever_its_neighbours_do(module: str) -> None:
    replies = ask(module, "work", "crash", "work", "raise", "exit", "work", jobs=2)
    assert sorted(replies) == [0, 1, 2, 3, 4, 5]
    for number in (0, 2, 5):
        assert replies[number][0].payloads == (bytes(1000), b"")
        assert replies[number][0].failure is None
    assert "signal 11" in str(replies[1][-1].failure)
    assert "about to go" in str(replies[1][-1].failure)
    assert replies[3][-1].failure == "ValueError: no such thing"
    assert "exit code 7" in str(replies[4][-1].failure)


def test_what_was_answered_before_a_crash_stands(module: str) -> None:
    first, last = ask(module, "half")[0]
    assert first.failure is None
    assert last.failure is not None


@pytest.mark.slow
def test_a_request_that_takes_too_long_is_stopped(module: str) -> None:
    began = time.monotonic()
    replies = ask(module, "hang", "work", timeout_s=8.0)
    assert "longer than 8 s" in str(replies[0][-1].failure)
    assert replies[1][-1].failure is None
    assert time.monotonic() - began < 40


def test_closing_early_ends_the_workers(module: str) -> None:
    running = workers.run(module, [{"do": "work", "count": 100}] + [{"do": "hang"}] * 3, 2)
    next(running)
    began = time.monotonic()
    running.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 10


def test_no_requests_no_workers() -> None:
    assert list(workers.run("no.such.module", [], 4)) == []


def test_a_worker_that_cannot_start_is_a_failure_of_each_request() -> None:
    replies = list(workers.run("no.such.module", [{}, {}], 1))
    assert ["No module named" in str(reply.failure) for reply in replies] == [True, True]


def test_the_reason_for_a_missing_file_is_short(tmp_path: Path) -> None:
    protocol = {"num_frames": 16, "duration_s": 4.096, "resolution": 128, "sample_rate": 24_000}
    [(header, payloads)] = media_worker.decode({"path": str(tmp_path / "none.mp4"), "protocol": protocol})
    assert header == {"failure": "is gone"}
    assert payloads == []


def test_a_reason_is_one_line_of_bounded_length() -> None:
    assert wire.reason(ValueError("a\nb" + "x" * 1000)).startswith("ValueError: a b")
    assert len(wire.reason(ValueError("x" * 1000))) == 300
    assert wire.reason(KeyboardInterrupt()) == "KeyboardInterrupt"
