"""leaderboards/make: the scripts that make the tables evaluate in their own process and keep a run's small files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from submissions import finished_run

from avbench.board.validate import validate
from avbench.errors import AvbenchError
from avbench.generate.checkpoint import load_generator, save_generator
from avbench.leaderboards.make import common, generation, published
from avbench.tokenizers.avtok.tokenizer import PlainAVTok
from avbench.types import RunSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path, test_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    return tmp_path


def test_a_run_is_evaluated_and_its_row_replaces_one_of_an_earlier_revision(place: Path, clip_folder: Path) -> None:
    spec = RunSpec(tokenizer="static-frame", split=f"folder:{clip_folder}", metrics=("psnr",))
    folder = common.run(spec)
    row = published.publish(folder)
    earlier, other = row.parents[1] / "0" / row.name, row.parents[1] / "0" / "other_avtok"
    for old in (earlier, other):
        old.mkdir(parents=True)
    assert published.publish(folder) == row
    assert not earlier.exists()
    assert other.exists()
    assert common.rows("static-frame") == [row]
    (value,) = (v for v in json.loads((row / "result.json").read_text())["values"] if v["name"] == "psnr")
    assert value["value"] > 10
    assert validate(row, published=place).errors == ()


def test_an_old_folder_of_runs_is_moved_number_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reference = tmp_path / "runs" / "reference"
    runs = [finished_run(reference / "codec_arcade-mini_0123456789"), finished_run(reference / "schedules" / "x_arcade-mini_1", "x")]
    (reference / "generators").mkdir()
    (reference / "generators" / "g-8000.json").write_text("{}")
    before = [(run / "result.json").read_bytes() for run in runs]
    monkeypatch.setattr(sys, "argv", ["published.py", "--move", "runs/reference"])
    published.main()
    rows = [*common.rows(), *common.rows(below=common.KEPT_SCHEDULES)]
    assert [(row / "result.json").read_bytes() for row in rows] == before
    assert (common.KEPT_GENERATORS / "g-8000.json").exists()
    assert not reference.exists()


def test_a_generators_row_is_the_same_of_manifests_of_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = load_generator(PlainAVTok.shipped_generator)
    folder = tmp_path / "new"
    save_generator(folder, shipped.model, shipped.layout, (shipped.tokenizer, shipped.tokenizer_revision), shipped.provenance)
    monkeypatch.setattr(generation, "KEPT_GENERATORS", tmp_path)
    for name, of in (("old", PlainAVTok.shipped_generator), ("new", folder)):
        generation.keep_generator(of, name, 5)
    old, new = (generation.bits_row(name, 5) for name in ("old", "new"))
    assert old[1:] == new[1:] == ["256 + 120", "343 (2.5)", "458 (14.1)", "799 (4.4)", "78"]


def test_a_run_in_which_a_clip_fails_is_refused(place: Path, clip_folder: Path) -> None:
    broken = place / "videos"
    broken.mkdir()
    (broken / "good.mp4").write_bytes(next(clip_folder.rglob("*.mp4")).read_bytes())
    (broken / "bad.mp4").write_bytes(b"not a video")
    with pytest.raises(AvbenchError, match="1 clips failed"):
        common.run(RunSpec(tokenizer="static-frame", split=f"folder:{broken}", metrics=("psnr",)))


def test_the_kept_generation_runs_are_found_by_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for speaker in generation.GENERATORS[:3]:
        for task in generation.TASKS:
            found = generation.kept_run(speaker, generation.generator_folder(speaker, "ar-mini", 8_000), task)
            assert found is not None, f"{speaker.name}, {task}"
            assert found.name.startswith(f"{task}_arcade-test_")


@pytest.mark.parametrize("name", ["schedules", "generation", "sampling"])
def test_each_script_runs_from_the_root_as_the_docs_say(name: str) -> None:
    command = [sys.executable, f"leaderboards/make/{name}.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
