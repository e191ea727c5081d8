"""The memorisation check on hand-worked distances, and the features of the training clips that it keeps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.data.batches import Batch
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics.features import cache, frozen, training_clips, training_features
from avbench.metrics.memorisation import MAX_RATIO, NearestTrainAudio, NearestTrainVideo, distance_ratio, nearest_distance
from avbench.types import ClipBatch, ClipRef, Tokens

TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=1.0)
TRAINING = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


@dataclass(frozen=True)
class TinySplit:
    """As much of a split as its features ask for."""

    name: str = "arcade-train"
    checksum: str = "0123456789abcdef0123"
    clips: tuple[ClipRef, ...] = tuple(ClipRef(id=f"train/{i}", label="pong") for i in range(3))


def clips(points: np.ndarray, prefix: str = "test") -> ClipBatch:
    """Clips that carry a point (B, 2) as their video and audio."""
    content = torch.from_numpy(points)
    ids = tuple(f"{prefix}/{i}" for i in range(len(points)))
    return ClipBatch(
        ids=ids, labels=("pong",) * len(ids), video=content[:, None, None, None], audio=content[:, None], fps=4.0, sample_rate=24_000
    )


@pytest.fixture
def extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Three training clips at TRAINING, whose content is their feature; the list notes the size of each extraction."""
    calls: list[int] = []

    def extract(content: Tensor, sample_rate: int) -> Tensor:
        calls.append(len(content))
        return content.flatten(1)

    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(frozen.weights, "path", lambda name: Path(name))
    monkeypatch.setattr(frozen, "_extractor", lambda modality, device: extract)
    monkeypatch.setattr(cache, "_recent", {})
    monkeypatch.setattr(training_clips, "load", TinySplit)
    monkeypatch.setattr(training_features, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(
        frozen, "read_batch", lambda split, part, places: Batch(index=part, clips=clips(TRAINING[places], "train"), failures=())
    )
    return calls


def test_the_nearest_distance_is_that_of_a_search_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    some, training = rng.standard_normal((7, 5)), rng.standard_normal((20, 5))
    expected = [min(np.linalg.norm(one - other) for other in training) for one in some]
    assert nearest_distance(some, training).tolist() == pytest.approx(expected)


def test_ratios_by_hand() -> None:
    reference = np.array([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [0.0, 1e-6], [10.0, 0.0]])  # distances 5, 5, 5, 1e-6, 0
    recon = np.array([[3.0, 4.0], [10.0, 0.0], [0.0, 2.5], [0.0, 5.0], [0.0, 5.0]])
    found = distance_ratio(recon, reference, TRAINING)
    assert found[:4].tolist() == pytest.approx([1.0, 0.0, 0.5, MAX_RATIO])
    assert np.isnan(found[4])  # the reference is a training clip: nothing to compare with


@pytest.mark.parametrize("kind", [NearestTrainVideo, NearestTrainAudio])
def test_real_clips_are_at_one_and_training_clips_at_zero(kind: type, extracted: list[int], tmp_path: Path) -> None:
    metric = kind(MetricOptions(cache=tmp_path / "reference"))
    reference = clips(np.array([[3.0, 4.0], [6.0, 8.0]]))
    rows = metric.update(reference, reference, TOKENS)
    assert rows.tolist() == pytest.approx([1.0, 1.0])
    copies = metric.update(reference, clips(TRAINING[:2]), TOKENS)
    assert copies.tolist() == pytest.approx([0.0, 0.0])
    assert metric.compute(np.concatenate([rows, copies])) == pytest.approx(0.5)


def test_training_features_are_extracted_at_the_first_clip_and_kept(extracted: list[int]) -> None:
    first, second = NearestTrainVideo(MetricOptions()), NearestTrainVideo(MetricOptions())
    assert extracted == []
    assert np.array_equal(first.training.get(), TRAINING)
    assert np.array_equal(second.training.get(), TRAINING)
    assert extracted == [3]


def test_the_references_features_are_kept_and_a_generated_batch_is_not(extracted: list[int], tmp_path: Path) -> None:
    options = MetricOptions(cache=tmp_path / "reference")
    reference, recon = clips(np.array([[3.0, 4.0]])), clips(np.array([[1.0, 1.0]]))
    first = NearestTrainVideo(options).update(reference, recon, TOKENS)
    assert extracted == [3, 1, 1]
    other = clips(np.array([[1.0, 1.0]]))
    assert torch.equal(NearestTrainVideo(options).update(reference, other, TOKENS), first)
    assert extracted == [3, 1, 1, 1]


def test_clips_of_no_arcade_game_are_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    with pytest.raises(MetricUnavailable, match="use an arcade split"):
        NearestTrainVideo(MetricOptions(classes=frozenset({"playing accordion"})))
    assert list(tmp_path.iterdir()) == []


def test_the_protocol_names_features_split_and_limit(extracted: list[int]) -> None:
    info = NearestTrainAudio(MetricOptions()).info
    assert info.higher_is_better is None
    assert info.needs == {"audio"}
    for fact in ("first 2020 clips of arcade-train", training_clips.identity()[:8], "aisfx", "at most 10"):
        assert fact in info.protocol


def test_features_that_came_with_avbench_are_used_before_any_clip_is_looked_at(
    extracted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_features, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    rows = {modality: torch.arange(6, dtype=torch.float32).view(3, 2) + place for place, modality in enumerate(("video", "audio"))}
    training_features.write(training_features.shipped_file(), rows)
    assert np.array_equal(NearestTrainAudio(MetricOptions()).training.get(), rows["audio"].numpy())
    assert extracted == []
    content = training_features.shipped_file().read_bytes()
    training_features.shipped_file().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(MetricUnavailable, match="it is not what was written"):
        NearestTrainAudio(MetricOptions()).training.get()
