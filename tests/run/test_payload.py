import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avbench.errors import AvbenchError
from avbench.run import payload
from avbench.types import Tokens


def make(batch: int = 2, codebooks: int = 3, length: int = 5, vocab: int = 1000, lengths: list[int] | None = None, seed: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    return Tokens(
        codes={"audio": torch.randint(0, vocab, (batch, codebooks, length), generator=generator)},
        vocab_sizes={"audio": vocab},
        duration_s=4.096,
        lengths=None if lengths is None else {"audio": torch.tensor(lengths)},
    )


def round_trip(tokens: Tokens) -> Tokens:
    return payload.from_bytes([payload.to_bytes(tokens, clip) for clip in range(len(tokens))])


@settings(deadline=None, max_examples=60)
@given(
    vocab=st.sampled_from([1, 2, 3, 8, 255, 256, 257, 1024, 4096, 65_536, 65_537, 2**20, 2**32]) | st.integers(1, 2**32),
    codebooks=st.integers(1, 9),
    length=st.integers(0, 40),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_codes_survive_the_round_trip_bit_for_bit(vocab: int, codebooks: int, length: int, batch: int, seed: int) -> None:
    tokens = make(batch, codebooks, length, vocab, seed=seed)
    back = round_trip(tokens)
    assert torch.equal(back.codes["audio"], tokens.codes["audio"])
    assert back.codes["audio"].dtype == torch.int64
    assert back.vocab_sizes == {"audio": vocab}
    assert back.duration_s == 4.096
    assert back.lengths is None


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4), vocab=st.integers(1, 5000))
def test_lengths_survive_and_positions_beyond_them_are_not_stored(lengths: list[int], vocab: int) -> None:
    tokens = make(len(lengths), 2, 30, vocab, lengths)
    back = round_trip(tokens)
    assert back.lengths is not None
    assert back.lengths["audio"].tolist() == lengths
    for clip, length in enumerate(lengths):
        assert torch.equal(back.codes["audio"][clip, :, :length], tokens.codes["audio"][clip, :, :length])
        assert not back.codes["audio"][clip, :, length:].any()


def test_a_chunked_stream_of_an_odd_width_survives() -> None:
    tokens = make(1, 1, 2 * 2**18 + 13, 1000)
    assert torch.equal(round_trip(tokens).codes["audio"], tokens.codes["audio"])


def test_several_streams_keep_their_order_names_and_shapes() -> None:
    codes = {"video": torch.arange(24).reshape(2, 3, 4), "audio": torch.ones(2, 1, 7, dtype=torch.int64)}
    back = round_trip(Tokens(codes=codes, vocab_sizes={"video": 24, "audio": 2}, duration_s=1.5))
    assert list(back.codes) == ["video", "audio"]
    assert all(torch.equal(back.codes[name], codes[name]) for name in codes)


@pytest.mark.parametrize(("vocab", "bits"), [(1, 0), (2, 1), (3, 2), (1024, 10), (1025, 11), (4096, 12)])
def test_a_code_takes_ceil_log2_of_the_vocab_bits(vocab: int, bits: int) -> None:
    empty = len(payload.to_bytes(make(1, 1, 0, vocab), 0))
    assert len(payload.to_bytes(make(1, 8, 300, vocab), 0)) - empty == math.ceil(8 * 300 * bits / 8)


def test_the_packed_bits_are_those_worked_out_by_hand() -> None:
    tokens = Tokens(codes={"a": torch.tensor([[[1, 2, 7]]])}, vocab_sizes={"a": 8}, duration_s=1.0)
    assert payload.to_bytes(tokens, 0)[-2:] == bytes([0b00101011, 0b10000000])


def test_position_beyond_the_length_may_hold_anything() -> None:
    tokens = make(lengths=[5, 2])
    tokens.codes["audio"][1, 0, 3] = -1
    payload.check(tokens, 2)


@pytest.mark.parametrize("value", [-1, 1000])
def test_a_code_out_of_range_is_named_with_stream_clip_position_and_value(value: int) -> None:
    tokens = make()
    tokens.codes["audio"][1, 2, 4] = value
    message = rf'stream "audio", clip 1, codebook 2, position 4: code {value} is outside \[0, 1000\)'
    with pytest.raises(AvbenchError, match=message):
        payload.check(tokens, 2)
    with pytest.raises(AvbenchError, match=message):
        payload.to_bytes(tokens, 1)
    payload.to_bytes(tokens, 0)


