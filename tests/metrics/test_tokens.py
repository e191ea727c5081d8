import numpy as np
import pytest
import torch

from avbench.metric import MetricUnavailable
from avbench.metrics import tokens as metrics
from avbench.run import payload
from avbench.types import ClipBatch, Tokens

NOTHING = ClipBatch(fps=4.0, sample_rate=24_000)


def make(
    codes: dict[str, torch.Tensor], vocabs: dict[str, int], duration_s: float, lengths: dict[str, torch.Tensor] | None = None
) -> Tokens:
    return Tokens(codes=codes, vocab_sizes=vocabs, duration_s=duration_s, lengths=lengths)


def one(codebooks: int, rate: float, vocab: int, duration_s: float = 4.0) -> Tokens:
    return make({"audio": torch.zeros(2, codebooks, round(rate * duration_s), dtype=torch.int64)}, {"audio": vocab}, duration_s)


@pytest.mark.parametrize(
    ("tokens", "tokens_per_s", "bits_per_s"),
    [(one(8, 75, 1024), 600, 6000), (one(1, 75, 4096), 75, 900), (one(1, 40, 4096), 40, 480), (one(1, 16, 1), 16, 0)],
    ids=["EnCodec 6 kbps", "WavTokenizer 75", "WavTokenizer 40", "one entry says nothing"],
)
def test_published_rates(tokens: Tokens, tokens_per_s: float, bits_per_s: float) -> None:
    received = payload.from_bytes([payload.to_bytes(tokens, clip) for clip in range(2)])
    assert metrics.TokensPerSecond().update(NOTHING, NOTHING, received).tolist() == [tokens_per_s] * 2
    assert metrics.BitsPerSecond().update(NOTHING, NOTHING, received).tolist() == pytest.approx([bits_per_s] * 2)


def test_a_vocab_that_is_no_power_of_two_counts_fractional_bits() -> None:
    assert metrics.bits_per_second(one(1, 10, 1000)).tolist() == pytest.approx([10 * np.log2(1000)] * 2)


def test_streams_add_up_and_a_byte_stream_counts_its_own_length() -> None:
    codes = {"video": torch.zeros(2, 1, 1000, dtype=torch.int64), "audio": torch.zeros(2, 2, 100, dtype=torch.int64)}
    tokens = make(codes, {"video": 256, "audio": 16}, 2.0, {"video": torch.tensor([1000, 250])})
    assert metrics.tokens_per_second(tokens).tolist() == [(1000 + 200) / 2, (250 + 200) / 2]
    assert metrics.bits_per_second(tokens).tolist() == [(8000 + 32 + 800) / 2, (2000 + 32 + 800) / 2]


def test_lengths_of_a_stream_that_says_nothing_are_not_free() -> None:
    """Codes of a vocab of one take no bits, but how many there are may tell 24 bits a stream."""
    tokens = make({"video": torch.zeros(2, 1, 9, dtype=torch.int64)}, {"video": 1}, 2.0, {"video": torch.tensor([9, 3])})
    received = payload.from_bytes([payload.to_bytes(tokens, clip) for clip in range(2)])
    assert metrics.bits_per_second(received).tolist() == [16, 16]


def test_histogram_keeps_codebooks_and_streams_apart_and_skips_padding() -> None:
    codes = {"a": torch.tensor([[[0, 1, 1], [1, 1, 0]]]), "b": torch.tensor([[[2, 2, 0]]])}
    tokens = make(codes, {"a": 2, "b": 3}, 1.0, {"b": torch.tensor([2])})
    assert metrics.code_histogram(tokens).tolist() == [[1, 2, 1, 2, 0, 0, 2]]


def test_use_and_perplexity_of_known_distributions() -> None:
    assert metrics.codebook_use(np.array([[3, 0, 0, 1]])) == 0.5
    assert metrics.codebook_use(np.array([[3, 0, 0, 1], [0, 2, 0, 0]])) == 0.75
    assert metrics.codebook_perplexity(np.array([[5, 0, 0, 0]])) == pytest.approx(1)
    assert metrics.codebook_perplexity(np.array([[1, 0, 1, 0], [0, 1, 0, 1]])) == pytest.approx(4)
    assert metrics.codebook_perplexity(np.array([[2, 1, 1]])) == pytest.approx(2**1.5)


def test_metrics_do_not_depend_on_the_batch() -> None:
    codes = torch.randint(0, 50, (4, 2, 30), generator=torch.Generator().manual_seed(0))
    whole = make({"v": codes}, {"v": 64}, 1.0)
    parts = [make({"v": codes[i : i + 1]}, {"v": 64}, 1.0) for i in range(4)]
    for metric in (metrics.CodebookUse(), metrics.CodebookPerplexity()):
        rows = metric.update(NOTHING, NOTHING, whole).numpy()
        alone = np.concatenate([metric.update(NOTHING, NOTHING, part).numpy() for part in parts])
        assert np.array_equal(rows, alone)
        assert metric.compute(rows) == metric.compute(rows.astype(np.float32))  # as a run keeps them


def test_a_codebook_too_large_to_count_is_not_available() -> None:
    metrics.code_histogram(one(1, 10, 16_384))
    with pytest.raises(MetricUnavailable, match="65,536"):
        metrics.code_histogram(one(1, 10, 65_536))
    with pytest.raises(MetricUnavailable, match="16,392"):
        metrics.code_histogram(one(8, 10, 2049))
