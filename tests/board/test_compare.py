"""Two synthetic runs against each other: pairing, refusals, verdicts, and files that are not what they should be."""

import io
import json
import zipfile

import numpy as np
import pytest
import scipy.stats

from avbench.board.compare import compare, render
from avbench.errors import AvbenchError
from avbench.metric import MetricUnavailable

PROTOCOLS = {"psnr": "p", "lpips": "p", "fvd": "p", "bits_per_s": "p"}


def shift_distance(rows):
    """Squared distance of means: a distribution metric with a hand-workable value. rows (N, 2, D)."""
    return float(np.square(rows[:, 0].mean(0) - rows[:, 1].mean(0)).sum())


def save(folder, clips, *, features=None, failed=(), protocols=PROTOCOLS, **changes):
    """A run's folder; clips: metric -> {clip id: value}."""
    folder.mkdir(parents=True)
    ids = sorted({clip for values in clips.values() for clip in values} | set(failed))
    lines = [
        {
            "id": clip,
            "label": None,
            "status": "failed" if clip in failed else "ok",
            "reason": None,
            "metrics": {} if clip in failed else {name: values.get(clip) for name, values in clips.items()},
        }
        for clip in ids
    ]
    (folder / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    names = [*clips, *(features or {}), "parameters"]
    result = {
        "run_id": folder.name,
        "spec": {"tokenizer": folder.name, "split": "arcade-mini", "task": "reconstruct", "checkpoint": None},
        "tokenizer": {"name": folder.name, "revision": "r", "kind": "classical"},
        "split": {"name": "arcade-mini", "checksum": "c0ffee"},
        "protocol": "16x128x128",
        "num_clips": len(ids),
        "num_ok": len(ids) - len(failed),
        "num_failed": len(failed),
        "finished": "2026-11-23T20:00:00+00:00",
        "values": [{"name": name, "value": 1.0, "protocol": protocols.get(name, "p")} for name in names],
    }
    for path, value in changes.items():
        section, _, key = path.rpartition("__")
        (result[section] if section else result)[key] = value
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    if features:
        np.savez_compressed(folder / "features.npz", **features)
    return folder


def values(seed, mean, count=40, spread=1.0):
    numbers = np.random.default_rng(seed).normal(mean, spread, size=count)
    return {f"clip-{i:03d}": float(number) for i, number in enumerate(numbers)}


def shifted(clips, shift, seed=9):
    noise = np.random.default_rng(seed).normal(0, 0.05, size=len(clips))
    return {clip: value + shift + float(extra) for (clip, value), extra in zip(clips.items(), noise, strict=True)}


def row(comparison, name):
    return next(row for row in comparison.rows if row.column.metric == name)


def test_the_verdict_names_the_better_run_in_each_metrics_direction(tmp_path):
    psnr, lpips = values(0, 25), values(1, 0.3, spread=0.1)
    a = save(tmp_path / "a", {"psnr": psnr, "lpips": lpips, "bits_per_s": psnr})
    b = save(tmp_path / "b", {"psnr": shifted(psnr, 0.2), "lpips": shifted(lpips, 0.2), "bits_per_s": shifted(psnr, -1)})
    verdicts = {row.column.metric: row.verdict for row in compare(a, b).rows}
    assert verdicts["psnr"] == "B better"
    assert verdicts["lpips"] == "A better"
    assert verdicts["bits_per_s"] == "B lower"
    assert verdicts["parameters"].startswith("not comparable: one value a run")
    swapped = {row.column.metric: row.verdict for row in compare(b, a).rows}
    assert (swapped["psnr"], swapped["lpips"]) == ("A better", "B better")


def test_the_difference_and_its_p_value_agree_with_the_paired_t_test(tmp_path):
    first = values(0, 25)
    second = shifted(values(5, 25.3), 0)
    test = row(compare(save(tmp_path / "a", {"psnr": first}), save(tmp_path / "b", {"psnr": second})), "psnr")
    oracle = scipy.stats.ttest_rel(list(second.values()), list(first.values()))
    low, high = oracle.confidence_interval()
    assert test.difference.difference == pytest.approx(np.mean(list(second.values())) - np.mean(list(first.values())))
    assert (test.difference.ci_low, test.difference.ci_high) == pytest.approx((low, high), abs=0.06)
    assert test.difference.p_value == pytest.approx(oracle.pvalue, abs=0.02)


def test_a_run_against_itself_shows_no_difference(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 2, 3))
    a = save(tmp_path / "a", {"psnr": values(0, 25)}, features={"fvd": rows})
    comparison = compare(a, a, metric_compute=lambda name: shift_distance)
    assert [row.verdict for row in comparison.rows if row.fixed] == ["the same on every clip"] * 2


