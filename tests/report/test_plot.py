"""The plot of quality against rate: families, axes, ticks, names that do not cover each other."""

import math
from pathlib import Path

import pytest
from synthetic_runs import content, metric, save

from avbench.board.results import collect
from avbench.board.table import build_all
from avbench.report.labels import LETTER, MAX_LETTERS, Mark, place
from avbench.report.plot import Axis, linear_ticks, log_ticks, short
from avbench.report.rate import family, rate_plots

FLOORS = frozenset({"static-frame", "silence"})


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
