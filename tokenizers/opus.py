"""Opus at a byte budget: libopus through PyAV, no container.

A clip's payload: its sample rate (three bytes), then each packet after its length, one or two bytes as in RFC 6716 section 3.2.1.
The encoder's look-ahead is cut off again when decoding, so that nothing is delayed.
"""

import av
import numpy as np
import torch
import torchaudio
from torch import Tensor

from avbench.errors import AvbenchError

NATIVE_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
DECODER_RATE = 48_000
PRE_SKIP_48K = 312  # samples of look-ahead at 48 kHz that the encoder states in its OpusHead for application "audio", at every rate
MIN_BIT_RATE, MAX_BIT_RATE = 500, 256_000  # libopus's own limits for a channel
RATE_BYTES = 3
LAYOUTS = {1: "mono", 2: "stereo"}
SEARCH_STEPS = 10


def encode_within(samples: Tensor, sample_rate: int, num_bytes: int, duration_s: float) -> bytes:
    """The largest payload of at most `num_bytes` that a bisection over the encoder's bit rate finds.

    Args:
        samples: (C, N) in [-1, 1], one or two channels.
        num_bytes: the budget. Where even 500 bit/s is over it, that payload is returned all the same.
        duration_s: length of the clip, which makes the budget a bit rate.
    """
    target = 8 * num_bytes / duration_s
    lowest = MIN_BIT_RATE * len(samples)
    low, high = lowest, int(min(MAX_BIT_RATE * len(samples), max(3 * target, 2 * lowest)))
    best = encode(samples, sample_rate, low, _frame_ms(target))
    for _ in range(SEARCH_STEPS if len(best) <= num_bytes else 0):
        middle = (low + high) // 2
        data = encode(samples, sample_rate, middle, _frame_ms(target))
        if len(data) <= num_bytes:
            low, best = middle, max(best, data, key=len)
        else:
            high = middle
    return best


def encode(samples: Tensor, sample_rate: int, bit_rate: int, frame_ms: int) -> bytes:
    """Payload of (C, N) samples: constrained VBR, application "audio", full complexity, at a nominal bit rate."""
    native = sample_rate if sample_rate in NATIVE_RATES else DECODER_RATE
    audio = torchaudio.functional.resample(samples.cpu().float(), sample_rate, native).numpy()
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = native, LAYOUTS[len(samples)], "flt", bit_rate
    codec.options = {"application": "audio", "vbr": "constrained", "compression_level": "10", "frame_duration": str(frame_ms)}
    codec.open()
    size = codec.frame_size
    num_packets = -(-(audio.shape[1] + PRE_SKIP_48K * native // DECODER_RATE) // size)
    audio = np.pad(audio, ((0, 0), (0, num_packets * size - audio.shape[1])))
    packets = [
        packet for start in range(0, audio.shape[1], size) for packet in codec.encode(_frame(audio[:, start : start + size], native, start))
    ]
    packets += codec.encode(None)
    return sample_rate.to_bytes(RATE_BYTES, "big") + b"".join(_framed(bytes(packet)) for packet in packets[:num_packets])


def decode(data: bytes, duration_s: float, channels: int = 1) -> tuple[Tensor, int]:
    """Samples (C, round(duration_s * sample rate)) and the sample rate. Raises AvbenchError for a damaged payload."""
    sample_rate = int.from_bytes(data[:RATE_BYTES], "big")
    if len(data) < RATE_BYTES or not 1000 <= sample_rate <= 768_000:
        raise AvbenchError(f"Opus payload of {len(data)} bytes is damaged: a sample rate of {sample_rate} Hz")
    packets = _packets(data[RATE_BYTES:])
    codec = av.CodecContext.create("libopus", "r")
    codec.layout, codec.sample_rate = LAYOUTS[channels], DECODER_RATE
    try:
        frames = [frame for packet in packets for frame in codec.decode(av.Packet(packet))]
    except (av.FFmpegError, ValueError) as error:
        raise AvbenchError(f"Opus payload of {len(data)} bytes is damaged: {error}") from error
    parts = [np.zeros((channels, 0), dtype=np.float32), *(_samples(frame, channels) for frame in frames)]
    audio = torch.from_numpy(np.concatenate(parts, axis=1))[:, PRE_SKIP_48K:]
    num_samples = round(duration_s * sample_rate)
    if audio.shape[1] < num_samples * DECODER_RATE // sample_rate:
        raise AvbenchError(f"Opus payload of {len(data)} bytes is damaged: {audio.shape[1] / DECODER_RATE:.3f} s of {duration_s:g} s")
    audio = torchaudio.functional.resample(audio, DECODER_RATE, sample_rate)
    return audio[:, :num_samples].clamp(-1, 1), sample_rate


def _frame_ms(bit_rate: float) -> int:
    """Longer packets pay where each packet's header weighs: SI-SDR at 6 kbit/s, 60 ms -0.6 dB, 40 ms -1.6, 20 ms -2.5 (VGGSound)."""
    return 60 if bit_rate < 10_000 else 40 if bit_rate < 20_000 else 20


def _frame(samples: np.ndarray, sample_rate: int, start: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T.reshape(1, -1)), format="flt", layout=LAYOUTS[len(samples)])
    frame.sample_rate, frame.pts = sample_rate, start
    return frame


def _samples(frame: av.AudioFrame, channels: int) -> np.ndarray:
    """float32 (C, N) in [-1, 1]; the libopus decoder gives interleaved 16-bit or float samples."""
    samples = frame.to_ndarray().reshape(-1, channels).T
    return samples.astype(np.float32) / 32_768 if samples.dtype == np.int16 else samples.astype(np.float32)


def _framed(packet: bytes) -> bytes:
    """A length in one byte below 252, else in two: 4 * second + first."""
    length = len(packet)
    prefix = bytes([length]) if length < 252 else bytes([252 + length % 4, (length - 252 - length % 4) // 4])
    return prefix + packet


def _packets(data: bytes) -> list[bytes]:
    """The packets that `_framed` wrote one after the other. Raises AvbenchError where the last one is cut."""
    packets, at = [], 0
    while at < len(data):
        first, at = data[at], at + 1
        if first >= 252 and at < len(data):
            first, at = first + 4 * data[at], at + 1
        if not 0 < first <= len(data) - at:
            raise AvbenchError(f"Opus payload is damaged: a packet of {first} bytes where {len(data) - at} are left")
        packets.append(data[at : at + first])
        at += first
    return packets