def test_what_is_equal_by_construction_takes_no_place_in_holms_family(tmp_path):
    """Two composites with the same picture: every video metric is the same, and the rates differ by the same on every clip."""
    psnr, sound, rate = values(0, 25), values(1, 5), dict.fromkeys(values(0, 0), 900.0)
    a = save(tmp_path / "a", {"psnr": psnr, "ssim": psnr, "lpips": psnr, "bits_per_s": rate, "si_sdr": sound})
    b = save(
        tmp_path / "b",
        {"psnr": psnr, "ssim": psnr, "lpips": psnr, "bits_per_s": dict.fromkeys(rate, 600.0), "si_sdr": shifted(sound, 0.03)},
    )
    comparison = compare(a, b)
    sound_row = row(comparison, "si_sdr")
    assert sound_row.p_holm == sound_row.difference.p_value  # a family of one
    assert [row(comparison, name).verdict for name in ("psnr", "bits_per_s")] == [
        "the same on every clip",
        "B lower by the same on every clip",
    ]
    assert "Not tested and not counted there, since the difference is the same on every clip: PSNR, SSIM, LPIPS, kbit/s." in render(
        comparison
    )


def test_a_quality_that_is_better_by_the_same_on_every_clip_is_a_result(tmp_path):
    psnr = {f"clip-{i}": 20.0 + i for i in range(20)}
    a, b = save(tmp_path / "a", {"psnr": psnr}), save(tmp_path / "b", {"psnr": {clip: value + 1 for clip, value in psnr.items()}})
    assert row(compare(a, b), "psnr").verdict == "B better"


def test_only_clips_that_are_ok_in_both_runs_count(tmp_path):
    psnr = values(0, 25)
    a = save(tmp_path / "a", {"psnr": dict(list(psnr.items())[:30])}, failed=("clip-030",))
    b = save(tmp_path / "b", {"psnr": shifted(psnr, 1)}, failed=("clip-000", "clip-001"))
    comparison = compare(a, b)
    assert comparison.num_common == 28
    test = row(comparison, "psnr")
    assert test.difference.num_clips == 28
    assert test.a == pytest.approx(np.mean(list(psnr.values())[2:30]))
    assert "28 clips are ok in both" in render(comparison)


def test_features_are_matched_by_clip_and_not_by_row_number(tmp_path):
    rng = np.random.default_rng(0)
    psnr = values(0, 25, count=50)
    reference = rng.normal(size=(50, 3))
    rows_a = np.stack([reference, reference + 1.0], axis=1)
    rows_b = np.stack([reference, reference + np.arange(50)[:, None]], axis=1)
    a = save(tmp_path / "a", {"psnr": psnr}, features={"fvd": rows_a})
    without_first = {clip: value for clip, value in psnr.items() if clip != "clip-000"}
    b = save(tmp_path / "b", {"psnr": without_first}, features={"fvd": rows_b[1:]}, failed=("clip-000",))
    test = row(compare(a, b, metric_compute=lambda name: shift_distance), "fvd")
    assert test.a == pytest.approx(3.0)
    assert test.b == pytest.approx(3 * np.arange(1, 50).mean() ** 2)
    assert test.verdict == "A better"


def test_a_clip_whose_features_failed_is_left_out_of_both_runs(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 2, 3))
    damaged = rows.copy()
    damaged[7] = np.nan
    a = save(tmp_path / "a", {"psnr": values(0, 25)}, features={"fvd": damaged})
    b = save(tmp_path / "b", {"psnr": values(0, 25)}, features={"fvd": rows})
    test = row(compare(a, b, metric_compute=lambda name: shift_distance), "fvd")
    assert test.difference.num_clips == 39
    assert test.difference.difference == 0


