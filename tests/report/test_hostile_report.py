"""A report of runs and logs from anybody: numbers that no measurement has, files that are none, links that lead elsewhere."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import CLIPS, clip_row, save_run, tone_clip, training_run

from avbench.board.results import collect
from avbench.errors import AvbenchError
from avbench.files import parse_json
from avbench.report import write_site
from avbench.report.plot import Axis, x_axis, y_axis
from avbench.run.finished import read_clips
from avbench.run.samples import sample_name, write_pair, write_sample

MARK = 123.25
HOSTILE = {
    "1e400": "1e400",
    "an integer of 400 digits": "9" * 400,
    "an integer of 5000 digits": "9" * 5000,
    "NaN": "NaN",
    "-Infinity": "-Infinity",
    "1e308": "1e308",
    "1e-320": "1e-320",
    "-0.0": "-0.0",
    "text": '"<b>123</b>"',
    "null": "null",
    "true": "true",
    "a list": "[1, [2, [3]]]",
    "deep": "[" * 100_000 + "]" * 100_000,
}


def _put(folder: Path, text: str) -> None:
    """`text` for every number of a run that is MARK."""
    for file in folder.glob("*.json*"):
        file.write_text(file.read_text().replace(str(MARK), text))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A site of one sound run and training, and of one of each for every hostile number."""
    folder = tmp_path_factory.mktemp("hostile")
    runs, out = folder / "runs", folder / "out"
    rows = [clip_row(clip, 20.0 + number) for number, clip in enumerate(CLIPS)]
    save_run(runs, 0, "sound", rows)
    training_run(out / "sound")
    for number, text in enumerate(HOSTILE.values(), start=1):
        bad = [clip_row(clip, MARK, bits=MARK) for clip in CLIPS]
        for place in ("result", "clips"):
            run = save_run(runs, f"{number}-{place}", f"{place}-{number}", bad if place == "clips" else rows, bits=MARK, spec__seed=MARK)
            if place == "clips":
                kept = (run / "result.json").read_text().replace(str(MARK), "1000.0")
                _put(run, text)
                (run / "result.json").write_text(kept)
            else:
                _put(run, text)
        log = training_run(out / f"log-{number}")
        line = {"kind": "train", "step": MARK, "stage": "video", "clips_seen": 3200, "losses": {"total": MARK}}
        seen = {"kind": "eval", "step": 400, "stage": "video", "clips_seen": MARK, "held_out": {"psnr": MARK}}
        (log / "log.jsonl").write_text((log / "log.jsonl").read_text() + "\n".join(["", json.dumps(line), json.dumps(seen)]))
        (log / "manifest.json").write_text(json.dumps({"provenance": {"recipe": "r", "minutes": MARK, "config": {"schedule": MARK}}}))
        _put(log, text)
    write_site(folder / "site", runs_dir=runs, training_dir=out)
    return {page.name: page.read_text() for page in (folder / "site").glob("*.html")}


def test_hostile_numbers_leave_the_sound_rows_as_they_are(pages: dict[str, str]) -> None:
    front = pages["index.html"]
    assert ">sound</a>" in front
    assert "21.50" in front  # its PSNR
    assert not any(word in front.lower() for word in (">nan", ">inf", "1e+308"))
    assert "<b>123" not in front
    assert pages["training.html"].count("<section id=") == 1 + len(HOSTILE)


def test_a_run_that_cannot_be_read_is_named_with_its_reason(pages: dict[str, str]) -> None:
    deep = list(HOSTILE).index("deep") + 1
    assert f"run-{deep}-result" in pages["index.html"]
    assert "nested too deeply" in pages["index.html"]


@pytest.mark.parametrize("text", [value for key, value in HOSTILE.items() if key != "deep"])
def test_every_number_that_is_read_is_one(text: str) -> None:
    found = parse_json(f'{{"a": {text}}}')["a"]
    if isinstance(found, float) and math.isfinite(found):
        assert found == 0 or 1e-100 <= abs(found) <= 1e100


@pytest.mark.parametrize("text", ["1", "-5", "0.1", "1e-7", "-9223372036854775808", "18446744073709551615", "-0.125", "3.0"])
def test_numbers_of_measurements_are_read_as_they_are(text: str) -> None:
    assert parse_json(text) == json.loads(text)
    assert type(parse_json(text)) is type(json.loads(text))


NUMBERS = st.one_of(st.just(0.0), st.floats(1e-100, 1e100), st.floats(-1e100, -1e-100), st.integers(-(10**18), 10**18).map(float))


