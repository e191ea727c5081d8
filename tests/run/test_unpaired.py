"""Two sets that have no pairs: the value of a distribution metric, its interval, and how tables and comparisons show it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import avbench
from avbench import weights
from avbench.board import formats
from avbench.board.compare import compare, render
from avbench.board.table import leaderboard
from avbench.errors import AvbenchError, UsageError
from avbench.metric import DistributionMetric, MetricInfo, MetricOptions
from avbench.metrics.frechet import frechet_distance
from avbench.metrics.fvd import Fvd
from avbench.nn.pretrained import aisfx
from avbench.report import write_site
from avbench.run.unpaired import OneSided
from avbench.types import ClipBatch, Tokens
from tests.helpers import clocks

SECONDS, RATE = 4.2, 24_000
Write = Callable[..., Path]
NOTHING = Tokens(codes={}, vocab_sizes={}, duration_s=1.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, with the user's weights."""
    try:
        found = weights.path("aisfx", fetch=False)
    except weights.WeightsUnavailable as reason:
        pytest.skip(str(reason))
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(found.parent))
    monkeypatch.setenv("AVBENCH_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """A folder of sound files: number k is a chirp that begins at k, with `noise`; named by `names`."""

    def folder(numbers: range, *, noise: float = 0.0, names: Callable[[int], str] = str) -> Path:
        root = tmp_path_factory.mktemp("sounds") / f"of-{len(numbers)}"
        root.mkdir()
        for number in numbers:
            sound = clocks.chirp(SECONDS, RATE, start=number) + noise * np.random.default_rng(number).standard_normal(round(SECONDS * RATE))
            soundfile.write(root / f"{names(number)}.wav", sound, RATE, subtype="PCM_16")
        return root

    return folder


def score(reference: Path, outputs: Path, **options: Any) -> avbench.Run:
    return avbench.score(reference, outputs, device="cpu", progress=False, **options)


def embeddings(folder: Path) -> np.ndarray:
    """(clips x windows, 512) of every file, without the metric."""
    split = avbench.load_split(f"folder:{folder}?only=audio")
    audio = np.stack([np.atleast_2d(arrays[1]) for arrays in split.arrays(range(len(split.clips))) if not isinstance(arrays, str)])
    found = aisfx.embed(aisfx.load(torch.device("cpu")), torch.from_numpy(audio).float() / 32767, RATE)
    return found.reshape(-1, found.shape[-1]).double().numpy()


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    return frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))


def test_sets_of_one_size_in_another_order_are_as_far_apart_as_the_pairs(write: Write) -> None:
    reference, same = write(range(10)), write(range(10), noise=0.05)
    other = write(range(10), noise=0.05, names=lambda number: f"made-{97 - number}")
    pairs = score(reference, same, metrics=("fad_aisfx", "si_sdr"))
    sets = score(reference, other, metrics=("fad_aisfx", "si_sdr"), unpaired=True)
    assert sets["fad_aisfx"] == pytest.approx(pairs["fad_aisfx"], rel=1e-5)
    assert pairs["si_sdr"] > 0
    with pytest.raises(AvbenchError, match="unpaired: no output stands for a reference"):
        _ = sets["si_sdr"]
    with pytest.raises(AvbenchError, match=r"pairings \(by clip and unpaired sets\)"):
        compare(pairs.folder, sets.folder)


def test_sets_of_different_sizes_equal_an_independent_computation_and_are_shown(write: Write, tmp_path: Path) -> None:
    reference, outputs, better = write(range(10)), write(range(20, 32), noise=0.05), write(range(40, 52), noise=0.001)
    for folder in (outputs, better):
        (folder / "z.wav").write_bytes(b"no sound")
    a, b = (score(reference, folder, metrics=("fad_aisfx",), unpaired=True, name=name) for folder, name in ((outputs, "a"), (better, "b")))
    assert a["fad_aisfx"] == pytest.approx(by_hand(embeddings(reference), embeddings(outputs)), rel=1e-3)
    (value,) = a.result["values"]
    assert value["ci_low"] < value["value"] < value["ci_high"]
    assert value["protocol"].startswith("unpaired: 13 outputs against 10 references; FAD, aisfx")
    rows = [json.loads(line) for line in (a.folder / "clips.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows if row["status"] == "failed"] == ["output/z.wav"]
    assert sum(row["id"].startswith("reference/") for row in rows) == 10
    found = compare(a.folder, b.folder)
    row = next(row for row in found.rows if row.column.metric == "fad_aisfx")
    assert row.difference.difference == pytest.approx(b["fad_aisfx"] - a["fad_aisfx"], rel=1e-9)
    assert (found.num_common, row.difference.num_clips) == (10, 10 + 12 + 12)
    assert "10 references are ok in both" in render(found)
    text = formats.render(leaderboard(tmp_path / "runs"), "md")
    assert "10 references and 13 outputs, unpaired" in text
    assert "unpaired: 13 outputs against 10 references" in text
    page = write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "none").index.read_text()
    assert "10 references and 13 outputs, unpaired" in page


def test_seven_references_are_too_few_and_the_row_says_so(write: Write) -> None:
    run = score(write(range(7)), write(range(12), noise=0.05), metrics=("fad_aisfx",), unpaired=True)
    with pytest.raises(AvbenchError, match="needs 10 references and as many outputs, has 7 and 12"):
        _ = run["fad_aisfx"]


class Means(DistributionMetric):
    """Three numbers a clip, and Fréchet's distance of them."""

    info = MetricInfo(name="means", unit="", higher_is_better=False, needs=frozenset({"audio"}), protocol="means", distribution=True)
    kept: tuple[str, ...] = ()

    def features(self, clips: ClipBatch, *, reference: bool) -> Tensor:
        assert clips.audio is not None
        self.kept += clips.ids if reference else ()
        return clips.audio[:, 0, :3]

    def distance(self, reference: np.ndarray, recon: np.ndarray) -> float:
        return by_hand(reference, recon)


def test_seven_references_against_twelve_outputs_in_batches_of_both() -> None:
    clips = torch.randn(19, 1, 8, generator=torch.Generator().manual_seed(0))
    ids = [*(f"reference/{number}" for number in range(7)), *(f"output/{number}" for number in range(12))]
    plain = Means()
    metric, rows = OneSided(plain, (7, 12)), []
    for start in range(0, 19, 4):
        batch = ClipBatch(ids=tuple(ids[start : start + 4]), audio=clips[start : start + 4], fps=1.0, sample_rate=8)
        rows.append(metric.update(batch, batch, NOTHING))
    value = metric.compute(torch.cat(rows).numpy())
    assert value == pytest.approx(by_hand(clips[:7, 0, :3].double().numpy(), clips[7:, 0, :3].double().numpy()), rel=1e-5)
    assert plain.kept == tuple("0123456")  # the ids of the split: features that a paired run kept are found again
    assert metric.info.protocol == "unpaired: 12 outputs against 7 references; means"


def test_fvd_of_two_sets_is_that_of_their_features() -> None:
    features = np.random.default_rng(0).standard_normal((19, 400))
    rows = np.full((19, 2, 400), np.nan)
    rows[:7, 0], rows[7:, 1] = features[:7], features[7:]
    metric = OneSided(Fvd(MetricOptions()), (7, 12))
    assert metric.compute(rows) == pytest.approx(by_hand(features[:7], features[7:]), rel=1e-6)
    paired = np.stack([features[:7], features[7:14]], axis=1)
    rows[:14] = np.nan
    rows[:7, 0], rows[7:14, 1] = features[:7], features[13:6:-1]
    assert metric.compute(rows[:14]) == pytest.approx(metric.compute(paired), rel=1e-9)


@pytest.mark.parametrize("asked", [{"pairs": "x.csv"}, {"bits_per_s": 1.0}, {"only": "audio"}, {"save_samples": 1}])
def test_what_needs_pairs_is_refused(write: Write, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="unpaired"):
        score(write(range(1)), write(range(1)), unpaired=True, **asked)


def test_sound_alone_is_compared_with_sound_alone(write: Write, clip_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"REFERENCE\?only=audio"):
        score(clip_folder, write(range(1)), unpaired=True)


def test_where_nothing_pairs_the_switch_is_named(write: Write) -> None:
    with pytest.raises(UsageError, match="as sets: --unpaired"):
        score(write(range(2)), write(range(2), names=lambda number: f"other-{number}"))