def test_many_metrics_are_corrected_for_by_holm(tmp_path):
    names = ["psnr", *(f"extra{i}" for i in range(19))]
    base = {name: values(i, 10) for i, name in enumerate(names)}
    other = {name: shifted(values(100 + i, 10), 0) for i, name in enumerate(names)}
    rows = [row for row in compare(save(tmp_path / "a", base), save(tmp_path / "b", other)).rows if row.p_holm is not None]
    assert len(rows) == 20
    smallest = min(rows, key=lambda row: row.difference.p_value)
    assert smallest.p_holm == pytest.approx(min(1, 20 * smallest.difference.p_value))
    assert all(row.p_holm >= row.difference.p_value for row in rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"split__checksum": "other"}, "split checksums"), ({"protocol": "8x64x64"}, "split protocols"), ({"spec__task": "a2v"}, "tasks")],
)
def test_runs_of_other_clips_are_refused(tmp_path, change, said):
    a, b = save(tmp_path / "a", {"psnr": values(0, 25)}), save(tmp_path / "b", {"psnr": values(0, 25)}, **change)
    with pytest.raises(AvbenchError, match=f"different {said}"):
        compare(a, b)


def test_a_metric_of_another_protocol_is_not_comparable(tmp_path):
    a = save(tmp_path / "a", {"psnr": values(0, 25)})
    b = save(tmp_path / "b", {"psnr": values(0, 25)}, protocols={"psnr": "another range"})
    assert row(compare(a, b), "psnr").verdict == "not comparable: the metric's protocols differ"


def test_a_metric_without_a_value_says_which_run_lacks_it_and_why(tmp_path):
    a = save(tmp_path / "a", {"psnr": values(0, 25)})
    b = save(tmp_path / "b", {"psnr": values(0, 25)}, values=[{"name": "psnr", "value": None, "reason": "gives no video"}])
    assert row(compare(a, b), "psnr").verdict == "not comparable: B has no value (gives no video)"


def test_a_metric_whose_weights_are_absent_is_not_comparable_and_the_rest_stands(tmp_path):
    def absent(name):
        raise MetricUnavailable("avbench weights pull i3d")

    rows = np.zeros((40, 2, 3))
    a = save(tmp_path / "a", {"psnr": values(0, 25)}, features={"fvd": rows})
    comparison = compare(a, a, metric_compute=absent)
    assert row(comparison, "fvd").verdict == "not comparable: avbench weights pull i3d"
    assert row(comparison, "psnr").verdict == "the same on every clip"


def test_the_comparison_is_deterministic(tmp_path):
    a, b = save(tmp_path / "a", {"psnr": values(0, 25)}), save(tmp_path / "b", {"psnr": values(1, 25)})
    assert compare(a, b) == compare(a, b)
    assert compare(a, b, seed=1) != compare(a, b)


def test_the_text_has_every_metric_with_interval_and_verdict(tmp_path):
    psnr = values(0, 25)
    text = render(compare(save(tmp_path / "a", {"psnr": psnr}), save(tmp_path / "b", {"psnr": shifted(psnr, 1)})))
    line = next(line for line in text.splitlines() if line.startswith("PSNR dB ↑"))
    assert "B better" in line
    assert "<0.001" in line
    assert max(map(len, text.splitlines())) <= 160


def test_an_unfinished_or_absent_run_says_so(tmp_path):
    a = save(tmp_path / "a", {"psnr": values(0, 25)})
    (tmp_path / "half").mkdir()
    with pytest.raises(AvbenchError, match="is not finished"):
        compare(a, tmp_path / "half")
    with pytest.raises(AvbenchError, match="does not exist"):
        compare(a, tmp_path / "none")


