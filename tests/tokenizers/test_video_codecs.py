"""H.265, VP9, AV1 and VVC beside H.264: they keep their rate, come back as ffmpeg decodes them, and get better with bits."""

import subprocess
import sys
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch

from avbench import registry
from avbench.errors import AvbenchError
from avbench.metrics.psnr import psnr
from avbench.metrics.tokens import bits_per_second
from avbench.run import payload
from avbench.tokenizers.video_codec import AV1, H264, H265, VP9, VVC, VideoCodec, decode, encode, encode_within
from avbench.tokenizers.ycbcr import from_420, to_420, to_planes, to_rgb
from avbench.types import ClipBatch

CODECS = {"h264": H264, "h265": H265, "vp9": VP9, "av1": AV1, "vvc": VVC}
FORMATS = {"h264": "h264", "h265": "hevc", "vp9": "ivf", "av1": "obu", "vvc": "vvc"}
NAMES = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in CODECS]


def codec_of(name: str) -> VideoCodec:
    """The codec; its test is skipped where the extra is missing."""
    if CODECS[name].format:
        pytest.importorskip("imageio_ffmpeg", reason="av1 and vvc need the extra codecs")
    return CODECS[name]


@cache
def frames() -> torch.Tensor:
    """uint8 (6, 3, 48, 64): coloured squares that move over a smooth ramp with some noise."""
    video = torch.linspace(0, 200, 64).expand(6, 3, 48, 64).clone()
    for frame in range(6):
        video[frame, frame % 3, 8:24, 4 * frame : 4 * frame + 16] = 255
    noise = 8 * torch.randn(6, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    return (video + noise).clamp(0, 255).to(torch.uint8)


@cache
def stream(name: str, quality: float) -> bytes:
    found = encode(CODECS[name], to_planes(frames().numpy()), 4.0, quality)
    assert found is not None
    return found


def score(name: str, data: bytes) -> float:
    recon = decode(CODECS[name], data)
    assert recon.shape == frames().shape
    return float(psnr(frames()[None] / 255, recon[None] / 255))


@pytest.mark.parametrize("name", NAMES)
def test_more_quality_is_more_bits_and_more_bits_are_more_psnr(name: str) -> None:
    codec_of(name)
    streams = [stream(name, quality) for quality in (50.0, 40.0, 25.0, 10.0)]
    sizes, scores = [len(data) for data in streams], [score(name, data) for data in streams]
    assert sizes == sorted(set(sizes))
    assert scores == sorted(set(scores))
    assert scores[-1] > (24 if name == "vvc" else 35)  # near-lossless, each on its own scale; 4:2:0 blurs colours


def _ivf(data: bytes) -> bytes:
    """VP9's packets, each after its length in LEB128, in ffmpeg's container."""
    packets, at = [], 0
    while at < len(data):
        length = shift = 0
        while data[at] & 128:
            length, shift, at = length | (data[at] & 127) << shift, shift + 7, at + 1
        length, at = length | data[at] << shift, at + 1
        packets.append(data[at : at + length])
        at += length
    numbers = ((64, 2), (48, 2), (4, 4), (1, 4), (6, 4), (0, 4))  # width, height, rate, scale, frames, nothing
    head = b"DKIF" + bytes([0, 0, 32, 0]) + b"VP90" + b"".join(number.to_bytes(size, "little") for number, size in numbers)
    return head + b"".join(len(part).to_bytes(4, "little") + number.to_bytes(8, "little") + part for number, part in enumerate(packets))


@pytest.mark.parametrize("name", NAMES)
def test_the_pixels_are_those_of_ffmpegs_own_decoder(name: str) -> None:
    """Another program with another libavcodec, a demuxer of its own, and no code of ours."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="its ffmpeg is the oracle (extra codecs)")
    codec, data = codec_of(name), stream(name, 30.0)
    program, how = imageio_ffmpeg.get_ffmpeg_exe(), ["-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    command = [program, "-v", "error", "-f", FORMATS[name], "-i", "pipe:0", *how]
    raw = subprocess.run(command, input=_ivf(data) if name == "vp9" else data, capture_output=True, check=True).stdout
    if name == "vvc":
        parts = np.frombuffer(raw, dtype="<u2").reshape(6, -1)
        luma, chroma = parts[:, : 48 * 64].reshape(6, 48, 64), parts[:, 48 * 64 :].reshape(6, 2, 24, 32)
        planes = np.stack([from_420(y, u, v) for y, (u, v) in zip(luma, chroma, strict=True)])
    else:
        planes = np.frombuffer(raw, dtype=np.uint8).reshape(6, 3, 48, 64)
    assert np.array_equal(to_rgb(planes), decode(codec, data).numpy())


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_keeps_its_budget_and_is_the_same_each_time(name: str) -> None:
    codec = codec_of(name)
    found = encode_within(codec, frames(), 4.0, 3000)
    assert 2000 < len(found) <= 3000
    assert encode_within(codec, frames(), 4.0, 3000) == found
    assert encode_within(codec, frames(), 4.0, 10) == stream(name, codec.worst)


@pytest.mark.parametrize("name", NAMES)
def test_bits_are_counted_from_the_payload_and_a_sound_codec_goes_beside(name: str) -> None:
    codec_of(name)
    sound = torch.sin(torch.arange(36_000) * 0.1)[None, None]
    batch = ClipBatch(ids=("clip",), labels=(None,), video=frames()[None] / 255, audio=0.5 * sound, fps=4.0, sample_rate=24_000)
    tokenizer = registry.load_tokenizer(f"{name}@16k+opus@8k")
    tokens = tokenizer.encode(batch)
    assert tokenizer.info.entropy_coded == {"video", "audio"}
    sizes = [tokens.length(part, 0) for part in ("video", "audio")]
    assert bits_per_second(tokens).tolist() == pytest.approx([(8 * sum(sizes) + 64) / 1.5])
    assert sizes[0] <= 16_000 * 1.5 / 8
    recon = tokenizer.decode(payload.from_bytes([payload.to_bytes(tokens, 0)]))
    assert recon.video is not None
    assert recon.video.shape == batch.video.shape  # type: ignore[union-attr]
    assert recon.fps == pytest.approx(4.0)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_stream_is_refused(name: str) -> None:
    codec, data = codec_of(name), stream(name, 30.0)
    noise = bytes(torch.randint(0, 256, (2000,), generator=torch.Generator().manual_seed(5)).tolist())
    for wrong in (b"", noise, data[:3]):
        with pytest.raises(AvbenchError, match="damaged"):
            decode(codec, wrong)
    for position in range(0, len(data), max(1, len(data) // 15)):
        try:
            assert decode(codec, data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :]).shape[1] == 3
        except AvbenchError as error:
            assert codec.title in str(error)  # noqa: PT017 (either outcome is right)


@pytest.mark.parametrize("name", ["h264", "h265", "vvc"])
def test_no_settings_are_in_the_stream(name: str) -> None:
    codec, data = codec_of(name), stream(name, 30.0)
    assert codec.units is not None
    kinds = {codec.units.kind(unit) for unit in data.split(b"\0\0\1")[1:]}
    assert not kinds & codec.units.left_out
    assert b"x26" not in data


@pytest.mark.parametrize("name", ["h264", "h265", "vp9", "av1"])
def test_odd_sizes_come_back(name: str) -> None:
    odd = frames()[:3, :, :45, :51]
    recon = decode(codec_of(name), encode_within(CODECS[name], odd, 4.0, 4000))
    assert recon.shape == odd.shape
    assert float(psnr(odd[None] / 255, recon[None] / 255)) > 25


def test_vvc_says_that_it_takes_even_sizes() -> None:
    with pytest.raises(AvbenchError, match="even sides, not 51x48"):
        encode_within(codec_of("vvc"), frames()[..., :51], 4.0, 4000)


def test_half_colour_and_back_is_the_mean_of_four() -> None:
    planes = to_planes(frames().numpy())
    raw = np.frombuffer(to_420(planes)[2], dtype="<u2")
    back = from_420(raw[: 48 * 64].reshape(48, 64), *raw[48 * 64 :].reshape(2, 24, 32))
    assert np.array_equal(back[0], planes[2, 0])
    for plane in (1, 2):
        four = [int(value) for value in planes[2, plane, 10:12, 20:22].ravel()]
        exact = Fraction(sum(four), 4)
        assert abs(int(back[plane, 10, 20]) - exact) <= Fraction(1, 2)
        assert len({int(value) for value in back[plane, 10:12, 20:22].ravel()}) == 1


def test_a_missing_extra_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    for name in ("av1", "vvc"):
        with pytest.raises(AvbenchError, match=r"pip install 'avbench\[codecs\]'"):
            registry.load_tokenizer(name)
    registry.load_tokenizer("h265")
