"""The report of generated clips: a group and a gallery a task, conditions, provenance."""

import json
import shlex
from pathlib import Path

import pytest
from read_page import read
from report_runs import HOSTILE, TARGETS, clip_row, generation_runs, save_run

from avbench.board.columns import load_reported
from avbench.cli.app import app
from avbench.report import write_site


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    generation_runs(folder / "runs")
    save_run(folder / "runs", 0, "codec", [clip_row("a", 20.0)])
    save_run(folder / "runs", 1, "other", [clip_row("a", 21.0)])
    write_site(folder / "site", runs_dir=folder / "runs", training_dir=folder / "none")
    return folder / "site"


def generation_data(site: Path, task: str) -> dict:
    """Its gallery's data, by what only that task's cards say."""
    title = {"a2v": "condition: the real sound", "v2a": "condition: the real picture", "av": "condition: the class"}[task]
    galleries = [json.loads(read(page).scripts[0]) for page in site.glob("gallery-*.html")]
    (data,) = [data for data in galleries if data["cards"][0]["title"] == title]
    return data


def test_each_task_has_a_group_and_a_gallery_with_a_title_of_its_own(generated: Path) -> None:
    text = "".join(read(generated / "index.html").texts)
    for title in ("Reconstruction on", "Audio to video (a2v) on", "Video to audio (v2a) on", "Class to both (av) on"):
        assert text.count(title) == 1, title
    for title in ("Gallery: ", "Gallery, audio to video: ", "Gallery, video to audio: ", "Gallery, class to both: "):
        assert title in text
    rows = [attributes for tag, attributes in read(generated / "index.html").tags if tag == "tr" and "data-task" in attributes]
    kinds = [row.kind for table in load_reported() for row in table.rows]
    assert len(rows) == 2 + 2 * 3 + len(kinds)
    assert sum(row["data-task"] == "a2v" for row in rows) == 2 + kinds.count("A2V")


def test_rate_is_plotted_against_quality_for_reconstruction_alone(generated: Path) -> None:
    figures = [attributes["aria-label"] for tag, attributes in read(generated / "index.html").tags if tag == "svg"]
    assert len(figures) == 3  # psnr, lpips, si_sdr; the runs that generate state bits_per_s, too
    assert not any("ar-mini" in str(label) for label in figures)


@pytest.mark.parametrize("task", TARGETS)
def test_a_generated_clip_has_its_condition_the_real_clip_and_what_each_row_made_of_it(generated: Path, task: str) -> None:
    data = generation_data(generated, task)
    made = {"picture": "video" in TARGETS[task], "sound": "audio" in TARGETS[task]}
    condition, real = data["cards"]
    assert (condition["picture"], condition["sound"]) == {"a2v": (False, True), "v2a": (True, False), "av": (False, False)}[task]
    assert (condition["says"], real["says"]) == ("label" if task == "av" else "", "")
    assert {"picture": real["picture"], "sound": real["sound"]} == made == data["shows"]
    assert [clip["label"] for clip in data["clips"]] == [HOSTILE] * 3
    generator = data["clips"][0]["runs"][0]
    assert (generator["state"], generator["values"]) == ("media", [0.2])
    assert {"picture": generator["picture"], "sound": generator["sound"]} == made
    files = {file.name for file in (generated / data["folder"] / "0").iterdir()}
    assert {"reference.mp4", "reference.jpg", "reference.flac", "reference.png"} <= files  # of the condition and the real clip
    assert ("0.mp4" in files, "0.flac" in files) == (made["picture"], made["sound"])  # and the condition not again


def test_a_control_of_whole_real_clips_shows_them_whole_and_says_what_they_are(generated: Path) -> None:
    data = generation_data(generated, "a2v")
    assert [run["kind"] for run in data["runs"]] == ["learned", "control: another real clip of the class"]
    control = data["clips"][0]["runs"][1]
    assert (control["picture"], control["sound"]) == (True, True)  # its own sound, which is not the condition


def test_a_generated_rows_provenance_names_the_generator_and_how_it_drew(generated: Path) -> None:
    (page,) = generated.glob("run-run-v2a-0-*.html")
    texts = read(page).texts
    facts = dict(zip(texts[-2::-1], texts[:0:-1], strict=True))  # what follows each text where it first stands
    told = {"generator": f"out/{HOSTILE}", "temperature": "0.9", "guidance": "1.5", "top-k": "50", "top-p": "0.95", "seed": "3"}
    assert {name: facts[name] for name in told} == told
    (command,) = [text for text in texts if text.startswith("avbench run")]
    words = shlex.split(command)
    assert dict(zip(words[2::2], words[3::2], strict=True)) == {
        "--tokenizer": "codec/ar-mini",
        "--split": "arcade-mini",
        "--task": "v2a",
        "--seed": "3",
        "--generator": f"out/{HOSTILE}",
        "--temperature": "0.9",
        "--top-k": "50",
        "--top-p": "0.95",
        "--guidance": "1.5",
    }
    (page,) = generated.glob("run-run-v2a-1-*.html")
    assert "none: real clips" in read(page).texts


def test_every_option_in_a_runs_command_is_one_of_avbench_run(generated: Path) -> None:
    known = {option for parameter in app.commands["run"].params for option in parameter.opts}
    for page in generated.glob("run-*.html"):
        (command,) = [text for text in read(page).texts if text.startswith("avbench run")]
        assert {word for word in shlex.split(command) if word.startswith("--")} <= known