@settings(max_examples=300, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=6))
def test_an_axis_can_be_drawn_of_whatever_was_read(values: list[float]) -> None:
    axes = [x_axis(values), y_axis(values), y_axis(values, down=True)]
    axes += [x_axis(values, log=True)] if min(values) > 0 else []
    for axis in axes:
        _check(axis, values)


def _check(axis: Axis, values: list[float]) -> None:
    low, high = min(axis.start, axis.end), max(axis.start, axis.end)
    assert all(low - 1e-6 <= axis.at(value) <= high + 1e-6 for value in values)
    assert len(axis.ticks()) < 20


@pytest.mark.parametrize("name", ["clips.jsonl", "manifest.json", "result.json", "log.jsonl"])
def test_a_fifo_among_the_files_ends_nothing(name: str, tmp_path: Path) -> None:
    save_run(tmp_path / "runs", 0, "sound", [clip_row("a", 20.0)])
    run = save_run(tmp_path / "runs", 1, "other", [clip_row("a", 21.0)])
    log = training_run(tmp_path / "out" / "log")
    file = (log if name == "log.jsonl" else run) / name
    file.unlink()
    os.mkfifo(file)
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "out")
    pages = "".join(page.read_text() for page in (tmp_path / "site").glob("*.html"))
    assert f"{name} is a fifo, not a file" in pages
    assert ">sound</a>" in pages


@pytest.mark.parametrize("place", ["samples", "clip", "file"])
def test_nothing_is_copied_through_a_link(place: str, tmp_path: Path) -> None:
    """A run from somebody must not put a private folder of this machine onto a page that is given away."""
    private = tmp_path / "private"
    write_sample(private, tone_clip("a"), tone_clip("a", hertz=300), write_pair)
    run = save_run(tmp_path / "runs", 0, "codec", [clip_row("a", 20.0)])
    save_run(tmp_path / "runs", 1, "other", [clip_row("a", 21.0)])
    samples = run / "samples"
    if place == "samples":
        samples.symlink_to(private)
    else:
        shutil.copytree(private, samples)
        inside = samples / sample_name("a")
        target = inside if place == "clip" else inside / "recon.flac"
        shutil.rmtree(inside) if place == "clip" else target.unlink()
        target.symlink_to(private / sample_name("a") if place == "clip" else private / sample_name("a") / "recon.flac")
    done = write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "none")
    copied = {file.name for file in (tmp_path / "site" / "media").rglob("*") if file.is_file()} if done.num_sampled else set()
    assert copied == (set() if place != "file" else copied - {"0.flac"})
    assert done.num_sampled == (1 if place == "file" else 0)
    if place == "samples":
        (gallery,) = (tmp_path / "site").glob("gallery-*.html")
        assert "codec: its samples folder is a link, which is not followed" in gallery.read_text()


def test_pictures_of_a_training_are_not_copied_through_a_link(tmp_path: Path) -> None:
    log = training_run(tmp_path / "out" / "log")
    shutil.move(log / "pictures", tmp_path / "private")
    (log / "pictures").symlink_to(tmp_path / "private")
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "out")
    assert not list((tmp_path / "site").rglob("*.png"))


def test_one_clip_with_an_impossible_name_does_not_end_the_report(tmp_path: Path) -> None:
    """JSON can spell half a character; no file name and no page can."""
    save_run(tmp_path / "runs", 0, "sound", [clip_row("a", 20.0)])
    run = save_run(tmp_path / "runs", 1, "other", [clip_row("\ud800", 21.0)])
    with pytest.raises(AvbenchError, match="not a clip's row"):
        read_clips(run)
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "out")
    assert len(collect(tmp_path / "runs").results) == 2


def test_a_reader_that_fails_in_any_way_costs_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avbench.report import gallery, training

    def broken(path: Path) -> list[dict[str, object]]:
        if "run-1" in str(path):
            raise ZeroDivisionError("a fault of ours")
        return read_clips(path)

    def no_log(folder: Path) -> tuple[list[dict[str, object]], int]:
        raise ZeroDivisionError("another")

    save_run(tmp_path / "runs", 0, "sound", [clip_row("a", 20.0)])
    save_run(tmp_path / "runs", 1, "other", [clip_row("a", 21.0)])
    training_run(tmp_path / "out" / "log")
    monkeypatch.setattr(gallery, "read_clips", broken)
    monkeypatch.setattr(training, "read_lines", no_log)
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "out")
    (page,) = (tmp_path / "site").glob("gallery-*.html")
    assert "other: no clips to show. a fault of ours" in page.read_text()
    assert "log cannot be read: another" in (tmp_path / "site" / "training.html").read_text()


def test_other_files_of_hostile_json_count_as_text_only() -> None:
    for text in ("[" * 100_000, '{"a": ' * 50_000):
        with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
            parse_json(text)
