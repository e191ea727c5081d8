"""Leaderboards from small synthetic runs: who is grouped, ranked and marked, and that no data can break a format."""

import csv
import io
import itertools
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avbench.board import load_board, load_reported
from avbench.errors import AvbenchError, UsageError
from avbench.results import MAX_BYTES, Results, clean, collect, read_result
from avbench.table import build, build_all, leaderboard, render, write
from avbench.table_text import escape_markdown

GOLDEN = Path(__file__).parent / "golden"
FORMATS = ("md", "csv", "json", "html", "latex", "text")
HOSTILE = r"<script>alert(1)</script>|a&b_c_\d **x** `y` [z](http://e) %$#{}~^"


def metric(name, value, *, half=None, clips=101, protocol="p", reason=None):
    bounds = (None, None) if half is None else (value - half, value + half)
    return {
        "name": name,
        "value": value,
        "ci_low": bounds[0],
        "ci_high": bounds[1],
        "num_clips": clips,
        "num_failed": 0,
        "protocol": protocol,
        "reason": reason,
    }


def content(name="codec", metrics=(), *, kind="classical", clips=101, failed=0, finished="2026-11-23T20:00:00+00:00", **changes):
    result = {
        "run_id": changes.pop("run_id", f"id-{name[:20]}"),
        "spec": {"tokenizer": name, "split": "arcade-mini", "task": "reconstruct", "checkpoint": None},
        "tokenizer": {"name": name, "revision": "r1", "kind": kind, "trained_on": "nothing"},
        "split": {"name": "arcade-mini", "checksum": "c0ffee", "num_clips": clips, "num_official": 101, "note": ""},
        "protocol": "16x128x128 frames",
        "num_clips": clips,
        "num_ok": clips - failed,
        "num_failed": failed,
        "finished": finished,
        "values": list(metrics),
        "cost": [],
    }
    for path, value in changes.items():
        section, _, key = path.rpartition("__")
        (result[section] if section else result)[key] = value
    return result


def save(runs_dir, *contents):
    for number, result in enumerate(contents):
        folder = runs_dir / f"{number:02d}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return runs_dir


def rows_of(table, group=0):
    return {row.label: row for row in table.groups[group].rows}


def ranks(table, name):
    return {label: row.cells[name].rank for label, row in rows_of(table).items()}


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


def test_best_and_second_best_follow_each_columns_direction(tmp_path):
    save(
        tmp_path,
        content("a", [metric("psnr", 30.0), metric("lpips", 0.3), metric("bits_per_s", 1.0)]),
        content("b", [metric("psnr", 20.0), metric("lpips", 0.1), metric("bits_per_s", 2.0)]),
        content("c", [metric("psnr", 25.0), metric("lpips", 0.2), metric("bits_per_s", 3.0)]),
    )
    table = leaderboard(tmp_path)
    assert ranks(table, "psnr") == {"a": 1, "b": 0, "c": 2}
    assert ranks(table, "lpips") == {"a": 0, "b": 1, "c": 2}
    assert ranks(table, "bits_per_s") == {"a": 0, "b": 0, "c": 0}


def test_values_that_print_alike_share_a_rank_and_the_next_is_second(tmp_path):
    save(tmp_path, *(content(name, [metric("psnr", value)]) for name, value in (("a", 30.001), ("b", 30.002), ("c", 29.0), ("d", 28.0))))
    assert ranks(leaderboard(tmp_path), "psnr") == {"a": 1, "b": 1, "c": 2, "d": 0}


def test_a_row_alone_has_no_rank(tmp_path):
    assert ranks(leaderboard(save(tmp_path, content("a", [metric("psnr", 30.0)]))), "psnr") == {"a": 0}


def test_controls_are_shown_but_not_ranked_and_a_row_below_the_zero_skill_row_is_marked(tmp_path):
    save(
        tmp_path,
        content("good", [metric("psnr", 30.0)]),
        content("poor", [metric("psnr", 20.0)]),
        content("identity", [metric("psnr", 100.0)], kind="control"),
        content("static-frame", [metric("psnr", 28.8)], kind="control"),
    )
    table = leaderboard(tmp_path, reported=False)
    assert ranks(table, "psnr") == {"good": 1, "poor": 2, "identity": 0, "static-frame": 0}
    assert {label for label, row in rows_of(table).items() if row.cells["psnr"].below_floor} == {"poor"}
    assert re.search(r"poor .*▾", render(table, "text"))


