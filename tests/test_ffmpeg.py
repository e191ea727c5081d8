"""avbench.ffmpeg: a process that hangs, fails, takes memory or fills the disk is an error in words, and none is left."""

import os
import sys
from pathlib import Path

import pytest

from avbench import ffmpeg
from avbench.errors import AvbenchError

PROGRAM = """#!{python}
import os, sys, time
match sys.argv[-1]:
    case "echo": sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])
    case "sleep": open("pid", "w").write(str(os.getpid())); time.sleep(60)
    case "fail": print("broken", file=sys.stderr); sys.exit(3)
    case "memory": time.sleep(0.5); bytearray(9 * 2**30)
    case "disk": time.sleep(0.5); open("big", "wb").write(bytes(65 * 2**20))
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In FFmpeg's place."""
    file = tmp_path / "program"
    file.write_text(PROGRAM.format(python=sys.executable))
    file.chmod(0o700)
    monkeypatch.setattr(ffmpeg, "program", lambda: str(file))


def test_standard_input_and_output_pass_through() -> None:
    assert ffmpeg.run(["echo"], stdin=b"abc", seconds=30) == b"cba"


def test_a_failure_has_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match="status 3: broken"):
        ffmpeg.run(["fail"], seconds=30)


def test_a_process_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match="did not finish within 2 s"):
        ffmpeg.run(["sleep"], folder=tmp_path, seconds=2)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@linux
def test_memory_and_files_have_limits(tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match="MemoryError"):
        ffmpeg.run(["memory"], folder=tmp_path, seconds=30)
    with pytest.raises(AvbenchError, match="File too large"):
        ffmpeg.run(["disk"], folder=tmp_path, seconds=30)
    assert (tmp_path / "big").stat().st_size <= ffmpeg.MAX_FILE


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "program", lambda: str(tmp_path / "gone"))
    with pytest.raises(AvbenchError, match="cannot be run"):
        ffmpeg.run(["echo"], seconds=30)
