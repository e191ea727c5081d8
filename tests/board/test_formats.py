"""Every format of the table: golden files, and no data, hostile or damaged, can break one."""

import csv
import errno
import io
import itertools
import json
import os
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import content, metric, rows_of, save

from avbench.board.columns import load_board
from avbench.board.formats import render, write
from avbench.board.results import MAX_BYTES, clean, read_result
from avbench.board.table import leaderboard
from avbench.board.text import escape_markdown
from avbench.errors import AvbenchError, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"
FORMATS = ("md", "csv", "json", "html", "latex", "text")
HOSTILE = r"<script>alert(1)</script>|a&b_c_\d **x** `y` [z](http://e) %$#{}~^"


def golden_runs(runs_dir):
    cost = [metric("parameters", 2.5e6), metric("encode_rtf", 0.031)]
    return save(
        runs_dir,
        content(
            "avtok-mini", [metric("psnr", 24.104, half=0.333), metric("lpips", 0.2), metric("si_sdr", -2.0)], kind="learned", cost=cost
        ),
        content("h264-opus@20k@6k", [metric("psnr", 31.2, half=0.9), metric("lpips", 0.08, half=0.004), metric("si_sdr", 4.2)], cost=cost),
        content("h264@20k", [metric("psnr", 31.2), metric("lpips", 0.09), metric("si_sdr", None, clips=0, reason="gives no audio")]),
        content("broken", [metric("psnr", 40.0, clips=99)], failed=2),
        content("static-frame", [metric("psnr", 28.8), metric("lpips", 0.15)], kind="control"),
    )


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_prints_the_golden_table(tmp_path, format):
    text = render(leaderboard(golden_runs(tmp_path), reported=False), format)
    assert text == (GOLDEN / f"table.{format}").read_text(encoding="utf-8")


BROKEN = {
    "not JSON": b"{",
    "no object": b"[1]",
    "nothing": b"",
    "deeply nested": b"[" * 100_000,
    "not utf-8": b"\xff\xfe{}",
    "too large": b" " * (MAX_BYTES + 1),
    "a huge count": json.dumps(content("a", num_ok=10**400)).encode(),
    "a text for a number": json.dumps(content("a", [metric("psnr", "high")])).encode(),
    "a negative count": json.dumps(content("a", num_ok=-1)).encode(),
    "a list for a name": json.dumps(content("a", tokenizer__name=["a"])).encode(),
    "values that are no list": json.dumps(content("a", values={})).encode(),
    "endless values": json.dumps(content("a", [metric(str(i), 1.0) for i in range(501)])).encode(),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_damaged_result_is_a_warning_and_the_others_stand(tmp_path, what):
    save(tmp_path, content("sound", [metric("psnr", 1.0)]))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_bytes(BROKEN[what])
    table = leaderboard(tmp_path, reported=False)
    assert list(rows_of(table)) == ["sound"]
    assert table.warnings[0].startswith("run bad is not shown: ")
    assert "bad" in render(table, "html")


def test_a_result_that_is_a_pipe_or_a_folder_is_not_waited_for(tmp_path):
    for name in ("pipe", "folder\x1b[2J"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "result.json")
    (tmp_path / "folder\x1b[2J" / "result.json").mkdir()
    warnings = leaderboard(tmp_path, reported=False).warnings
    assert len(warnings) == 2
    assert all("not a file" in warning and "\x1b" not in warning for warning in warnings)


@pytest.mark.parametrize(
    "key", ["run_id", "spec", "tokenizer", "split", "protocol", "num_clips", "num_ok", "num_failed", "finished", "values"]
)
def test_a_missing_key_is_named(tmp_path, key):
    result = content("a")
    del result[key]
    save(tmp_path, result)
    with pytest.raises(AvbenchError, match=f'lacks "{key}"'):
        read_result(tmp_path / "00")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_stands_in_a_field_the_table_is_printed(tmp_path_factory, data):
    result = content("a", [metric("psnr", 1.0)], kind="learned")
    targets = [result, result["spec"], result["tokenizer"], result["split"], result["values"][0]]
    target = data.draw(st.sampled_from(targets))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)
    table = leaderboard(save(tmp_path_factory.mktemp("runs"), result, content("another", [metric("psnr", 2.0)])), reported=False)
    assert len(table.warnings) + sum(len(group.rows) for group in table.groups) == 2
    for format in FORMATS:
        render(table, format)


def test_a_value_that_is_not_finite_is_na(tmp_path):
    table = leaderboard(save(tmp_path, content("a", [metric("psnr", float("inf")), metric("lpips", float("nan"))])), reported=False)
    assert rows_of(table)["a"].cells["psnr"].value is None
    assert "no finite value" in table.groups[0].notes[0]
    json.loads(render(table, "json"), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def hostile_runs(runs_dir):
    values = [metric("psnr", 1.0, protocol=HOSTILE), metric(HOSTILE, 1.0), metric("ssim", None, reason=HOSTILE)]
    everywhere = {
        "tokenizer__revision": HOSTILE,
        "tokenizer__kind": HOSTILE,
        "protocol": HOSTILE,
        "split__name": HOSTILE,
        "run_id": '"><b>',
    }
    return save(runs_dir, content(HOSTILE, values, **everywhere))


def test_html_shows_hostile_text_as_text_and_loads_nothing(tmp_path):
    page = render(leaderboard(hostile_runs(tmp_path)), "html")
    parser = _Tags()
    parser.feed(page)
    tags = {tag for tag, _ in parser.tags}
    assert not tags & {"script", "b", "img", "link", "iframe"}
    assert not any(key in ("src", "href") or key.startswith("on") for _, attributes in parser.tags for key in attributes)
    assert any("<script>alert(1)</script>" in text for text in parser.text)
    assert "prefers-color-scheme: dark" in page


def test_markdown_keeps_its_columns_and_shows_hostile_text_as_text(tmp_path):
    text = render(leaderboard(hostile_runs(tmp_path), reported=False), "md")
    assert "<script" not in text
    for _, lines in itertools.groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        block = list(lines)
        if block[0].startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block}) == 1


