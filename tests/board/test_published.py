"""Your own rows beside the published ones; and the mark of a verified row in every format."""

import json
from pathlib import Path

import numpy as np
import pytest
from submissions import edit, finished_run, submitted
from synthetic_runs import content, metric, save

from avbench.board import published
from avbench.board.formats import FORMATS, render
from avbench.board.published import gather
from avbench.board.recompute import NO_FEATURES
from avbench.board.results import PUBLISHED, Results, collect
from avbench.board.table import build_all
from avbench.run.finished import read_clips
from avbench.stats import mean_interval

MARK = dict.fromkeys(("code", "tolerance", "clips", "reencoded", "walls"), "x") | {"by": "the keeper", "when": "2026-11-30T05:00:00+00:00"}


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place whose results folder takes that of the published rows."""
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(found: Results) -> list[tuple[str, int]]:
    return sorted((run.tokenizer, run.num_clips) for run in found.results)


def test_what_comes_with_avbench_is_the_boards_rows() -> None:
    found = collect(PUBLISHED)
    assert len(found.results) > 70
    assert found.unreadable == ()
    assert {"arcade-mini", "arcade-test", "vggsound-test"} <= {run.split for run in found.results}


def test_without_a_run_of_your_own_everything_published_is_shown(shown: Path) -> None:
    submitted(shown, "theirs")
    assert names(gather(None, None)) == [("theirs", 12)]
    assert names(gather(None, None, published=False)) == []
    assert names(gather(None, shown / "results")) == [("theirs", 12)]


def test_your_rows_stand_beside_the_published_ones_of_their_splits_alone(shown: Path) -> None:
    submitted(shown, "theirs")
    save(shown / "runs", content("mine", [metric("psnr", 1.0)], split__name="folder:mine"))
    assert names(gather(None, None)) == [("mine", 101)]
    assert names(gather(None, None, split="arcade-mini")) == [("mine", 101), ("theirs", 12)]
    finished_run(shown / "runs" / "other", "other", seed=5)
    assert ("theirs", 12) in names(gather(None, None))


def test_at_fewer_clips_the_published_rows_are_computed_anew_over_yours(shown: Path) -> None:
    row = submitted(shown, "theirs")
    (row / "features.npz").rename(shown / "features.npz")
    finished_run(shown / "runs" / "mine", "mine", seed=5, limit=5)
    found = gather(None, None)
    assert names(found) == [("mine", 5), ("theirs", 5), ("theirs", 12)]
    again = next(run for run in found.results if (run.tokenizer, run.num_clips) == ("theirs", 5))
    numbers = np.array([clip["metrics"]["psnr"] for clip in read_clips(row)[:5]])
    assert again.values["psnr"].value == pytest.approx(numbers.mean())
    assert (again.values["psnr"].ci_low, again.values["psnr"].ci_high) == pytest.approx(mean_interval(numbers))
    assert (again.values["codebook_use"].value, again.values["codebook_use"].reason) == (None, NO_FEATURES)
    text = render(build_all(found, "arcade-mini", reported=False), "text")
    assert "on arcade-mini, 5 clips" in text
    assert "published row, over these 5 of its 12 clips" in text


def test_with_features_distances_are_computed_anew_too(shown: Path) -> None:
    submitted(shown, "theirs")
    finished_run(shown / "runs" / "mine", "mine", seed=5, limit=5)
    again = next(run for run in gather(None, None).results if (run.tokenizer, run.num_clips) == ("theirs", 5))
    histograms = np.load(shown / "results" / "theirs" / "1" / "arcade-mini_avtok_first-12" / "features.npz")["codebook_use"][:5]
    assert again.values["codebook_use"].value == pytest.approx((histograms.sum(axis=0) > 0).mean())


def test_clips_of_another_checksum_are_not_the_same_clips(shown: Path) -> None:
    submitted(shown, "theirs")
    run = finished_run(shown / "runs" / "mine", "mine", seed=5, limit=5)
    edit(run, "result.json", lambda content: content["split"].update(checksum="0" * 64))
    assert ("theirs", 5) not in names(gather(None, None))


@pytest.mark.parametrize("format", FORMATS)
def test_a_verified_row_has_its_mark_and_the_mark_its_words(tmp_path: Path, format: str) -> None:
    row = submitted(tmp_path)
    mark = "✓" if format not in ("csv", "json", "latex") else {"latex": r"\checkmark"}.get(format, "by the keeper, 2026-11-30")
    plain = render(build_all(collect(tmp_path / "results"), reported=False), format)
    assert mark not in plain
    edit(row, "manifest.json", lambda content: content.update(verified=MARK))
    text = render(build_all(collect(tmp_path / "results"), reported=False), format)
    assert mark in text
    if format not in ("csv", "json"):
        assert "decoded the row" in " ".join(text.split())


def test_a_mark_of_another_form_is_none(tmp_path: Path) -> None:
    row = submitted(tmp_path)
    for wrong in (True, {}, {"by": "x"}, {"by": 1, "when": 2}, "yes"):
        edit(row, "manifest.json", lambda content, wrong=wrong: content.update(verified=wrong))
        assert collect(tmp_path / "results").results[0].verified == ""
    (row / "manifest.json").write_text(json.dumps([]))
    assert collect(tmp_path / "results").results[0].verified == ""
