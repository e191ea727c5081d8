"""Decoding: which frames, which samples, and what a file that gives no clip says. Videos are made here with PyAV."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from avbench.data import convert
from avbench.data.media import MediaError, read_clip, write_mp4

PROTOCOL = {"num_frames": 16, "duration_s": 4.096, "resolution": 128, "sample_rate": 24_000}


def grey_at(time: float) -> int:
    """The clock of the test videos: the picture shown at `time` is this grey."""
    return 16 + round(20 * time)


def make(
    path: Path,
    times: Sequence[float],
    *,
    size: tuple[int, int] = (160, 120),
    sound: np.ndarray | None,
    rate: int = 48_000,
    codecs: tuple[str, str] = ("libx264", "aac"),
    grey: Callable[[float], int] = grey_at,
) -> Path:
    """A video with one picture at each of `times` (s), and sound (C, N) float32 from 0 s on."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codecs[0], rate=25)
        video.width, video.height, video.pix_fmt = size[0], size[1], "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = None
        if sound is not None:
            audio = container.add_stream(codecs[1], rate=rate, layout="stereo" if len(sound) == 2 else "mono")
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), grey(time), dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            for start in range(0, sound.shape[1], 1024):
                piece = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(sound[:, start : start + 1024]), format="fltp", layout=audio.codec_context.layout.name
                )
                piece.sample_rate, piece.pts, piece.time_base = rate, start, Fraction(1, rate)
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def tone(seconds: float, rate: int = 48_000, frequency: float = 440.0, channels: int = 1) -> np.ndarray:
    return np.tile(0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate), (channels, 1)).astype(np.float32)


def greys(video: np.ndarray) -> np.ndarray:
    return video.mean(axis=(1, 2, 3))


@pytest.mark.parametrize("seconds", [10.0, 4.2, 30.0])
def test_the_frames_are_those_of_the_middle(tmp_path: Path, seconds: float) -> None:
    times = [number / 25 for number in range(round(seconds * 25))]
    path = make(tmp_path / "a.mp4", times, sound=tone(seconds), grey=lambda time: round(20 + 200 * time / seconds))
    video, audio = read_clip(path, **PROTOCOL)
    start = (seconds - 4.096) / 2
    wanted = [20 + 200 * (start + 0.256 * number) / seconds for number in range(16)]
    assert video.shape == (16, 128, 128, 3)
    assert audio.shape == (98_304,)
    assert np.abs(greys(video) - wanted).max() < 200 * 0.03 / seconds + 2.5


def test_a_variable_frame_rate_is_read_by_presentation_time(tmp_path: Path) -> None:
    times = [*np.arange(0, 3, 0.5), *np.arange(3, 4, 0.02), *np.arange(4, 8, 0.25)]
    path = make(tmp_path / "a.mkv", times, sound=tone(8))
    duration = times[-1] + 0.04  # as long as the last picture is shown
    video, _ = read_clip(path, **PROTOCOL)
    wanted = (duration - 4.096) / 2 + 0.256 * np.arange(16)
    nearest = [grey_at(min(times, key=lambda time: abs(time - at))) for at in wanted]
    assert np.abs(greys(video) - nearest).max() <= 2.5


def test_sound_and_picture_are_of_the_same_moment(tmp_path: Path) -> None:
    """A flash and a beep at 5.0 s of 10 s: both are in the clip's middle, whatever the seek landed on."""
    rate = 44_100
    time = np.arange(10 * rate) / rate
    beep = np.where((time >= 5.0) & (time < 5.5), 0.5 * np.sin(2 * np.pi * 1000 * time), 0)[None].astype(np.float32)
    path = make(tmp_path / "a.mp4", [n / 25 for n in range(250)], sound=beep, rate=rate, grey=lambda at: 220 if 5.0 <= at < 5.5 else 20)
    video, audio = read_clip(path, **PROTOCOL)
    onset = np.flatnonzero(np.abs(audio) > 3000)[0] / 24_000
    assert abs(onset - 2.048) < 0.005
    assert [bool(grey > 100) for grey in greys(video)] == [2.048 <= 0.256 * n + 1e-9 < 2.548 for n in range(16)]


def test_a_tone_comes_out_at_its_frequency_and_level_from_every_rate(tmp_path: Path) -> None:
    for rate in (8_000, 22_050, 44_100, 48_000):
        path = make(tmp_path / f"{rate}.mkv", [n / 25 for n in range(200)], sound=tone(8, rate), rate=rate, codecs=("mpeg4", "pcm_s16le"))
        _, audio = read_clip(path, **PROTOCOL)
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
        assert abs(spectrum.argmax() * 24_000 / len(audio) - 440) < 0.3
        assert abs(np.abs(audio[2000:-2000]).max() / 32767 - 0.5) < 0.01


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.concatenate([tone(5), -tone(5)])
    path = make(tmp_path / "a.mkv", [n / 25 for n in range(125)], sound=stereo, codecs=("libx264", "pcm_s16le"))
    _, audio = read_clip(path, **PROTOCOL)
    assert np.abs(audio).max() <= 2


