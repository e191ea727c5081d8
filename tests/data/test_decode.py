"""Decoding with known answers: colours, holes, damage, orientation, seeking, lengths that differ, what is no file."""

import hashlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import clocks
import numpy as np
import pytest

from avbench.data import decode, pictures, timeline
from avbench.data.media import MediaError, read_clip

# K_R, K_B (ITU-R BT.601-7, BT.709-6, BT.2020-2, SMPTE 240M) and FFmpeg's number of the matrix
MATRICES = {"bt601": (0.299, 0.114, 6), "bt709": (0.2126, 0.0722, 1), "bt2020": (0.2627, 0.0593, 9), "smpte240m": (0.212, 0.087, 7)}
PATCHES = [
    (200, 40, 40), (40, 180, 60), (50, 60, 210), (230, 210, 30), (16, 16, 16), (235, 235, 235), (128, 128, 128), (0, 0, 0),
    (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (37, 201, 113),
]  # fmt: skip


def yuv(rgb: tuple[int, int, int], matrix: str, full: bool, bits: int) -> list[int]:
    """The code values of a colour, by the standards' formulas."""
    kr, kb, _ = MATRICES[matrix]
    r, g, b = (value / 255 for value in rgb)
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
    top, unit = 2**bits - 1, 2 ** (bits - 8)
    exact = (y * top, cb * top + 128 * unit, cr * top + 128 * unit) if full else tuple(
        (scale * value + offset) * unit for value, scale, offset in ((y, 219, 16), (cb, 224, 128), (cr, 224, 128))
    )  # fmt: skip
    return [min(max(round(value), 0), top) for value in exact]


def patches(matrix: str, full: bool, bits: int) -> av.VideoFrame:
    """128x128, 4:2:0, the sixteen colours as fields of 32x32."""
    frame = av.VideoFrame(128, 128, "yuv420p" if bits == 8 else "yuv420p10le")
    codes = np.array([yuv(rgb, matrix, full, bits) for rgb in PATCHES]).reshape(4, 4, 3)
    for number, plane in enumerate(frame.planes):
        kind = np.uint8 if bits == 8 else np.uint16
        data = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
        data[:, : plane.width] = codes[..., number].repeat(plane.height // 4, axis=0).repeat(plane.width // 4, axis=1)
        plane.update(data.tobytes())
    frame.colorspace, frame.color_range = MATRICES[matrix][2], 2 if full else 1
    return frame


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colours_are_those_of_their_matrix_and_range(tmp_path: Path, matrix: str, full: bool, bits: int) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)  # lossless
        video.height = video.width = 128
        video.pix_fmt = "yuv420p" if bits == 8 else "yuv420p10le"
        video.codec_context.colorspace, video.codec_context.color_range = MATRICES[matrix][2], 2 if full else 1
        audio = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for number in range(5):
            frame = patches(matrix, full, bits)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(np.ones((1, 9600), np.int16), format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 48_000, 0, Fraction(1, 48_000)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    picture = read_clip(path, **clocks.PROTOCOL)[0][0].astype(int)
    shown = picture[16::32, 16::32].reshape(16, 3)
    assert np.abs(shown - PATCHES).max() <= 1


CPU_FLAGS = """
import ctypes, sys
from pathlib import Path
import av, clocks
from avbench.data.media import read_clip
library = next(line.split()[-1] for line in open("/proc/self/maps") if "libavutil" in line)
utilities = ctypes.CDLL(library)
if sys.argv[2] == "plain":
    utilities.av_force_cpu_flags(0)  # what ffmpeg -cpuflags 0 does
    assert utilities.av_get_cpu_flags() == 0
video, audio = read_clip(Path(sys.argv[1]), **clocks.PROTOCOL)
sys.stdout.buffer.write(video.tobytes() + audio.tobytes())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds FFmpeg's library in /proc")
@pytest.mark.parametrize(("name", "codecs", "pix_fmt"), [
    ("a.mp4", ("libx264", "aac"), "yuv420p"), ("a.mkv", ("libx264", "flac"), "yuv420p10le"), ("a.avi", ("mpeg4", "pcm_s16le"), "yuv420p"),
])  # fmt: skip
def test_pixels_do_not_depend_on_the_processor(tmp_path: Path, name: str, codecs: tuple[str, str], pix_fmt: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 98, 130, 3), dtype=np.uint8)
    path = clocks.write(tmp_path / name, seconds=6, codecs=codecs, pix_fmt=pix_fmt, shown=lambda number: noise[number % 4])
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(clocks.__file__)}
    clips = []
    for way in ("as it is", "plain"):
        command = [sys.executable, "-c", CPU_FLAGS, str(path), way]
        data = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout
        clips.append((data[: 16 * 128 * 128 * 3], np.frombuffer(data[16 * 128 * 128 * 3 :], np.int16).astype(int)))
    assert clips[0][0] == clips[1][0]
    assert np.abs(clips[0][1] - clips[1][1]).max() <= 1  # decoders of sound compute in floating point


def assert_clip(path: Path, start: float, sound_late: float = 0.0, tolerance: float = 0.03) -> None:
    """The clip of `path` begins at `start` of the clock, its sound that much later."""
    video, audio = read_clip(path, **clocks.PROTOCOL)
    assert np.abs(clocks.times_of(video) - start - clocks.MOMENTS).max() <= 0.061
    for begin in (0.2, 1.5, 2.8):
        assert clocks.sound_late_by(audio, start, begin) == pytest.approx(sound_late, abs=tolerance)


KINDS = {
    "mp4": ("a.mp4", ("libx264", "aac")), "mkv": ("a.mkv", ("libx264", "aac")), "webm": ("a.webm", ("libvpx", "libopus")),
    "ts": ("a.ts", ("libx264", "aac")), "mpg": ("a.mpg", ("mpeg2video", "mp2")), "flv": ("a.flv", ("libx264", "aac")),
    "avi": ("a.avi", ("mpeg4", "pcm_s16le")), "mov": ("a.mov", ("libx264", "aac")),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_gives_the_middle(tmp_path: Path, kind: str) -> None:
    name, codecs = KINDS[kind]
    assert_clip(clocks.write(tmp_path / name, codecs=codecs), 2.952)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "ts", "mpg"])
def test_two_seconds_of_missing_packets_fail_the_clip(tmp_path: Path, kind: str) -> None:
    name, codecs = KINDS[kind]
    shift = 1.4 if kind in ("ts", "mpg") else 0.0  # what those muxers add
    path = clocks.write(tmp_path / name, codecs=codecs, keep=lambda _, time: not 4 + shift <= time < 6 + shift)
    with pytest.raises(MediaError, match=r"hole|damaged"):
        read_clip(path, **clocks.PROTOCOL)


@pytest.mark.parametrize(("missing", "complaint"), [("video", "at most 0.25 s is allowed"), ("audio", "no sound for 0.79 s")])
def test_a_hole_in_one_stream_fails_the_clip(tmp_path: Path, missing: str, complaint: str) -> None:
    path = clocks.write(tmp_path / "a.mkv", codecs=("libvpx", "aac"), keep=lambda kind, time: kind != missing or not 4 <= time < 4.8)
    with pytest.raises(MediaError, match=complaint):
        read_clip(path, **clocks.PROTOCOL)


def test_a_hole_outside_the_clip_does_not_matter(tmp_path: Path) -> None:
    assert_clip(clocks.write(tmp_path / "a.mkv", keep=lambda kind, time: not (0.5 <= time < 1.5 or 8.5 <= time < 9)), 2.952)


def test_a_file_that_shows_one_picture_a_second_has_no_holes(tmp_path: Path) -> None:
    def once_a_second(kind: str, time: float) -> bool:
        return kind == "audio" or time % 1 < 0.01

    path = clocks.write(tmp_path / "a.mkv", codecs=("ffv1", "aac"), pix_fmt="bgr0", gop=1, keep=once_a_second)
    video, _ = read_clip(path, **clocks.PROTOCOL)
    # Its pictures are those of 0, 1, ... 9 s, and end at 9.04 s.
    assert np.abs(clocks.times_of(video) - np.round((9.04 - 4.096) / 2 + clocks.MOMENTS)).max() < 0.01


@pytest.mark.parametrize(("keep_until", "complaint"), [(6.0, "its sound ends 1.0 s before"), (4.0, "its sound ends 3.0 s before")])
def test_sound_that_is_cut_off_fails_the_clip(tmp_path: Path, keep_until: float, complaint: str) -> None:
    path = clocks.write(tmp_path / "a.mp4", sound_seconds=keep_until)
    with pytest.raises(MediaError, match=complaint):
        read_clip(path, **clocks.PROTOCOL)


def test_what_follows_a_lost_piece_of_sound_stays_where_it_is(tmp_path: Path) -> None:
    """Two packets of 20 ms: less than what fails a clip, but no reason to move the sound after them."""
    path = clocks.write(tmp_path / "a.mkv", codecs=("libx264", "libopus"), keep=lambda kind, time: kind == "video" or not 4 <= time < 4.04)
    _, audio = read_clip(path, **clocks.PROTOCOL)
    for begin in (0.0, 1.5, 2.8):
        assert clocks.sound_late_by(audio, 2.952, begin) == pytest.approx(0, abs=0.003)


def test_sound_that_begins_a_second_into_the_clip_fails_it(tmp_path: Path) -> None:
    path = clocks.write(tmp_path / "a.mkv", keep=lambda kind, time: kind == "video" or time > 4.0)
    with pytest.raises(MediaError, match=r"no sound for the first 1\.1 s"):
        read_clip(path, **clocks.PROTOCOL)


def zeroed(path: Path, part: float, size: int, seed: int) -> Path:
    """The file with blocks of `size` bytes set to 0, `part` of it in all."""
    data, random = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for _ in range(max(1, int(len(data) * part / size))):
        at = int(random.integers(2048, len(data) - size))
        data[at : at + size] = bytes(size)
    damaged = path.with_name("damaged" + path.suffix)
    damaged.write_bytes(data)
    return damaged


@pytest.mark.parametrize("kind", KINDS)
def test_zeroed_blocks_give_no_wrong_pictures(tmp_path: Path, kind: str) -> None:
    """5 % of the bytes, as a broken disk or an unfinished download leaves them: refused, or the pictures are right."""
    name, codecs = KINDS[kind]
    random = np.random.default_rng(0)

    def noisy(number: int) -> np.ndarray:
        grain = random.integers(-25, 26, (64, 64, 3))
        return np.clip(clocks.picture(number) + grain, 0, 255).astype(np.uint8)

    whole = clocks.write(tmp_path / name, codecs=codecs, shown=noisy)
    wanted = clocks.numbers(read_clip(whole, **clocks.PROTOCOL)[0])
    refused = 0
    for seed in range(4):
        try:
            video, _ = read_clip(zeroed(whole, 0.05, 512, seed), **clocks.PROTOCOL)
        except (MediaError, av.error.FFmpegError):
            refused += 1
        else:
            assert np.abs(np.array(clocks.numbers(video)) - wanted).max() <= 6  # AWAY_S
    assert refused >= 2


def test_damage_before_the_last_key_frame_does_not_matter(tmp_path: Path) -> None:
    path = clocks.write(tmp_path / "a.ts", gop=25)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pts and float(packet.pts * packet.time_base) < 2.2]
    data = bytearray(path.read_bytes())
    data[places[5] + 188 : places[10]] = bytes(len(data[places[5] + 188 : places[10]]))
    path.write_bytes(data)
    assert_clip(path, 2.952)


def with_matrix(path: Path, matrix: list[float]) -> Path:
    """An MP4 with that display matrix in its first track: a b u c d v x y w (ISO/IEC 14496-12, 6.2.2)."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd")
    at += 4 + (52 if data[at + 4] else 40)
    data[at : at + 36] = struct.pack(">9i", *(int(v * (2**30 if k % 3 == 2 else 2**16)) for k, v in enumerate(matrix)))
    turned = path.with_name("turned.mp4")
    turned.write_bytes(data)
    return turned


W, H = 96, 64
TURNS: dict[str, tuple[list[float], Callable[[np.ndarray], np.ndarray]]] = {
    "upright": ([1, 0, 0, 0, 1, 0, 0, 0, 1], lambda p: p),
    "quarter to the right": ([0, 1, 0, -1, 0, 0, H, 0, 1], lambda p: np.rot90(p, -1)),
    "half": ([-1, 0, 0, 0, -1, 0, W, H, 1], lambda p: np.rot90(p, 2)),
    "quarter to the left": ([0, -1, 0, 1, 0, 0, 0, W, 1], np.rot90),
    "left-right mirror": ([-1, 0, 0, 0, 1, 0, W, 0, 1], np.fliplr),
    "upside-down mirror": ([1, 0, 0, 0, -1, 0, 0, H, 1], np.flipud),
    "mirror on the diagonal": ([0, 1, 0, 1, 0, 0, 0, 0, 1], lambda p: p.transpose(1, 0, 2)),
    "mirror on the other diagonal": ([0, -1, 0, -1, 0, 0, H, W, 1], lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_and_mirrored_pictures_come_out_upright(tmp_path: Path, turn: str) -> None:
    corners = np.full((H, W, 3), 60, np.uint8)
    corners[:24, 16:40], corners[:24, 56:80], corners[40:, 16:40] = (230, 20, 20), (20, 230, 20), (20, 20, 230)
    path = clocks.write(tmp_path / "a.mp4", seconds=1, shown=lambda number: corners)
    matrix, shown = TURNS[turn]
    plain = read_clip(path, **clocks.PROTOCOL)[0][0].astype(int)
    picture = read_clip(with_matrix(path, matrix), **clocks.PROTOCOL)[0][0].astype(int)
    assert np.abs(picture - shown(plain)).max() == 0


def test_a_palette_is_read_from_the_beginning(tmp_path: Path) -> None:
    """Its colours come with the first packet (AVI): after a seek pictures would be black."""
    path = tmp_path / "a.avi"
    clocks.write(path, codecs=("rawvideo", "pcm_s16le"), pix_fmt="bgr24", gop=1)
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.avi"), "w") as container:
        video = container.add_stream("rawvideo", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "pal8"
        audio = container.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = audio
                container.mux(packet)
        for number in range(250):
            frame = av.VideoFrame(64, 64, "pal8")
            index = (clocks.picture(number)[..., 0] > 127).astype(np.uint8)
            frame.planes[0].update(index.tobytes())
            frame.planes[1].update(np.array([0xFF000000, 0xFFFFFFFF] + [0xFF00FF00] * 254, "<u4").tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    assert_clip(tmp_path / "b.avi", 2.952)


@pytest.mark.parametrize(("name", "codecs", "gop"), [
    ("a.mpg", ("mpeg1video", "mp2"), 15), ("a.vob", ("mpeg2video", "mp2"), 15), ("a.ts", ("libx264", "aac"), 250),
    ("a.m2.ts", ("mpeg2video", "mp2"), 250), ("a.ts", ("libx264", "aac"), 25),
])  # fmt: skip
def test_what_cannot_be_sought_is_read_from_the_beginning(tmp_path: Path, name: str, codecs: tuple[str, str], gop: int) -> None:
    assert_clip(clocks.write(tmp_path / name, codecs=codecs, gop=gop), 2.952)


def test_an_error_after_a_seek_starts_over_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clocks.write(tmp_path / "a.mkv")
    wanted = read_clip(path, **clocks.PROTOCOL)
    asked: list[float | None] = []
    true_read = pictures.read

    def unlucky(*args: object, back: float | None) -> np.ndarray:
        asked.append(back)
        if back is not None:
            raise av.error.PermissionError(1, "Operation not permitted")
        return true_read(*args, back=back)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "read", unlucky)
    found = read_clip(path, **clocks.PROTOCOL)
    assert asked == [0.0, 15.0, None]
    assert (found[0] == wanted[0]).all()
    assert (found[1] == wanted[1]).all()


@pytest.mark.parametrize(("name", "codecs"), [("p.mpg", ("mpeg1video", "mp2")), ("p.ts", ("libx264", "aac"))])
def test_recordings_joined_with_cat_are_one(tmp_path: Path, name: str, codecs: tuple[str, str]) -> None:
    """Their clocks start over at each join. Three of 3 s: the middle is that of 9 s."""
    parts = []
    for part in range(3):
        path = tmp_path / f"{part}{name}"
        clocks.write(path, seconds=3, codecs=codecs, gop=15, shown=lambda number, first=75 * part: clocks.picture(number + first))
        parts.append(path.read_bytes())
    (tmp_path / name).write_bytes(b"".join(parts))
    video, audio = read_clip(tmp_path / name, **clocks.PROTOCOL)
    assert np.abs(clocks.times_of(video) - 4.5 + 2.048 - clocks.MOMENTS).max() <= 0.061
    begin = round((3 - (4.5 - 2.048)) * 24_000)  # the second part begins here, with the chirp's beginning
    assert abs(clocks.sound_late_by(audio[begin:], 0.0, 0.2)) < 0.03


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "flv", "ts", "avi"])
def test_sound_that_is_longer_than_the_pictures_is_no_cut_off_file(tmp_path: Path, kind: str) -> None:
    name, codecs = KINDS[kind]
    assert_clip(clocks.write(tmp_path / name, codecs=codecs, sound_seconds=20.0), 2.952)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "ts"])
