"""Clips that were made elsewhere: pairs by name and by list, what does not fit, and rows that equal those of a run."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile

from avbench.errors import UsageError
from avbench.registry import load_task
from avbench.run.evaluate import Run, evaluate
from avbench.run.score import Scored, split_of
from avbench.types import Outputs, RunSpec
from tests.helpers import clocks

QUERY = "?res=32&fps=5&seconds=2&rate=16000"
FAST = ("psnr", "si_sdr", "bits_per_s", "tokens_per_s")
Score = Callable[..., Run]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """reference/ of three videos of 4 s, one in a folder of its own; outputs/ of the same, coded more coarsely."""
    root = tmp_path_factory.mktemp("clips")
    for name in ("a.mp4", "b.mp4", "deep/c.mp4"):
        for side, options in (("reference", {"crf": "10"}), ("outputs", {"crf": "45"})):
            path = root / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            clocks.write(path if side == "reference" else path.with_suffix(".mkv"), seconds=4.0, options=options)
    return root


@pytest.fixture
def score(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))

    def run(
        outputs: Path = clips / "outputs", *, reference: str = f"{clips}/reference{QUERY}", metrics=FAST, task="reconstruct", **asked: Any
    ):
        spec = RunSpec(
            tokenizer="theirs", split=split_of(reference), metrics=FAST, device="cpu",
            outputs=Outputs(folder=str(outputs), **asked),
        )  # fmt: skip
        return evaluate(spec, task=Scored(load_task("reconstruct")), runs_dir=tmp_path / "runs")

    return run


def values(run: Run) -> dict[str, Any]:
    return {value["name"]: value["value"] for value in run.result["values"]}


def reasons(run: Run) -> dict[str, str]:
    rows = [json.loads(line) for line in (run.folder / "clips.jsonl").read_text().splitlines()]
    return {row["id"]: row["reason"] for row in rows if row["status"] == "failed"}


def test_files_of_one_name_are_pairs_whatever_their_container(score: Score) -> None:
    done = score(bits_per_s=1000.0)
    assert done.num_failed == 0
    found = values(done)
    assert 15 < found["psnr"] < 60
    assert found["bits_per_s"] == pytest.approx(1000)
    assert found["tokens_per_s"] is None
    assert done.result["tokenizer"]["kind"] == "scored"
    assert str(done.folder.parent.parent) not in (done.folder / "result.json").read_text()  # no path of the machine's


def test_copies_are_exact(score: Score, clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips / "reference", tmp_path / "copies")
    assert values(score(tmp_path / "copies"))["psnr"] == 100


def test_the_reference_itself_is_no_output(score: Score, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for name in ("a.mp4", "b.mp4"):
        os.link(clips / "reference" / name, tmp_path / "links" / name)
    done = score(tmp_path / "links")
    assert done.num_failed == 3
    assert reasons(done) == {
        "a.mp4": "its output is its reference itself (the same file)",
        "b.mp4": "its output is its reference itself (the same file)",
        "deep/c.mp4": "has no output of its name",
    }


def test_another_length_fails_and_says_how_to_compare(score: Score, tmp_path: Path) -> None:
    for name, seconds in (("a.mp4", 4.05), ("b.mp4", 3.0)):
        (tmp_path / "short").mkdir(exist_ok=True)
        clocks.write(tmp_path / "short" / name, seconds=seconds)
    found = reasons(score(tmp_path / "short"))
    assert set(found) == {"b.mp4", "deep/c.mp4"}
    assert found["b.mp4"].startswith("its output lasts 3.00 s, its reference 4.00 s; at most 0.1 s may differ")


def test_from_a_stated_beginning_on_only_the_clip_must_be_there(score: Score, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "short").mkdir()
    clocks.write(tmp_path / "short" / "a.mp4", seconds=3.0)
    clocks.write(tmp_path / "short" / "b.mp4", seconds=1.0)
    found = reasons(score(tmp_path / "short", reference=f"{clips}/reference{QUERY}&start=0.5"))
    assert set(found) == {"b.mp4", "deep/c.mp4"}
    assert "the clip at 2.5 s" in found["b.mp4"]


def test_another_shape_fails_another_size_is_resized(score: Score, tmp_path: Path) -> None:
    (tmp_path / "shapes").mkdir()
    wide, large = np.zeros((32, 64, 3), np.uint8), np.zeros((128, 128, 3), np.uint8)
    clocks.write(tmp_path / "shapes" / "a.mp4", seconds=4.0, shown=lambda _: wide)
    clocks.write(tmp_path / "shapes" / "b.mp4", seconds=4.0, shown=lambda _: large)
    found = reasons(score(tmp_path / "shapes"))
    assert set(found) == {"a.mp4", "deep/c.mp4"}
    assert "2.000 times as wide as high, its reference 1.000 times" in found["a.mp4"]


def test_a_list_says_which_is_whose_and_how_large(score: Score, clips: Path, tmp_path: Path) -> None:
    rows = [("reference", "output", "bytes"), ("a.mp4", "b.mkv", "500"), ("b.mp4", "a.mkv", "1500"), ("other.mp4", "x.mkv", "1")]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    done = score(pairs=str(tmp_path / "pairs.csv"))
    assert set(reasons(done)) == {"deep/c.mp4"}
    assert values(done)["bits_per_s"] == pytest.approx(8 * 1000 / 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("reference,file\na.mp4,a.mkv\n", "no column output"),
        ("reference,output\na.mp4,../reference/a.mp4\n", "is not below"),
        ("reference,output\na.mp4,a.mkv\na.mp4,b.mkv\n", "has an output already"),
        ("reference,output,bytes\na.mp4,a.mkv,1e3\n", "not a whole number"),
        ("reference,output\nnothing.mp4,a.mkv\n", "names no reference"),
        ("reference,output\na.mp4\n", "not as many fields"),
        ("", "no column reference"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused(score: Score, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(UsageError, match=says):
        score(pairs=str(tmp_path / "pairs.csv"))


def test_nothing_that_belongs_together_is_refused(score: Score, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    clocks.write(tmp_path / "others" / "x.mp4", seconds=2.0)
    with pytest.raises(UsageError, match=r"a reference is called 'a', an output 'x'"):
        score(tmp_path / "others")


def test_sound_files_are_scored_alone(score: Score, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for side, level in (("reference", 0.0), ("outputs", 0.05)):
        (tmp_path / side).mkdir()
        sound = np.stack([clocks.chirp(6.0, 44_100), 0.3 * clocks.chirp(6.0, 44_100, start=1.0)], axis=1)
        soundfile.write(tmp_path / side / "x.wav", sound + level * rng.standard_normal(sound.shape), 44_100, subtype="PCM_16")
    done = score(tmp_path / "outputs", reference=str(tmp_path / "reference"))
    assert done.result["split"]["name"].endswith("?only=audio")
    assert 5 < values(done)["si_sdr"] < 40
    assert values(done)["psnr"] is None
    stereo = score(tmp_path / "outputs", reference=f"{tmp_path}/reference?only=audio&channels=2&rate=44100")
    assert "44100 Hz stereo" in stereo.result["protocol"]
    assert stereo.folder != done.folder


def test_the_sound_of_videos_can_be_sound_files(score: Score, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "sound").mkdir()
    soundfile.write(tmp_path / "sound" / "a.wav", clocks.chirp(4.0), clocks.RATE, subtype="PCM_16")
    done = score(tmp_path / "sound")
    assert set(reasons(done)) == {"b.mp4", "deep/c.mp4"}
    assert values(done)["si_sdr"] > 20  # the same chirp, less what AAC lost: both begin at one moment


def test_folders_of_frames_are_videos_without_sound(score: Score, tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / "frames" / "a").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "frames" / "a" / f"f{number}.png"), clocks.picture(number))
    with pytest.raises(UsageError, match="give --fps"):
        score(tmp_path / "frames")
    done = score(tmp_path / "frames", fps=25.0)
    assert set(reasons(done)) == {"b.mp4", "deep/c.mp4"}
    assert values(done)["psnr"] > 30  # the pictures that were coded, in the order of their numbers
    assert values(done)["si_sdr"] is None


def test_the_command_prints_the_row_and_the_folder(clips: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avbench", "score", f"{clips}/reference{QUERY}", str(clips / "outputs"), "--metrics", "psnr",
               "--name", "codec x", "--runs-dir", str(tmp_path / "runs")]  # fmt: skip
    environment = {**os.environ, "AVBENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "codec x" in done.stdout
    assert Path(done.stdout.splitlines()[-1], "result.json").is_file()
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "reused" in again.stderr