@pytest.mark.parametrize(
    "change",
    [{"split__checksum": "other"}, {"protocol": "8x64x64 frames"}, {"clips": 16}, {"split__name": "arcade-test"}, {"spec__task": "a2v"}],
)
def test_rows_of_another_checksum_protocol_size_split_or_task_stand_in_another_group(tmp_path, change):
    save(tmp_path, content("a", [metric("psnr", 30.0)]), content("b", [metric("psnr", 20.0)], **change))
    groups = leaderboard(tmp_path, reported=False).groups
    assert [len(group.rows) for group in groups] == [1, 1]
    assert all(row.cells["psnr"].rank == 0 for group in groups for row in group.rows)


def test_a_cell_of_another_metric_protocol_is_noted_and_not_ranked(tmp_path):
    save(
        tmp_path,
        content("a", [metric("fvd", 30.0)]),
        content("b", [metric("fvd", 20.0)]),
        content("c", [metric("fvd", 1.0, protocol="other weights")]),
    )
    table = leaderboard(tmp_path)
    assert ranks(table, "fvd") == {"a": 2, "b": 1, "c": 0}
    (note,) = rows_of(table)["c"].cells["fvd"].notes
    assert table.groups[0].notes[note - 1] == "another protocol, not ranked: other weights"


def test_a_row_with_failed_clips_is_counted_noted_and_not_ranked(tmp_path):
    save(
        tmp_path,
        content("a", [metric("psnr", 20.0)]),
        content("b", [metric("psnr", 25.0)]),
        content("c", [metric("psnr", 30.0, clips=99)], failed=2),
    )
    table = leaderboard(tmp_path, reported=False)
    assert ranks(table, "psnr") == {"a": 2, "b": 1, "c": 0}
    text = render(table, "text")
    assert "99/101 [1]" in text
    assert "2 of 101 clips failed" in text


def test_a_value_over_fewer_clips_is_noted_and_not_ranked(tmp_path):
    save(tmp_path, *(content(name, [metric("si_sdr", 5.0, clips=clips)]) for name, clips in (("a", 101), ("b", 101), ("c", 60))))
    table = leaderboard(tmp_path)
    assert ranks(table, "si_sdr") == {"a": 1, "b": 1, "c": 0}
    assert "over 60 clips, not ranked" in table.groups[0].notes


def test_a_cost_of_another_machine_is_noted(tmp_path):
    save(
        tmp_path,
        *(content(name, cost=[metric("encode_rtf", 0.1, protocol=on)]) for name, on in (("a", "cpu"), ("b", "cpu"), ("c", "cuda"))),
    )
    assert leaderboard(tmp_path).groups[0].notes == ("another protocol: cuda",)


def test_what_the_split_says_of_itself_is_shown(tmp_path):
    table = leaderboard(save(tmp_path, content("a", [metric("psnr", 1.0)], split__note="80 of 101 official clips found")), reported=False)
    for format in ("md", "json", "html", "latex", "text"):
        assert "80 of 101 official clips found" in render(table, format)


def test_na_cells_say_why_and_share_a_note(tmp_path):
    none = [metric(name, None, clips=0, reason="gives no audio") for name in ("si_sdr", "mr_stft")]
    table = leaderboard(save(tmp_path, content("a", none), content("b", none)), reported=False)
    assert table.groups[0].notes == ("gives no audio",)
    assert render(table, "text").count("n/a [1]") == 4


def test_the_newest_finished_run_of_a_tokenizer_wins(tmp_path):
    times = ("2026-11-23T20:00:00+00:00", "2026-11-24T20:00:00+00:00", "2026-11-22T20:00:00+00:00")
    save(tmp_path, *(content("a", [metric("psnr", float(i))], finished=time, run_id=f"r{i}") for i, time in enumerate(times)))
    assert [row.run_id for row in leaderboard(tmp_path).groups[0].rows] == ["r1"]


def test_two_checkpoints_of_one_tokenizer_are_two_rows(tmp_path):
    save(tmp_path, *(content("avtok", [metric("psnr", 1.0)], spec__checkpoint=path) for path in ("out/a.pt", "out/b.pt")))
    assert list(rows_of(leaderboard(tmp_path))) == ["avtok (a.pt)", "avtok (b.pt)"]