def test_latex_escapes_every_special_character(tmp_path):
    text = render(leaderboard(hostile_runs(tmp_path), reported=False), "latex")
    body = text.partition("\n\n")[2]
    plain = re.sub(r"\\[a-zA-Z]+|\\[&%$#_{}\\]|\$\^\{[\d,]+\}\$", "", body)
    assert not set("#%~^_\\") & set(plain)
    for line in body.splitlines():
        if line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) in (2, 3)


def test_csv_round_trips_hostile_text_and_holds_no_formula(tmp_path):
    save(tmp_path, content("=HYPERLINK(1)", [metric("psnr", -1.5, reason='a,b"c\nd')]), content(HOSTILE, [metric("psnr", 1.0)]))
    records = list(csv.DictReader(io.StringIO(render(leaderboard(tmp_path, reported=False), "csv"))))
    assert {record["tokenizer"] for record in records} == {"'=HYPERLINK(1)", clean(HOSTILE, 80)}
    assert {record["value"] for record in records} == {"-1.5", "1.0"}


def test_csv_and_json_hold_every_number_unrounded(tmp_path):
    golden_runs(tmp_path)
    table = leaderboard(tmp_path)
    frame = pd.read_csv(io.StringIO(render(table, "csv")))
    cell = frame[(frame.tokenizer == "avtok-mini") & (frame.metric == "psnr")].iloc[0]
    assert (cell["value"], cell.ci_low, cell.ci_high, cell.num_clips) == (24.104, 24.104 - 0.333, 24.104 + 0.333, 101)
    assert set(frame.status) == {"measured", "reported"}
    row = next(row for row in json.loads(render(table, "json"))["groups"][0]["rows"] if row["label"] == "avtok-mini")
    assert row["cells"]["psnr"]["value"] == 24.104


def test_terminal_escapes_and_line_breaks_in_names_do_not_survive(tmp_path):
    save(tmp_path, content("evil\x1b[2Jname\n\u202egnp", [metric("psnr", 1.0)]))
    assert list(rows_of(leaderboard(tmp_path))) == ["evil [2Jname gnp"]


@pytest.mark.parametrize("text", ["fad_aisfx", "align_corners=False", "mel-vocoder", "h264@20k"])
def test_markdown_leaves_ordinary_names_readable(text):
    assert escape_markdown(text) == text


def test_the_terminal_table_fits_160_columns(tmp_path):
    names = [column.metric for column in load_board("reconstruct").columns]
    rng = random.Random(0)
    runs = [
        content(f"a-tokenizer-with-a-long-name-{i}", [metric(name, rng.uniform(1, 900), half=3.21) for name in names]) for i in range(4)
    ]
    for format in ("text", "md"):
        text = render(leaderboard(save(tmp_path / format, *runs)), format)
        assert max(map(len, text.splitlines())) <= 160


def test_small_and_zero_values_keep_their_meaning(tmp_path):
    save(tmp_path, content("a", [metric("fad_aisfx", 0.00123)]), content("b", [metric("fad_aisfx", -0.0)]))
    text = render(leaderboard(tmp_path, reported=False), "text")
    assert "0.0012" in text
    assert "-0.00" not in text


def test_write_makes_one_file_a_split_inside_the_folder(tmp_path):
    runs = save(
        tmp_path / "runs", content("a", [metric("psnr", 1.0)]), content("b", [metric("psnr", 2.0)], split__name="folder:/../../my clips")
    )
    paths = write(leaderboard(runs), tmp_path / "boards")
    assert [path.name for path in paths] == ["arcade-mini.md", "arcade-mini.csv", "folder-..-..-my-clips.md", "folder-..-..-my-clips.csv"]
    assert all(path.parent == tmp_path / "boards" and path.is_file() for path in paths)
    assert "reported" in paths[0].read_text(encoding="utf-8").lower()


def test_a_board_that_cannot_be_written_is_told_in_words(tmp_path, monkeypatch):
    board = leaderboard(save(tmp_path / "runs", content("a", [metric("psnr", 1.0)])))
    (tmp_path / "file").touch()
    with pytest.raises(AvbenchError, match=r"boards cannot be written .*and repeat the command"):
        write(board, tmp_path / "file" / "boards")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AvbenchError, match=r"no space left for .*boards"):
        write(board, tmp_path / "boards")
    assert not list((tmp_path / "boards").iterdir())


def test_an_unknown_format_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="known: md, csv"):
        render(leaderboard(tmp_path), "pdf")


def test_a_table_says_once_what_its_rows_were_trained_on(tmp_path):
    runs = save(tmp_path, *(content(name, [metric("psnr", 24.0)]) for name in ("a", "b", "c", "d")))
    for name, what in zip("abcd", ("train, 9 clips seen", "nothing", "other", "train, 9 clips seen"), strict=True):
        file = next(path for path in runs.glob("*/result.json") if json.loads(path.read_text())["tokenizer"]["name"] == name)
        result = json.loads(file.read_text())
        result["tokenizer"]["trained_on"] = what
        file.write_text(json.dumps(result))
    assert "Trained on: train, 9 clips seen (a, d); other (c)\n" in render(leaderboard(runs, reported=False), "text")
