"""Leaderboards from small synthetic runs: who is grouped, ranked, noted and marked."""

import itertools
import re

import numpy as np
import pytest
import scipy.stats
from synthetic_runs import content, metric, rows_of, save

from avbench.board.columns import load_board, load_reported
from avbench.board.formats import render
from avbench.board.results import Results, collect
from avbench.board.table import build, build_all, leaderboard


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


def test_groups_of_other_clips_are_told_apart_by_their_titles(tmp_path):
    """The same files by another decoder are other clips, and no reader looks for a checksum in the small print."""
    save(tmp_path, content("a"), content("b", split__checksum="deadbeef01"), content("c", split__name="arcade-test"))
    titles = [group.title for group in leaderboard(tmp_path, reported=False).groups]
    assert [title.partition(" on ")[2] for title in titles] == [
        "arcade-mini, 101 clips, split checksum c0ffee",
        "arcade-mini, 101 clips, split checksum deadbeef",
        "arcade-test, 101 clips",
    ]


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


def test_bits_a_token_follow_from_rates_and_their_use_from_the_entries_shares(tmp_path):
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    counted = [metric("tokens_per_s", 75.0, half=1.0), metric("bits_per_s", 900.0, half=1.0)]
    counted.append(metric("codebook_perplexity", 2 ** scipy.stats.entropy(shares, base=2), half=0.1))
    uncounted = [*counted[:2], metric("codebook_perplexity", None, clips=0, reason="too many entries to count")]
    rows = rows_of(leaderboard(save(tmp_path, content("a", counted), content("b", uncounted), content("c", [metric("psnr", 1.0)]))))
    assert (rows["a"].cells["token_bits"].value, rows["a"].cells["token_entropy"].value) == (12.0, pytest.approx(1.75))
    assert rows["a"].cells["token_entropy"].ci_low is None
    assert (rows["b"].cells["token_entropy"].value, rows["b"].cells["token_entropy"].reason) == (None, "too many entries to count")
    assert rows["c"].cells["token_bits"].reason == "not asked for"


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


def test_a_row_names_its_checkpoint_only_where_another_row_has_its_name(tmp_path):
    save(tmp_path, content("avtok", [metric("psnr", 1.0)], spec__checkpoint="out/a.pt"), content("larp", [metric("psnr", 1.0)]))
    assert [row.label for row in build_all(collect(tmp_path), reported=False).groups[0].rows] == ["avtok", "larp"]


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


def test_rows_of_a_results_folder_count_too(tmp_path):
    save(tmp_path / "a" / "r1", content("a", [metric("psnr", 1.0)]))
    assert list(rows_of(leaderboard(tmp_path))) == ["a"]


def test_unfinished_runs_are_named_and_are_not_rows(tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "manifest.json").write_text("{}")
    table = leaderboard(tmp_path, reported=False)
    assert table.groups == ()
    assert "half" in table.warnings[0]


def test_a_metric_whose_best_is_the_real_clips_own_is_ranked_by_the_distance_to_it(tmp_path):
    """Noise makes peaks, and some of them match: more AV-Align than the real clips have is no better than less."""
    runs = [content("identity", [metric("av_align", 0.197)], kind="control")]
    runs += [content(name, [metric("av_align", value)]) for name, value in (("noisy", 0.243), ("good", 0.19), ("fair", 0.21))]
    rows = rows_of(leaderboard(save(tmp_path, *runs), reported=False))
    assert {name: row.cells["av_align"].rank for name, row in rows.items()} == {"identity": 0, "noisy": 0, "good": 1, "fair": 2}
    assert "AV-Align ≈" in render(leaderboard(tmp_path, reported=False), "text")


def test_without_a_row_of_the_real_clips_nothing_is_ranked_by_the_distance_to_them(tmp_path):
    runs = [content(name, [metric("av_align", value)]) for name, value in (("noisy", 0.243), ("good", 0.19))]
    rows = rows_of(leaderboard(save(tmp_path, *runs), reported=False))
    assert {row.cells["av_align"].rank for row in rows.values()} == {0}


def test_a_plugins_metric_says_itself_that_the_real_clips_are_best(tmp_path):
    stated = {"best_is_reference": True, "higher_is_better": None}
    values = (("identity", 1.0), ("over", 1.3), ("under", 0.9))
    runs = [
        content(name, [{**metric("zeta", value), **stated}], kind="control" if name == "identity" else "learned") for name, value in values
    ]
    rows = rows_of(leaderboard(save(tmp_path, *runs), reported=False))
    assert (rows["under"].cells["zeta"].rank, rows["over"].cells["zeta"].rank) == (1, 2)


def test_two_checkpoints_of_one_file_name_are_two_rows_with_two_names(tmp_path):
    runs = [
        content(
            "codec", [metric("psnr", value)], run_id=f"id-{value}", spec__checkpoint=f"/{folder}/model.pt", checkpoint_sha256=folder * 32
        )
        for folder, value in (("a1", 20.0), ("b2", 21.0))
    ]
    labels = sorted(rows_of(leaderboard(save(tmp_path, *runs), reported=False)))
    assert len(labels) == 2
    assert all(label.startswith("codec (model.pt) #") for label in labels)


def test_one_checkpoint_that_was_moved_is_one_row(tmp_path):
    runs = [
        content("codec", [metric("psnr", value)], run_id=f"id-{value}", spec__checkpoint=path, checkpoint_sha256="a1" * 32)
        for path, value in (("/old/model.pt", 20.0), ("/new/model.pt", 20.0))
    ]
    assert list(rows_of(leaderboard(save(tmp_path, *runs), reported=False))) == ["codec"]


def test_two_plugins_that_give_themselves_one_name_are_two_rows(tmp_path):
    runs = [
        content("mine", [metric("psnr", value)], run_id=f"id-{value}", spec__tokenizer=f"{file}.py:Mine")
        for file, value in (("a", 20.0), ("b", 21.0))
    ]
    assert len(rows_of(leaderboard(save(tmp_path, *runs), reported=False))) == 2


def test_the_reasons_of_failed_clips_stand_under_the_table_with_their_counts(tmp_path):
    failures = {"encode failed: ValueError: no": 2, "no audio stream": 1}
    runs = [content("codec", [metric("psnr", 20.0, clips=98)], failed=3, failures=failures), content("other", [metric("psnr", 21.0)])]
    text = " ".join(render(leaderboard(save(tmp_path, *runs), reported=False), "text").split())
    assert (
        "3 of 101 clips failed: values are over the 98 others, not ranked (2 x encode failed: ValueError: no; 1 x no audio stream)" in text
    )


def test_one_plugin_with_other_arguments_is_another_row(tmp_path):
    runs = [
        content("mine", [metric("psnr", value)], run_id=f"id-{value}", spec__tokenizer_args=args)
        for args, value in (({"levels": 8}, 20.0), ({"levels": 16}, 21.0), ({"levels": 16}, 21.0))
    ]
    labels = list(rows_of(leaderboard(save(tmp_path, *runs), reported=False)))
    assert len(set(labels)) == 2
    assert all(label.startswith("mine #") for label in labels)


def test_two_generators_of_one_name_are_two_rows(tmp_path):
    runs = [
        content("codec/ar", [metric("gfvd", value)], run_id=f"id-{value}", spec__task="a2v", tokenizer__revision=f"weights-{value}")
        for value in (20.0, 21.0)
    ]
    (group,) = leaderboard(save(tmp_path, *runs), reported=False).groups
    assert len({row.label for row in group.rows}) == 2
