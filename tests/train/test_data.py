"""avbench.train.data: clips in any order, mels kept, an order that only the seed and the step decide."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.data import shards
from avbench.data.splits import Split
from avbench.errors import AvbenchError
from avbench.nn.mel import log_mel
from avbench.train.data import ClipReader, MelCache, Order, Share, TrainBatch, micro_batches
from avbench.types import ClipRef, Protocol

PROTOCOL = Protocol(num_frames=4, duration_s=0.256, resolution=32, sample_rate=24_000)  # 6144 samples, 24 mel frames
CPU = torch.device("cpu")


@pytest.fixture
def clips() -> tuple[np.ndarray, np.ndarray]:
    """Video (9, 4, 32, 32, 3) and audio (9, 6144) of nine clips."""
    random = np.random.default_rng(0)
    video = random.integers(0, 256, (9, 4, 32, 32, 3), dtype=np.uint8)
    return video, random.integers(-9000, 9000, (9, PROTOCOL.num_samples)).astype("<i2")


@pytest.fixture
def split(tmp_path: Path, clips: tuple[np.ndarray, np.ndarray]) -> Split:
    """The nine clips prepared, number 4 failed."""
    video, audio = clips
    with shards.Writer(tmp_path, PROTOCOL) as writer:
        for number in range(9):
            if number == 4:
                writer.fail(f"clip{number}", "s", "", "damaged")
            else:
                writer.add(f"clip{number}", "s", "", video[number].tobytes(), audio[number].tobytes())
    entries = shards.read_index(tmp_path)
    refs = tuple(ClipRef(id=name, label=None) for name in entries)
    return Split(
        name="toy",
        clips=refs,
        protocol=PROTOCOL,
        checksum="0",
        num_official=9,
        note="",
        train_split=None,
        root=tmp_path,
        entries=tuple(entries.values()),
    )


def of(reader: ClipReader) -> Callable[[int, list[int]], TrainBatch]:
    """What `micro_batches` reads: the same clips look alike at every step."""
    return lambda step, clips: reader.batch(clips)


def test_a_batch_holds_the_clips_asked_for_and_passes_over_the_failed_one(split: Split, clips: tuple[np.ndarray, np.ndarray]) -> None:
    reader = ClipReader(split)
    batch = reader.batch([7, 4, 0], with_audio=True)
    assert len(reader) == 8
    assert torch.equal(batch.video.permute(0, 1, 3, 4, 2), torch.from_numpy(clips[0][[8, 5, 0]]))
    assert batch.audio is not None
    assert torch.equal(batch.audio, torch.from_numpy(clips[1][[8, 5, 0]]))


def test_a_mel_is_log_mel_of_the_samples_and_the_second_read_comes_from_the_cache(
    split: Split, clips: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ClipReader(split).batch([2]).mel
    expected = log_mel(torch.from_numpy(clips[1][2].astype(np.float32)) / 32767)
    assert first.shape == (1, 80, 24)
    assert torch.allclose(first[0].float(), expected, atol=0.01)

    def fail(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the mel was computed again")

    monkeypatch.setattr("avbench.train.data.log_mel", fail)
    assert torch.equal(ClipReader(split).batch([2]).mel, first)


def test_the_mel_cache_grows_with_its_split_and_keeps_what_it_has(tmp_path: Path) -> None:
    audio = np.full(PROTOCOL.num_samples, 1000, dtype=np.int16)
    kept = MelCache(tmp_path, 2, PROTOCOL.num_samples).get(1, lambda row: audio).copy()
    grown = MelCache(tmp_path, 5, PROTOCOL.num_samples)
    assert np.array_equal(grown.get(1, lambda row: pytest.fail("read again")), kept)
    assert grown.get(4, lambda row: audio).shape == (80, 24)


def test_every_epoch_shows_each_clip_once() -> None:
    order = Order(num_clips=10, batch_size=4, seed=3)
    seen = [clip for step in range(5) for clip in order.step(step)]
    assert Counter(seen) == dict.fromkeys(range(10), 2)
    assert Counter(seen[:10]) == dict.fromkeys(range(10), 1)
    assert seen[:10] != seen[10:]


def test_two_processes_and_accumulation_share_out_the_very_clips_of_the_step(split: Split) -> None:
    reader = ClipReader(split)
    order = Order(num_clips=8, batch_size=8, seed=1)
    found = []
    for part in (0, 1):
        share = Share(part=part, parts=2, accumulate=2)
        found += [batch.video for batch in micro_batches(of(reader), order, range(3, 4), share, CPU)]
    together = torch.cat([found[0], found[2], found[1], found[3]])
    assert torch.equal(together, reader.batch(order.step(3)).video)


def test_a_run_that_resumes_at_a_step_sees_what_the_uninterrupted_one_saw(split: Split) -> None:
    reader, order = ClipReader(split), Order(num_clips=8, batch_size=3, seed=7)
    whole = [batch.video for batch in micro_batches(of(reader), order, range(6), Share(), CPU)]
    resumed = [batch.video for batch in micro_batches(of(reader), order, range(4, 6), Share(), CPU)]
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], resumed, strict=True))


def test_a_shard_that_is_something_else_is_named(split: Split) -> None:
    path = shards.shard_path(split.root, 0, "video")
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(AvbenchError, match=r"0000\.video\.npy is float64"):
        ClipReader(split).batch([0])
    path.write_bytes(b"not an array")
    with pytest.raises(AvbenchError, match="cannot be read"):
        ClipReader(split).batch([0])