def test_a_short_clip_holds_its_last_frame_and_is_padded_with_silence(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", [n / 25 for n in range(25)], sound=tone(1.0))
    video, audio = read_clip(path, **PROTOCOL)
    assert np.abs(greys(video)[4:] - grey_at(0.96)).max() <= 2.5
    assert np.abs(audio[:20_000]).max() > 10_000
    assert np.abs(audio[30_000:]).max() == 0


def test_a_single_picture_is_a_clip(tmp_path: Path) -> None:
    video, _ = read_clip(make(tmp_path / "a.mkv", [0.0], sound=tone(0.5)), **PROTOCOL)
    assert (video == video[:1]).all()


@pytest.mark.parametrize("size", [(322, 182), (98, 202), (64, 64), (1280, 40)])
def test_any_size_becomes_the_middle_square(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make(tmp_path / "a.mp4", [n / 25 for n in range(125)], size=size, sound=tone(5))
    assert read_clip(path, **PROTOCOL)[0].shape == (16, 128, 128, 3)


def test_the_crop_is_of_the_middle_and_keeps_the_aspect() -> None:
    frame = np.zeros((200, 400, 3), dtype=np.uint8)
    frame[:, 100:300] = 255
    assert (convert.centre_crop(frame, 128) == 255).all()
    circle = (np.hypot(*np.mgrid[-100:100, -200:200]) < 60)[..., None] * np.full(3, 255, dtype=np.uint8)
    cropped = convert.centre_crop(circle.astype(np.uint8), 128) > 127
    assert abs(cropped[64, :, 0].sum() - cropped[:, 64, 0].sum()) <= 1


def test_without_sound_or_picture_the_reason_says_so(tmp_path: Path) -> None:
    mute = make(tmp_path / "mute.mp4", [n / 25 for n in range(125)], sound=None)
    with pytest.raises(MediaError, match="has no audio stream"):
        read_clip(mute, **PROTOCOL)
    blind = tmp_path / "blind.mp4"
    with av.open(str(blind), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(1), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="has no video stream"):
        read_clip(blind, **PROTOCOL)


def test_a_cut_off_file_is_not_padded(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    noise = torch.rand(250, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    write_mp4(whole, noise, 25.0, torch.from_numpy(tone(10)), 48_000)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises((MediaError, av.error.FFmpegError)):
        read_clip(cut, **PROTOCOL)


def test_a_damaged_picture_is_no_picture(tmp_path: Path) -> None:
    """Wrong bytes in the window's video packets: a decoder that paints over them would give a clip that is nobody's."""
    path = tmp_path / "a.mp4"
    noise = torch.rand(100, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    write_mp4(path, noise, 20.0, torch.from_numpy(tone(5)), 48_000)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.pts is not None]
    data = bytearray(path.read_bytes())
    for position, size in packets[20:60]:
        data[position + size // 2 : position + size // 2 + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises((MediaError, av.error.FFmpegError)):
        read_clip(path, **PROTOCOL)


def test_empty_and_text_files_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(MediaError, match="empty"):
        read_clip(tmp_path / "empty.mp4", **PROTOCOL)
    (tmp_path / "text.mp4").write_text("not a video\n" * 1000)
    with pytest.raises(av.error.FFmpegError):
        read_clip(tmp_path / "text.mp4", **PROTOCOL)


def test_a_playlist_in_disguise_opens_no_other_file(tmp_path: Path) -> None:
    real = make(tmp_path / "real.ts", [n / 25 for n in range(125)], sound=tone(5))
    lists = {"hls": f"#EXTM3U\n#EXTINF:5,\nfile://{real}\n#EXT-X-ENDLIST\n", "concat": f"ffconcat version 1.0\nfile '{real}'\n"}
    for name, text in lists.items():
        path = tmp_path / f"{name}.mp4"
        path.write_text(text)
        with pytest.raises((MediaError, av.error.FFmpegError)):
            read_clip(path, **PROTOCOL)


@pytest.mark.parametrize(("height", "width", "rate", "channels"), [(128, 128, 24_000, 1), (121, 99, 30_720, 2), (128, 256, 44_100, 2)])
def test_what_write_mp4_writes_reads_back(tmp_path: Path, height: int, width: int, rate: int, channels: int) -> None:
    video = torch.linspace(0.1, 0.9, 16)[:, None, None, None].expand(16, 3, height, width)
    write_mp4(tmp_path / "a.mp4", video, 3.90625, torch.from_numpy(tone(4.096, rate, channels=channels)), rate)
    with av.open(str(tmp_path / "a.mp4")) as container:
        picture = container.streams.video[0]
        assert (picture.codec_context.name, picture.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert container.streams.audio[0].codec_context.name == "aac"
        assert abs(container.duration / 1e6 - 4.096) < 0.1
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(picture)]
    assert np.abs(greys(np.stack(frames)) / 255 - video[:, 0, 0, 0].numpy()).max() < 0.02
    _, audio = read_clip(tmp_path / "a.mp4", **PROTOCOL)
    assert abs(np.sqrt((audio[5000:90_000] / 32767.0) ** 2).mean() - 0.5 * 2 / np.pi) < 0.02


def test_write_mp4_without_sound(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", torch.rand(4, 3, 32, 32), 10.0, None, 24_000)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert not container.streams.audio
        assert len(list(container.decode(video=0))) == 4


def test_int16_conversion_is_exact_at_the_ends_and_clips() -> None:
    samples = np.array([-2, -1, 0, 1, 2], dtype=np.float32)
    assert convert.to_int16(samples).tolist() == [-32767, -32767, 0, 32767, 32767]


def test_block_dc_removes_an_offset_and_keeps_a_tone() -> None:
    wave = tone(4, 30_720)[0]
    filtered = convert.block_dc(wave + np.float32(0.6), 30_720)
    assert abs(filtered.mean()) < 0.002
    assert abs(filtered[5000:].std() / wave.std() - 1) < 0.01
    assert filtered[0] == pytest.approx(0, abs=1e-6)