def test_plugin_metrics_come_last_and_are_ranked_where_they_state_a_direction(tmp_path):
    stated = [{**metric("zeta", value), "higher_is_better": False, "unit": "s"} for value in (0.123456, 2.0)]
    save(tmp_path, content("a", [stated[0], metric("psnr", 1.0)]), content("b", [stated[1], metric("alpha", 7.0)]))
    table = leaderboard(tmp_path, reported=False)
    assert [column.metric for column in table.groups[0].columns] == ["psnr", "alpha", "zeta"]
    assert ranks(table, "zeta") == {"a": 1, "b": 2}
    assert "zeta s ↓" in render(table, "text")
    assert "0.1235" in render(table, "text")


def test_the_order_of_the_runs_does_not_change_the_table(tmp_path):
    results = collect(golden_runs(tmp_path))
    expected = build_all(results)
    for order in itertools.islice(itertools.permutations(results.results), 0, 120, 7):
        assert build_all(Results(results=order)) == expected


def test_published_rows_stand_apart_unranked_and_can_be_left_out(tmp_path):
    table = leaderboard(golden_runs(tmp_path))
    group = table.groups[-1]
    assert group.reported
    assert all(cell.rank == 0 for row in group.rows for cell in row.cells.values())
    assert {row.label for row in group.rows if "AVTok" in row.label} == {"AVTok (VFAL)"}
    assert "2606.30811" in group.protocol
    assert not any(group.reported for group in leaderboard(tmp_path, reported=False).groups)


def test_the_published_numbers_are_the_papers():
    reconstruct, generate = load_reported()
    rows = {row.method: row.values for row in reconstruct.rows}
    expected = {"tokens": 1152, "psnr": 25.62, "rfvd": 12.80, "lpips": 0.126, "si_sdr_as_printed": 23.09, "rfad": 5.93, "mr_stft": 1.523}
    assert rows["AVTok"] == expected
    assert rows["LARP"] == {"tokens": 1024, "psnr": 24.53, "rfvd": 14.24, "lpips": 0.137}
    assert len(reconstruct.rows) == 8
    assert len(generate.rows) == 10
    for table in (reconstruct, generate):
        known = {column.metric for column in table.columns}
        assert all(set(row.values) <= known for row in table.rows)


def test_the_printed_si_sdr_never_shares_a_column_with_the_measured_one():
    (reported,) = load_board("reconstruct").reported
    assert "si_sdr" not in {column.metric for column in reported.columns}


def test_a_split_can_be_picked(tmp_path):
    save(tmp_path, content("a", [metric("psnr", 1.0)]), content("b", [metric("psnr", 1.0)], split__name="vggsound-test"))
    assert [group.split for group in leaderboard(tmp_path, split="vggsound-test", reported=False).groups] == ["vggsound-test"]


def test_generation_runs_have_a_board_of_their_own(tmp_path):
    save(tmp_path, content("a", [metric("gfvd", 1.0)], spec__task="a2v"))
    groups = build(collect(tmp_path), load_board("generate"), reported=False).groups
    assert [group.title for group in groups] == ["Generation (a2v) on arcade-mini, 101 clips"]


def test_an_empty_or_absent_folder_says_what_to_do(tmp_path):
    assert "avbench run" in render(leaderboard(tmp_path / "none", reported=False), "text")


def test_reference_runs_count_too(tmp_path):
    save(tmp_path / "reference", content("a", [metric("psnr", 1.0)]))
    assert list(rows_of(leaderboard(tmp_path))) == ["a"]


def test_unfinished_runs_are_named_and_are_not_rows(tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "manifest.json").write_text("{}")
    table = leaderboard(tmp_path, reported=False)
    assert table.groups == ()
    assert "half" in table.warnings[0]


BROKEN = {
    "not JSON": b"{",
    "no object": b"[1]",
    "nothing": b"",
    "deeply nested": b"[" * 100_000,
    "not utf-8": b"\xff\xfe{}",
    "too large": b" " * (MAX_BYTES + 1),
    "a huge integer": json.dumps(content("a", [metric("psnr", 1.0)])).replace("1.0", "9" * 400).encode(),
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
    table = leaderboard(save(tmp_path_factory.mktemp("runs"), result, content("b", [metric("psnr", 2.0)])), reported=False)
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


def test_an_unknown_format_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="known: md, csv"):
        render(leaderboard(tmp_path), "pdf")
