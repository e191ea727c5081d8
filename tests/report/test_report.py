"""The report without a browser: what is drawn where, what a row leads to, what is escaped, and what is left alone."""

import json
import math
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from report_runs import CLIPS, HOSTILE, TARGETS, clip_row, gallery_runs, generation_runs, save_run, tone_clip, training_run
from synthetic_runs import content, metric, save

from avbench.board.columns import load_reported
from avbench.board.results import collect
from avbench.board.table import build_all
from avbench.cli.app import app
from avbench.errors import UsageError
from avbench.report import write_site
from avbench.report.labels import LETTER, MAX_LETTERS, Mark, place
from avbench.report.pages import policy, to_json
from avbench.report.plot import Axis, linear_ticks, log_ticks, short
from avbench.report.rate import family, rate_plots
from avbench.run.samples import write_pair, write_sample

FLOORS = frozenset({"static-frame", "silence"})


class Reader(HTMLParser):
    """An independent reading of a page: its tags with attributes, its text outside scripts, its JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.texts).append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


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


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("h264@20k-opus@6k", "h264-opus"),
        ("pca-vq@256x12@120x12", "pca-vq"),
        ("h264@20k+silence", "h264+silence"),
        ("avtok-mini", "avtok-mini"),
    ],
)
def test_one_tokenizers_settings_are_one_family(label: str, name: str) -> None:
    assert family(label) == name


def rate_group(tmp_path: Path):
    def run(name: str, kind: str, bits: float, psnr: float, lpips: float) -> dict:
        return content(name, [metric("psnr", psnr, half=1.0), metric("lpips", lpips), metric("bits_per_s", bits)], kind=kind, run_id=name)

    save(
        tmp_path,
        run("x@9k", "classical", 9000, 40.0, 0.01),
        run("x@1k", "classical", 1000, 20.0, 0.3),
        run("net", "learned", 1000, 25.0, 0.1),
        run("static-frame", "control", 5e4, 22.0, 0.2),
        run("identity", "control", 2e6, 100.0, 0.0),
    )
    return build_all(collect(tmp_path), reported=False).groups[0]


def test_a_rate_plot_has_better_up_cheaper_left_a_curve_for_a_codec_and_lines_for_controls(tmp_path: Path) -> None:
    psnr, lpips = rate_plots(rate_group(tmp_path), FLOORS, {"net": "page.html"})
    for plot in (psnr, lpips):
        at = {point.title.split(" ")[0]: point for point in plot.points}
        assert set(at) == {"x@9k", "x@1k", "net"}
        assert at["x@9k"].y < at["net"].y < at["x@1k"].y  # the picture's y goes down
        assert at["x@1k"].x == at["net"].x < at["x@9k"].x
        assert [line.name for line in plot.lines] == ["x"]
        assert [level.title.split(":")[0] for level in plot.levels] == ["static-frame"]
        assert any("identity" in remark for remark in plot.remarks)  # far off: said, not drawn
        assert at["net"].href == "page.html"
        assert min(at["net"].low, at["net"].high) <= at["net"].y <= max(at["net"].low, at["net"].high)


def test_rates_stand_where_their_logarithm_is() -> None:
    axis = Axis(low=100, high=10_000, start=0, end=200, log=True)
    assert [axis.at(value) for value in (100, 1000, 10_000, 5)] == pytest.approx([0, 100, 200, 0])
    assert [text for _, text in axis.ticks()] == ["100", "300", "1k", "3k", "10k"]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-36.2, 5.1), (1e-5, 3e-5), (27.04, 27.05), (-1e9, 1e9)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = linear_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    assert all(len(f"{tick:.6g}".rstrip("0")) <= 8 for tick in ticks)


@pytest.mark.parametrize(("low", "high"), [(1.0, 2.0), (900, 30_000), (1e-6, 1e6), (0.05, 1.5)])
def test_log_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)


def test_numbers_on_axes_are_short() -> None:
    assert [short(value) for value in (0, 1500, 2e6, -0.25, 1e-6)] == ["0", "1.5k", "2M", "-0.25", "1e-06"]


def test_names_in_a_plot_never_cover_each_other_or_a_point() -> None:
    marks = [Mark(name=f"tokenizer-{k}@{k * 1000}", x=180 + 30 * math.cos(k), y=120 + 20 * math.sin(3 * k)) for k in range(16)]
    marks += [Mark(name="static-frame+silence", x=0, y=y, across=True) for y in (118, 122)]
    texts, left_out = place(marks)
    assert len(texts) + len(left_out) == len(marks)
    assert len(texts) >= 12
    boxes = [(text.x, text.y - 10, LETTER * min(len(text.text), MAX_LETTERS), 13.0) for text in texts]
    for i, (x, y, width, height) in enumerate(boxes):
        for x2, y2, width2, height2 in boxes[:i]:
            apart = x + width <= x2 + 0.2 or x2 + width2 <= x + 0.2 or y + height <= y2 + 0.2 or y2 + height2 <= y + 0.2
            assert apart
        assert not any(x < mark.x < x + width and y < mark.y < y + height for mark in marks if not mark.across)


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


def test_a_run_without_metrics_of_single_clips_offers_no_worst_and_best(tmp_path: Path) -> None:
    save_run(tmp_path / "runs", 0, "generator", [{**clip_row("a", 0.0), "metrics": {}}], spec__task="av")
    write_site(tmp_path / "site", runs_dir=tmp_path / "runs", training_dir=tmp_path / "none")
    links = [attributes.get("href") or "" for page in (tmp_path / "site").glob("*.html") for _, attributes in read(page).tags]
    assert not [link for link in links if "side=" in link]
    assert [link for link in links if link.startswith("gallery-")]
