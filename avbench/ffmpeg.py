"""The FFmpeg that the package imageio-ffmpeg brings: a process of its own, with limits on time, memory and files.

It has what PyAV's lacks: libaom, vvenc, libvmaf.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from avbench.errors import AvbenchError

MAX_MEMORY, MAX_FILE = 8 * 2**30, 64 * 2**20  # bytes, of the process and of a file that it writes


def is_here() -> bool:
    """Whether the package is installed; the rest needs it."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def program() -> str:
    """Its path. Raises AvbenchError where it cannot be run."""
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise AvbenchError(f"imageio-ffmpeg's FFmpeg cannot be run: {error}") from error


def version() -> str:
    """As it says itself: 7.1."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_version())


def run(arguments: Sequence[str], *, seconds: float, stdin: bytes = b"", folder: Path | None = None) -> bytes:
    """What `ffmpeg ARGUMENTS` writes to standard output. folder: where it works.

    Raises AvbenchError with its last words where it fails, and where it takes longer.
    """
    command = [program(), "-hide_banner", "-loglevel", "error", "-nostdin", *arguments]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, cwd=folder, env={}, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            _limit(process.pid)
            try:
                out, told = process.communicate(stdin, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    except subprocess.TimeoutExpired as error:
        raise AvbenchError(f"FFmpeg did not finish within {seconds:g} s") from error
    except OSError as error:
        raise AvbenchError(f"FFmpeg cannot be run: {error}") from error
    if process.returncode:
        words = " ".join(told.decode(errors="replace").split())[-300:]
        raise AvbenchError(f"FFmpeg ended with status {process.returncode}: {words or 'it said nothing'}")
    return out


def _limit(process: int) -> None:
    if sys.platform == "linux":
        import resource

        for kind, most in {resource.RLIMIT_AS: MAX_MEMORY, resource.RLIMIT_FSIZE: MAX_FILE}.items():
            resource.prlimit(process, kind, (most, most))
