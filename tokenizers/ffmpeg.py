"""FFmpeg (avbench/ffmpeg.py) as an encoder of raw frames: for encoders that PyAV's libraries lack (libaom, vvenc).

It reads pixels from a pipe and writes a stream to another, with one thread: it is given no file, and no protocol but pipes.
"""

from collections.abc import Mapping
from fractions import Fraction

from avbench import ffmpeg
from avbench.errors import AvbenchError
from avbench.tokenizers.published import require

TIMEOUT_S = 600


def version(what: str) -> str:
    """Of the FFmpeg that runs. Raises AvbenchError with the command that gets it; `what` wants it."""
    require("imageio_ffmpeg", "codecs", what)
    return ffmpeg.version()


def encode(
    pixels: bytes, encoder: str, options: Mapping[str, str], *, pixel_format: str, size: tuple[int, int], rate: Fraction, to: str
) -> bytes:
    """The stream, of format `to`, of raw frames. Raises AvbenchError with FFmpeg's last words where it fails or takes too long."""
    require("imageio_ffmpeg", "codecs", encoder)
    source = ["-f", "rawvideo", "-pix_fmt", pixel_format, "-s", f"{size[0]}x{size[1]}", "-r", str(rate), "-i", "pipe:0"]
    settings = [word for key, value in options.items() for word in (f"-{key}", value)]
    arguments = ["-protocol_whitelist", "pipe", *source, "-map_metadata", "-1", "-fps_mode", "passthrough"]
    arguments += ["-c:v", encoder, "-threads", "1", *settings, "-f", to, "pipe:1"]
    try:
        stream = ffmpeg.run(arguments, stdin=pixels, seconds=TIMEOUT_S)
    except AvbenchError as error:
        raise AvbenchError(f"{encoder}: {error}") from error
    if not stream:
        raise AvbenchError(f"{encoder}: FFmpeg gave no stream")
    return stream