def test_a_late_start_moves_nothing(tmp_path: Path, kind: str) -> None:
    name, codecs = KINDS[kind]
    assert_clip(clocks.write(tmp_path / name, codecs=codecs, picture_from=3.32, sound_from=3.32), 2.952)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_pictures_that_begin_later_than_the_sound_set_the_middle(tmp_path: Path, kind: str) -> None:
    name, codecs = KINDS[kind]
    path = clocks.write(tmp_path / name, codecs=codecs, picture_from=1.48, sound_seconds=12.0)
    video, audio = read_clip(path, **clocks.PROTOCOL)
    assert np.abs(clocks.times_of(video) - 2.952 - clocks.MOMENTS).max() <= 0.061
    assert clocks.sound_late_by(audio, 2.952 + 1.48) == pytest.approx(0, abs=0.03)


def test_a_cut_off_mkv_is_cut_off_though_its_packets_are_counted(tmp_path: Path) -> None:
    whole = clocks.write(tmp_path / "a.mkv", codecs=("ffv1", "flac"), pix_fmt="bgr0")
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises((MediaError, av.error.FFmpegError), match=r"cut off|damaged"):
        read_clip(tmp_path / "cut.mkv", **clocks.PROTOCOL)


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = int(av.stream.Disposition.attached_pic)  # PyAV 17.0 takes no enum
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        container.mux(cover.encode(av.VideoFrame.from_ndarray(clocks.picture(85), format="rgb24")))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(clocks.chirp(1.0)[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    with pytest.raises(MediaError, match="has no video stream; a cover picture is none"):
        read_clip(path, **clocks.PROTOCOL)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / "folder.mp4").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket is short
        try:
            server.bind("socket.mp4")
        finally:
            os.chdir(here)
        for name, kind in (("fifo", "a fifo"), ("device", "a device"), ("folder", "a folder"), ("socket", "a socket")):
            with pytest.raises(MediaError, match=f"is {kind}, not a file"):
                read_clip(tmp_path / f"{name}.mp4", **clocks.PROTOCOL)


def test_a_sparse_file_of_a_terabyte_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.mp4").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(MediaError, match="931 GiB; at most 32 GiB"):
        read_clip(tmp_path / "a.mp4", **clocks.PROTOCOL)


def test_a_huge_picture_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = clocks.write(tmp_path / "a.mp4", seconds=1)
    monkeypatch.setattr(timeline, "MAX_PIXELS", 4_000)
    with pytest.raises(MediaError, match="64x64"):
        read_clip(path, **clocks.PROTOCOL)


def test_the_identity_names_everything_that_makes_pixels() -> None:
    identity = decode.identity()
    for part in ("decoder 3", f"PyAV {av.__version__}", "libavcodec ", "libswscale ", "swscale flags 0xc2002"):
        assert part in identity
    assert hashlib.sha256(identity.encode()).hexdigest() == hashlib.sha256(decode.identity().encode()).hexdigest()
