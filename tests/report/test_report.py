"""The report without a browser: what is drawn where, what a row leads to, what is escaped, and what is left alone."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from read_page import read
from report_runs import CLIPS, HOSTILE, clip_row, gallery_runs, save_run, tone_clip, training_run
from synthetic_runs import content, metric, save

from avbench.cli.app import app
from avbench.errors import UsageError
from avbench.report import write_site
from avbench.report.pages import policy, to_json
from avbench.run.samples import write_pair, write_sample


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    gallery_runs(folder / "runs")
    training_run(folder / "out" / "first")
    training_run(folder / "out" / "schedules" / "second", stage=HOSTILE)
    done = write_site(folder / "site", runs_dir=folder / "runs", training_dir=folder / "out")
    assert (done.num_runs, done.num_sampled, done.num_trainings) == (5, 3, 2)
    return folder / "site"


def gallery_data(site: Path) -> dict:
    (page,) = site.glob("gallery-*.html")
    return json.loads(read(page).scripts[0])


def test_every_link_and_file_of_the_site_is_in_the_site(site: Path) -> None:
    for page in site.glob("*.html"):
        for tag, attributes in read(page).tags:
            target = attributes.get("href") or attributes.get("src") or ""
            if not target or target.startswith(("#", "data:")):
                continue
            assert ":" not in target, f"<{tag}> of {page.name} leads out of the site: {target}"
            assert (site / target.partition("#")[0]).is_file(), f"{page.name}: {target}"


def test_nothing_hostile_is_a_tag_or_a_script_on_any_page(site: Path) -> None:
    for page in site.glob("*.html"):
        reader = read(page)
        assert "pwned" not in "".join(f"{name} " for tag, attributes in reader.tags for name in attributes), page.name
        assert not [tag for tag, attributes in reader.tags if attributes.get("src") == "x"], page.name
        runs = [script for script in reader.scripts if script.lstrip().startswith('"use strict"')]
        assert not any("pwned" in script for script in runs), page.name
    assert sum(HOSTILE in text for text in read(site / "index.html").texts) >= 1  # shown as it is


def test_scripts_are_the_packages_own_and_the_policy_names_each(site: Path) -> None:
    for page in site.glob("*.html"):
        reader = read(page)
        (meta,) = [attributes for tag, attributes in reader.tags if attributes.get("http-equiv") == "Content-Security-Policy"]
        kinds = [attributes.get("type") for tag, attributes in reader.tags if tag == "script"]
        assert set(kinds) <= {None, "application/json"}
        directives = dict(part.strip().split(" ", 1) for part in (meta["content"] or "").split(";"))
        assert directives["default-src"] == "'none'"
        assert "unsafe" not in (meta["content"] or "")
        assert "http" not in (meta["content"] or "")
        assert directives["script-src"].count("sha256-") == kinds.count(None)
        assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on") or name == "style"]


def test_json_in_a_page_cannot_end_its_block_and_is_the_same_when_read() -> None:
    hostile = {"a": "</script><!--<script>&\u2028", "b": [1.5, None]}
    text = str(to_json(hostile))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == hostile


def test_the_policy_has_no_script_where_a_page_has_none() -> None:
    assert "script-src 'none'" in policy("body {}", ())


def test_a_row_leads_to_its_provenance_with_the_command_that_repeats_it(site: Path) -> None:
    (page,) = site.glob("run-run-0-*.html")
    text = " ".join(read(page).texts)
    assert "avbench run --tokenizer both@5k --split arcade-mini" in text
    for fact in ("abacus", "2.11.0", "c0ffee", "seed"):
        assert fact in text
    assert page.name in (site / "index.html").read_text()


def test_failures_are_on_the_front_page_and_their_reasons_on_the_runs(site: Path) -> None:
    assert "⚠ 1 failed" in " ".join(read(site / "index.html").texts)
    (page,) = site.glob("run-run-3-*.html")
    assert f"it broke: {HOSTILE}" in "".join(read(page).texts)


def test_a_clips_metrics_media_and_failures_are_in_the_gallery(site: Path) -> None:
    data = gallery_data(site)
    assert [clip["name"] for clip in data["clips"]] == list(CLIPS)
    labels = [run["label"] for run in data["runs"]]
    psnr = [metric["title"] for metric in data["metrics"]].index("PSNR")
    cells = data["clips"][3]["runs"]
    assert cells[labels.index("both@9k")] == {"state": "numbers", "values": [27.0, 0.27, 2.7, 1000.0]}
    assert cells[labels.index(next(label for label in labels if label.startswith('">')))]["state"] == "failed"
    first = data["clips"][0]
    assert first["reference"]
    assert first["runs"][labels.index("both@5k")]["values"][psnr] == 20.0
    folder = site / data["folder"] / "0"
    assert (folder / "reference.mp4").stat().st_size > 1000
    assert (folder / f"{labels.index('both@5k')}.flac").is_file()
    assert not (folder / f"{labels.index('sound')}.mp4").exists()  # it has no picture
    assert first["runs"][labels.index("sound")]["picture"] is False


def test_worst_and_best_are_by_each_metrics_own_direction_over_all_clips(site: Path) -> None:
    data = gallery_data(site)
    run = [run["label"] for run in data["runs"]].index("both@9k")  # psnr falls from clip to clip, and so does lpips
    titles = [metric["title"] for metric in data["metrics"]]
    worst, best = data["extremes"][run][titles.index("PSNR")]
    assert (worst[0], best[0]) == (3, 0)
    worst, best = data["extremes"][run][titles.index("LPIPS")]
    assert (worst[0], best[0]) == (0, 3)
    assert data["extremes"][run][titles.index("kbit/s")] == [[], []]


def test_a_run_without_media_says_which_command_makes_them(tmp_path: Path) -> None:
    save_run(tmp_path / "runs", 0, "odd name", [clip_row("a", 20.0), clip_row("b", 21.0)])
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "none")
    (page,) = (tmp_path / "site").glob("gallery-*.html")
    assert "avbench run --tokenizer 'odd name' --split arcade-mini --save-samples 2" in "".join(read(page).texts)


def test_media_of_a_run_are_found_in_either_copy_of_it(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "runs" / "reference", 0, "x", [clip_row("a", 20.0)])
    save_run(tmp_path / "runs", 0, "x", [clip_row("a", 20.0)])
    write_sample(tmp_path / "runs" / folder.name / "samples", tone_clip("a"), tone_clip("a"), write_pair)
    done = write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "none")
    assert (done.num_runs, done.num_sampled) == (1, 1)


def test_results_without_clips_or_manifest_are_shown_with_what_is_missing(tmp_path: Path) -> None:
    save(tmp_path / "runs", content("bare", [metric("psnr", 30.0)]))
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "none")
    text = "".join("".join(read(page).texts) for page in (tmp_path / "site").glob("*.html"))
    assert "Provenance is incomplete" in text
    assert "clips.jsonl cannot be read" in text


def test_a_report_without_runs_says_what_makes_one(tmp_path: Path) -> None:
    done = write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path)
    assert done.num_runs == 0
    assert "avbench run" in "".join(read(done.index).texts)
    assert "OmniTokenizer" in "".join(read(done.index).texts)  # the published rows


def test_a_folder_that_is_no_report_is_left_alone_and_a_report_is_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "site"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="--out"):
        write_site(precious, runs_dir=tmp_path / "runs")
    assert (precious / "thesis.txt").read_text() == "years"
    (precious / "thesis.txt").unlink()
    write_site(precious, runs_dir=tmp_path / "runs")
    (precious / "stale.html").write_text("old")
    write_site(precious, runs_dir=tmp_path / "runs")
    assert not (precious / "stale.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]  # nothing is left beside it


def test_the_split_asked_for_is_the_only_one_shown(tmp_path: Path) -> None:
    save(tmp_path / "runs", content("a", [metric("psnr", 30.0)]), content("b", [metric("psnr", 20.0)], split__name="other", run_id="b"))
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", split="other", training_dir=tmp_path / "none")
    assert len(list((tmp_path / "site").glob("gallery-*.html"))) == 1
    assert "Reconstruction on other" in (tmp_path / "site" / "index.html").read_text()
    assert "arcade-mini" not in (tmp_path / "site" / "index.html").read_text()


def test_the_command_prints_the_page_last(tmp_path: Path) -> None:
    save(tmp_path / "runs", content("a", [metric("psnr", 30.0)]))
    done = CliRunner().invoke(app, ["report", "--runs-dir", str(tmp_path / "runs"), "--out", str(tmp_path / "pages")])
    assert done.exit_code == 0, done.output
    assert Path(done.output.splitlines()[-1]).is_file()


def test_the_training_page_has_curves_stages_pictures_and_what_was_damaged(site: Path) -> None:
    reader = read(site / "training.html")
    text = "".join(reader.texts)
    assert "Schedules compared" in text
    assert HOSTILE in text
    assert re.search(r"first: 1 lines of its log cannot be read", text)
    assert json.loads(reader.scripts[0]) == [[step, f"training/0/{step:08d}.png"] for step in (0, 100, 200, 300)]
    assert (site / "training" / "1" / "00000300.png").is_file()
    assert (
        sum(attributes.get("class") == "plot" for tag, attributes in reader.tags if tag == "svg") == 1 + 2 * 2
    )  # psnr, and two losses a run


def test_trainings_of_generators_are_compared_apart_from_those_of_tokenizers(tmp_path: Path) -> None:
    training_run(tmp_path / "out" / "codec")
    training_run(tmp_path / "out" / "other")
    generator = {"schedule": None, "tasks": ["a2v", HOSTILE], "tokenizer": "avtok"}
    training_run(tmp_path / "out" / "model", name="ar-mini", held_out="a2v_bits", **generator)
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "out")
    reader = read(tmp_path / "site" / "training.html")
    headings = [text for text in reader.texts if text in ("Schedules compared", "Generator", "schedule", "learns", "a2v_bits ↓")]
    assert headings == ["Schedules compared", "schedule", "Generator", "learns", "a2v_bits ↓"]
    assert next(text for text in reader.texts if "of the tokens of" in text) == f"a2v, {HOSTILE} of the tokens of avtok"
    plotted = [str(attributes["aria-label"]) for tag, attributes in reader.tags if tag == "svg" and "Held-out" in str(attributes)]
    assert ["model" in label for label in plotted] == [False, True]


def test_a_run_without_metrics_of_single_clips_offers_no_worst_and_best(tmp_path: Path) -> None:
    save_run(tmp_path / "runs", 0, "generator", [{**clip_row("a", 0.0), "metrics": {}}], spec__task="av")
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "none")
    links = [attributes.get("href") or "" for page in (tmp_path / "site").glob("*.html") for _, attributes in read(page).tags]
    assert not [link for link in links if "side=" in link]
    assert [link for link in links if link.startswith("gallery-")]
