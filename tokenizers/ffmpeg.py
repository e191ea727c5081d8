"""The ffmpeg that `imageio-ffmpeg` brings, as an encoder of raw frames: for encoders that PyAV's libraries lack (libaom, vvenc).

It runs as a process of its own, with one thread, for a limited time, reads pixels from a pipe and writes a stream to another: it is given
no file, and no protocol but pipes.
"""

import subprocess
from collections.abc import Mapping
from fractions import Fraction

from avbench.errors import AvbenchError
from avbench.tokenizers.published import require

TIMEOUT_S = 600


def version(what: str) -> str:
    """Of the ffmpeg that runs. Raises AvbenchError with the command that gets it; `what` wants it."""
    return str(require("imageio_ffmpeg", "codecs", what).get_ffmpeg_version())


def encode(
    pixels: bytes, encoder: str, options: Mapping[str, str], *, pixel_format: str, size: tuple[int, int], rate: Fraction, to: str
) -> bytes:
    """The stream, of format `to`, of raw frames. Raises AvbenchError with ffmpeg's last words where it fails or takes too long."""
    program = require("imageio_ffmpeg", "codecs", encoder).get_ffmpeg_exe()
    source = ["-f", "rawvideo", "-pix_fmt", pixel_format, "-s", f"{size[0]}x{size[1]}", "-r", str(rate), "-i", "pipe:0"]
    settings = [word for key, value in options.items() for word in (f"-{key}", value)]
    command = [program, "-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "pipe", *source]
    command += ["-map_metadata", "-1", "-fps_mode", "passthrough", "-c:v", encoder, "-threads", "1", *settings, "-f", to, "pipe:1"]
    try:
        done = subprocess.run(command, input=pixels, capture_output=True, timeout=TIMEOUT_S, env={}, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AvbenchError(f"{encoder}: {program} failed: {error}"[:300]) from error
    if done.returncode or not done.stdout:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["no word"]
        raise AvbenchError(f"{encoder}: {program} gave no stream: {words[0][:200]}")
    return done.stdout
