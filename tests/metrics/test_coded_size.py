"""Codes become bits and codes again; the bits are what the probabilities promise, and never more than the nominal rate and a few."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from range_decoder import decode

from avbench import registry, stats
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics.code_models import StreamModel
from avbench.metrics.coded_size import MAX_CODES, CodedBitsPerSecond, CodedStream, coded, coded_bits, rows_of, streams_of
from avbench.metrics.range_coder import Intervals, encode, ideal_bits
from avbench.metrics.tokens import bits_per_second
from avbench.types import ClipBatch, Tokens

RNG = np.random.default_rng(0)


def zipf(shape: tuple[int, ...], vocab: int) -> np.ndarray:
    """Codes of which the n-th is 1/n as frequent as the first."""
    weights = 1 / np.arange(1, vocab + 1)
    return np.random.default_rng(1).choice(vocab, size=shape, p=weights / weights.sum())


def chain(shape: tuple[int, int, int], vocab: int, stay: float) -> np.ndarray:
    """Every code is the one before it plus one with probability `stay`, else any."""
    rng = np.random.default_rng(2)
    codes = rng.integers(vocab, size=shape)
    for at in range(1, shape[2]):
        codes[..., at] = np.where(rng.random(shape[:2]) < stay, (codes[..., at - 1] + 1) % vocab, codes[..., at])
    return codes


def of(*streams: tuple[np.ndarray, int]) -> list[CodedStream]:
    return [CodedStream(codes=codes, vocab=vocab) for codes, vocab in streams]


def batch(num_clips: int) -> ClipBatch:
    return ClipBatch(ids=tuple(f"clip {number}" for number in range(num_clips)), fps=4.0, sample_rate=24_000)


STREAMS: dict[str, Callable[[], list[CodedStream]]] = {
    "one code alone": lambda: of((RNG.integers(9, size=(5, 1, 1)), 9)),
    "always the same": lambda: of((np.full((6, 2, 40), 3), 1024)),
    "noise": lambda: of((RNG.integers(64, size=(6, 1, 50)), 64)),
    "two of a large vocabulary": lambda: of((RNG.integers(2**24 - 2, 2**24, size=(4, 1, 30)), 2**24)),
    "skewed, order-1, several streams": lambda: of((zipf((7, 2, 60), 300), 300), (chain((7, 3, 40), 16, 0.9), 16)),
    "a binary code": lambda: of((zipf((8, 1, 100), 2), 2)),
    "two clips": lambda: of((zipf((2, 1, 100), 20), 20)),
}


@pytest.mark.parametrize("name", STREAMS)
def test_an_independent_decoder_gives_the_codes_back_whatever_follows_the_message(name: str) -> None:
    streams = STREAMS[name]()
    num_clips = len(streams[0].codes)
    keys = np.random.default_rng(3).permutation(num_clips)
    clips = [[stream.codes[clip].tolist() for stream in streams] for clip in range(num_clips)]
    half = set(np.argsort(keys)[: -(-num_clips // 2)].tolist())
    told = 0
    for numbers, messages in coded(streams, keys):
        for clip, data, bits in zip(numbers.tolist(), messages.data, messages.bits.tolist(), strict=True):
            others = [clips[other] for other in range(num_clips) if (other in half) != (clip in half)]
            for seed in range(2):
                assert decode(data.tobytes(), bits, others, [stream.vocab for stream in streams], seed) == clips[clip]
            told += 1
    assert told == num_clips


@pytest.mark.parametrize("way", range(3), ids=["plain", "static", "order-1"])
def test_the_coded_length_is_the_ideal_one_within_a_percent(way: int) -> None:
    codes = (RNG.integers(64, size=(6, 1, 400)), zipf((6, 1, 400), 64), chain((6, 1, 400), 64, 0.95))[way]
    choice, intervals = StreamModel.of(codes[3:], 64).intervals(codes[:3])
    assert choice.tolist() == [way] * 3
    ideal, bits = ideal_bits(intervals), encode(intervals).bits
    assert (bits >= ideal).all()
    assert (bits - ideal <= 2.001).all()
    assert (bits <= 1.01 * ideal).all()


def test_the_ideal_length_is_that_of_probabilities_worked_out_by_hand() -> None:
    """Seen: 0 three times, 1 once, of a vocabulary of 4. PPM method C: 0 has 3 of 6, 1 has 1 of 6, others 2 of 6 and then 1 of 4."""
    model = StreamModel.of(np.array([[[0, 0, 1, 0]]]), 4)
    start, size, total, seen = model.codebook.intervals(np.zeros(4, dtype=np.int64), np.arange(4))
    assert (start.tolist(), size.tolist(), total.tolist(), seen.tolist()) == ([0, 3, 4, 4], [3, 1, 2, 2], [6] * 4, [1, 1, 0, 0])
    # Order-1: after 0 came 0 and 1, once each; after 1 came 0; the start was followed by 0. The clip 0 0 0: (1 of 2), (1 of 4), (1 of 4).
    choice, intervals = model.intervals(np.array([[[0, 0, 0]]]))
    assert choice.tolist() == [1]
    assert ideal_bits(intervals).tolist() == pytest.approx([math.log2(3) + 3])
    assert encode(intervals).bits.tolist() == [6]


def test_carries_run_through_bytes_that_are_out() -> None:
    """The highest thousandth, again and again, then the middle: low is 0.1111... and overflows late."""
    ones = np.array([[999] * 200 + [0], [999] * 200 + [999]]).T
    intervals = Intervals(start=ones, size=np.ones_like(ones), total=np.full_like(ones, 1000))
    messages = encode(intervals)
    for data, bits, column in zip(messages.data, messages.bits, ones.T, strict=True):
        value = int.from_bytes(data.tobytes(), "big")
        low = sum(int(digit) * 1000 ** (200 - at) for at, digit in enumerate(column))
        scale = 2 ** (8 * len(data))
        # exact interval [low, low + 1) / 1000**201; the coder's rounding takes less than 1e-9 of it, relative to its size at each step
        assert abs(value / scale - low / 1000**201) < 1e-12
        assert bits - 201 * math.log2(1000) < 2.001


@pytest.mark.parametrize("vocab", [2, 64, 5000])
@pytest.mark.parametrize("num_clips", [2, 9])
def test_noise_takes_the_nominal_bits_and_less_than_four_more(vocab: int, num_clips: int) -> None:
    codes = np.random.default_rng(4).integers(vocab, size=(num_clips, 2, 100))
    bits = coded_bits(of((codes, vocab)), np.arange(num_clips))
    nominal = 200 * math.log2(vocab)
    assert (bits < nominal + math.log2(3) + 2.001).all()
    assert bits.mean() > 0.95 * nominal


def test_a_constant_stream_takes_next_to_nothing() -> None:
    assert (coded_bits(of((np.full((20, 1, 256), 7), 4096)), np.arange(20)) <= 5).all()


def test_the_more_even_the_codes_the_more_bits() -> None:
    sizes = [coded_bits(of((np.minimum(zipf((20, 1, 200), 64), top), 64)), np.arange(20)).mean() for top in (1, 3, 10, 63)]
    assert sizes == sorted(sizes)
    chains = [coded_bits(of((chain((20, 1, 200), 64, stay), 64)), np.arange(20)).mean() for stay in (0.99, 0.9, 0.5, 0.0)]
    assert chains == sorted(chains)


def test_a_source_of_known_entropy_is_coded_near_it() -> None:
    """400 clips of 500 codes of a Zipf source over 32 entries: its entropy is the lower bound, 1 % is what counts and flush cost."""
    weights = 1 / np.arange(1, 33)
    share = weights / weights.sum()
    entropy = -(share * np.log2(share)).sum()
    bits = coded_bits(of((zipf((400, 1, 500), 32), 32)), np.arange(400))
    assert bits.mean() / 500 == pytest.approx(entropy, rel=0.01)


def made(codes: torch.Tensor, vocab: int, **more: dict[str, torch.Tensor]) -> Tokens:
    return Tokens(codes={"video": codes}, vocab_sizes={"video": vocab}, duration_s=4.096, **more)  # type: ignore[arg-type]


def test_rows_hold_the_codes_and_do_not_depend_on_the_batch() -> None:
    codes, other = torch.randint(0, 2**24, (4, 2, 9)), torch.randint(0, 5, (4, 1, 7))
    tokens = Tokens(codes={"video": codes, "audio": other}, vocab_sizes={"video": 2**24, "audio": 5}, duration_s=4.096)
    rows = rows_of(tokens, batch(4).ids, frozenset())
    assert rows.dtype == torch.float32
    streams = streams_of(rows.numpy())
    assert np.array_equal(streams[0].codes, codes.numpy())
    assert np.array_equal(streams[1].codes, other.numpy())
    assert [stream.vocab for stream in streams] == [2**24, 5]
    for clip in range(4):
        alone = Tokens(codes={n: c[[clip]] for n, c in tokens.codes.items()}, vocab_sizes=tokens.vocab_sizes, duration_s=4.096)
        assert torch.equal(rows_of(alone, (batch(4).ids[clip],), frozenset())[0], rows[clip])


def test_the_value_is_the_mean_of_bits_over_seconds_and_the_order_of_clips_is_nothing_to_it() -> None:
    metric, codes = CodedBitsPerSecond(MetricOptions()), torch.from_numpy(zipf((9, 1, 64), 50))
    rows = metric.update(batch(9), batch(9), made(codes, 50)).numpy()
    streams = of((codes.numpy(), 50))
    assert metric.compute(rows) == pytest.approx(coded_bits(streams, rows[:, 0]).mean() / 4.096, rel=1e-6)
    assert metric.compute(rows[::-1].copy()) == metric.compute(rows) == metric.compute(rows.astype(np.float64))
    low, high = stats.jackknife_interval(metric.compute, rows)
    assert low is not None
    assert high is not None
    assert low < metric.compute(rows) < high


def test_many_clips_are_coded_in_parts_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    streams, keys = of((zipf((30, 2, 50), 100), 100)), np.arange(30)
    whole = coded_bits(streams, keys)
    monkeypatch.setattr("avbench.metrics.coded_size._AT_ONCE", 250)
    assert np.array_equal(coded_bits(streams, keys), whole)


def test_streams_that_are_coded_already_count_as_they_are_stated() -> None:
    codes, lengths = torch.randint(0, 256, (3, 1, 50)), torch.tensor([50, 20, 0])
    tokens = made(codes, 256, lengths={"video": lengths})
    metric = CodedBitsPerSecond(MetricOptions(entropy_coded=frozenset({"video"})))
    rows = metric.update(batch(3), batch(3), tokens).numpy()
    assert rows.shape == (3, 4)
    assert metric.compute(rows) == pytest.approx(float(bits_per_second(tokens).mean()), rel=1e-6)
    both = Tokens(
        codes={**tokens.codes, "audio": torch.from_numpy(zipf((3, 1, 60), 8))}, vocab_sizes={"video": 256, "audio": 8}, duration_s=4.096,
        lengths=tokens.lengths,
    )  # fmt: skip
    sound = Tokens(codes={"audio": both.codes["audio"]}, vocab_sizes={"audio": 8}, duration_s=4.096)
    alone = CodedBitsPerSecond(MetricOptions())
    rest = alone.compute(alone.update(batch(3), batch(3), sound).numpy())
    assert metric.compute(metric.update(batch(3), batch(3), both).numpy()) == pytest.approx(metric.compute(rows) + rest, rel=1e-6)


def test_codecs_say_that_they_are_coded_and_a_composite_says_which_part_is() -> None:
    for name, streams in (("h264", {"video"}), ("opus", {"audio"}), ("h264-opus", {"video", "audio"}), ("static-frame+opus", {"audio"})):
        info = registry.load_tokenizer(name).info
        assert info.entropy_coded == streams
        assert info.facts()["entropy_coded"] == sorted(streams)
    assert "entropy_coded" not in registry.load_tokenizer("static-frame").info.facts()


def test_codes_that_vary_in_number_or_are_too_many_are_not_available() -> None:
    with pytest.raises(MetricUnavailable, match="entropy_coded"):
        rows_of(made(torch.zeros(2, 1, 3, dtype=torch.int64), 9, lengths={"video": torch.tensor([3, 1])}), batch(2).ids, frozenset())
    with pytest.raises(MetricUnavailable, match="16,385"):
        rows_of(made(torch.zeros(1, 1, MAX_CODES + 1, dtype=torch.int64), 9), batch(1).ids, frozenset())
    with pytest.raises(MetricUnavailable, match="16,777,217"):
        rows_of(made(torch.zeros(1, 1, 1, dtype=torch.int64), 2**24 + 1), batch(1).ids, frozenset())


def test_a_vocabulary_of_one_needs_no_bits() -> None:
    metric = CodedBitsPerSecond(MetricOptions())
    assert metric.compute(metric.update(batch(2), batch(2), made(torch.zeros(2, 1, 30, dtype=torch.int64), 1)).numpy()) == 0