def test_runs_without_a_common_clip_are_refused(tmp_path):
    a = save(tmp_path / "a", {"psnr": {"x": 1.0, "y": 2.0}})
    b = save(tmp_path / "b", {"psnr": {"y": 1.0, "z": 2.0}})
    with pytest.raises(AvbenchError, match="have 1 clips that are ok in both"):
        compare(a, b)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 41 is not valid JSON"),
        ("[" * 50_000, "line 41 is not valid JSON"),
        ("[]", "line 41 is not a clip's row"),
        ('{"id": 3, "status": "ok"}', "line 41 is not a clip's row"),
        ('{"id": "z", "status": "fine"}', "line 41 is not a clip's row"),
        ('{"id": "z", "status": "ok", "metrics": []}', "line 41 is not a clip's row"),
        ('{"id": "clip-000", "status": "ok"}', "names clip 'clip-000' again"),
    ],
)
def test_a_damaged_line_of_clips_is_named(tmp_path, line, said):
    a = save(tmp_path / "a", {"psnr": values(0, 25)})
    with (a / "clips.jsonl").open("a") as lines:
        lines.write(line)
    with pytest.raises(AvbenchError, match=said):
        compare(a, a)


def test_values_that_are_no_numbers_are_no_values(tmp_path):
    psnr = values(0, 25) | {"clip-000": "high", "clip-001": True, "clip-002": float("inf"), "clip-003": 10**400, "clip-004": None}
    a = save(tmp_path / "a", {"psnr": psnr})
    assert row(compare(a, a), "psnr").difference.num_clips == 35


def test_pickled_features_are_refused_and_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    a = save(tmp_path / "a", {"psnr": values(0, 25)}, features={"fvd": np.array([Bomb()] * 40, dtype=object)})
    (tmp_path / "executed").unlink(missing_ok=True)
    verdict = row(compare(a, a, metric_compute=lambda name: shift_distance), "fvd").verdict
    assert verdict.startswith("not comparable: ")
    assert not (tmp_path / "executed").exists()


def test_features_that_do_not_fit_the_clips_are_not_compared(tmp_path):
    a = save(tmp_path / "a", {"psnr": values(0, 25)}, features={"fvd": np.zeros((39, 2, 3))})
    verdict = row(compare(a, a, metric_compute=lambda name: shift_distance), "fvd").verdict
    assert "has shape (39, 2, 3) for 40 ok clips" in verdict


def test_a_damaged_features_file_is_named(tmp_path):
    a = save(tmp_path / "a", {"psnr": values(0, 25)}, features={"fvd": np.zeros((40, 2, 3))})
    (a / "features.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(AvbenchError, match=r"features\.npz is damaged"):
        compare(a, a)


def test_a_features_array_that_would_unpack_to_terabytes_is_not_read(tmp_path):
    a = save(tmp_path / "a", {"psnr": values(0, 25)}, features={"fvd": np.zeros((40, 2, 3))})
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (40, 2**40)})
    with zipfile.ZipFile(a / "features.npz", "w") as archive:
        archive.writestr("fvd.npy", header.getvalue())
    verdict = row(compare(a, a, metric_compute=lambda name: shift_distance), "fvd").verdict
    assert "more than the file holds" in verdict


def test_a_small_features_file_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path, monkeypatch):
    """40 clips of 2 MB each, all zeros, are 80 kB on disk. No metric keeps so much of a clip."""
    a = save(tmp_path / "a", {"psnr": values(0, 25)}, features={"fvd": np.zeros((40, 2, 3))})
    np.savez_compressed(a / "features.npz", fvd=np.zeros((40, 2**18)))
    assert (a / "features.npz").stat().st_size < 200_000
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("unpacked"))
    verdict = row(compare(a, a, metric_compute=lambda name: shift_distance), "fvd").verdict
    assert "more than any metric keeps of 40 clips" in verdict


def test_a_median_is_compared_by_resampling_its_clips(tmp_path):
    clips = {"psnr": values(0, 10.0)}
    rows = np.array(list(clips["psnr"].values()))[:, None]
    a = save(tmp_path / "a", clips, features={"si_sdr_median": rows})
    b = save(tmp_path / "b", clips, features={"si_sdr_median": rows + 1})
    found = row(compare(a, b), "si_sdr_median")
    assert found.difference.difference == pytest.approx(1.0)
    assert (found.difference.ci_low, found.difference.ci_high) == pytest.approx((1.0, 1.0))
    assert found.verdict == "B higher"  # these results say no direction