def broken(**changes: object) -> Tokens:
    fields: dict[str, object] = {"codes": {"v": torch.zeros(2, 1, 3, dtype=torch.int64)}, "vocab_sizes": {"v": 4}, "duration_s": 1.0}
    return Tokens(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (broken(codes={}), "0 streams"),
        (broken(codes={"v": torch.zeros(2, 1, 3)}), "float32"),
        (broken(codes={"v": torch.zeros(2, 1, 3, dtype=torch.int32)}), "int32"),
        (broken(codes={"v": torch.zeros(2, 3, dtype=torch.int64)}), r"shape \(2, 3\)"),
        (broken(codes={"v": torch.zeros(2, 0, 3, dtype=torch.int64)}), "0 codebooks"),
        (broken(vocab_sizes={}), "vocab_sizes"),
        (broken(vocab_sizes={"v": 0}), "vocab size is 0"),
        (broken(vocab_sizes={"v": 2**33}), "vocab size"),
        (broken(vocab_sizes={"v": 4.0}), "vocab size is 4.0"),
        (broken(duration_s=float("nan")), "duration_s is nan"),
        (broken(duration_s=0.0), "duration_s"),
        (broken(lengths={"w": torch.tensor([1, 1])}), 'stream "w"'),
        (broken(lengths={"v": torch.tensor([1.0, float("nan")])}), "lengths are torch.float32"),
        (broken(lengths={"v": torch.tensor([1])}), "lengths"),
        (broken(lengths={"v": torch.tensor([1, 4])}), r'stream "v", clip 1: length 4 is outside \[0, 3\]'),
        (broken(lengths={"v": torch.tensor([-1, 3])}), "length -1"),
        (
            broken(
                codes={"v": torch.zeros(2, 1, 3, dtype=torch.int64), "w": torch.zeros(1, 1, 3, dtype=torch.int64)},
                vocab_sizes={"v": 4, "w": 4},
            ),
            "another stream",
        ),
    ],
)
def test_tokens_that_break_the_contract_are_refused_with_the_reason(tokens: Tokens, message: str) -> None:
    with pytest.raises(AvbenchError, match=message):
        payload.check(tokens, 2)


def test_another_number_of_clips_than_was_encoded_is_refused() -> None:
    with pytest.raises(AvbenchError, match="2 clips, but 3"):
        payload.check(make(), 3)


def test_every_truncation_is_refused() -> None:
    data = payload.to_bytes(make(1), 0)
    for size in range(len(data)):
        with pytest.raises(AvbenchError, match="too soon"):
            payload.from_bytes([data[:size]])


def test_trailing_bytes_and_bits_are_refused() -> None:
    data = payload.to_bytes(make(1), 0)  # 15 codes of 10 bits: 2 spare bits
    with pytest.raises(AvbenchError, match="goes on for 1 bytes"):
        payload.from_bytes([data + b"\0"])
    with pytest.raises(AvbenchError, match="hides data"):
        payload.from_bytes([data[:-1] + bytes([data[-1] | 1])])


def test_a_code_that_its_vocab_does_not_have_is_refused() -> None:
    data = payload.to_bytes(make(1, 1, 1, 1000), 0)
    with pytest.raises(AvbenchError, match="code 1023"):
        payload.from_bytes([data[:-2] + b"\xff\xc0"])


def test_a_header_that_claims_more_than_the_limits_allocates_nothing() -> None:
    head = struct.pack(">4sdB", b"AVT1", 1.0, 1) + b"\x01v"
    for fields in [(0, 65_535, 2**32 - 1, 1), (0, 1, 1, 2**33), (0, 0, 1, 2), (2, 1, 1, 2), (0, 1, 1, 0)]:
        with pytest.raises(AvbenchError, match="over the limits"):
            payload.from_bytes([head + struct.pack(">BHIQ", *fields)])


def test_empty_input_and_unlike_clips_are_refused() -> None:
    with pytest.raises(AvbenchError, match="no payloads"):
        payload.from_bytes([])
    with pytest.raises(AvbenchError, match="clip 1 differs"):
        payload.from_bytes([payload.to_bytes(make(vocab=10), 0), payload.to_bytes(make(vocab=11), 0)])


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=80), flip=st.integers(0, 10_000))
def test_arbitrary_bytes_are_refused_or_read_but_never_crash(data: bytes, flip: int) -> None:
    valid = bytearray(payload.to_bytes(make(1), 0))
    valid[flip % len(valid)] ^= 1 << (flip % 8)
    for candidate in (data, payload.MAGIC + data, bytes(valid)):
        try:
            tokens = payload.from_bytes([candidate])
        except AvbenchError:
            continue
        payload.check(tokens, 1)
        assert payload.to_bytes(tokens, 0) == candidate


def test_raw_video_packs_to_its_own_bytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 786_432)
    tokens = Tokens(codes={"video": torch.from_numpy(pixels)[None, None]}, vocab_sizes={"video": 256}, duration_s=4.096)
    assert payload.to_bytes(tokens, 0).endswith(pixels.astype(np.uint8).tobytes())
    assert torch.equal(round_trip(tokens).codes["video"], tokens.codes["video"])


def test_more_codes_than_the_clip_has_numbers_are_refused_before_they_are_looked_at() -> None:
    codes = torch.zeros(1, 1, 1, dtype=torch.int64).expand(4, 1, 2**24)  # half a gigabyte, if somebody writes it out
    tokens = Tokens(codes={"a": codes, "b": codes}, vocab_sizes={"a": 2, "b": 2}, duration_s=4.096)
    with pytest.raises(AvbenchError, match="tokens are 33,554,432 codes a clip; 1,769,472 are as many as can be of use"):
        payload.check(tokens, 4, most_codes=1_769_472)
