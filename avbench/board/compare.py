"""`avbench compare RUN_A RUN_B`: is the difference between two runs more than luck of the clips? Paired, metric by metric.

Only clips that went well in both runs count. p-values are Holm-corrected over the metrics tested, so "better" holds for the
family at 5 %. A metric that has the same value on every clip in both runs (the shared half of two composites), or a fact that differs by
the same on every clip (a fixed rate), has no luck of the clips to test: it is no member of the family, and the text says so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tabulate import tabulate

from avbench import sparse
from avbench.board.clips import RunClips
from avbench.board.columns import Column, load_boards
from avbench.board.results import RunResult, clean, read_result
from avbench.board.text import format_number
from avbench.errors import AvbenchError
from avbench.metric import MetricInfo, MetricOptions, MetricUnavailable, sides
from avbench.registry import load_metric, metric_info
from avbench.stats import NOTHING, Compute, PairedDifference, holm, paired_bootstrap, paired_jackknife, paired_resampled
from avbench.types import SIDES

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class MetricComparison:
    """One metric over the common clips. p_holm and difference are None where the verdict begins with "not comparable".

    fixed: the difference is the same on every clip, so there is nothing to test, and p_holm is None.
    """

    column: Column
    a: float | None
    b: float | None
    difference: PairedDifference = NOTHING
    p_holm: float | None = None
    fixed: bool = False
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs of the same split and protocol. num_common: clips that are ok in both; of unpaired sets, such references."""

    a: RunResult
    b: RunResult
    num_common: int
    rows: tuple[MetricComparison, ...]


def load_compute(name: str) -> Compute:
    """`compute` of the metric called `name`. Raises MetricUnavailable or AvbenchError where it is not installed."""
    return load_metric(name, MetricOptions()).compute


def compare(
    run_a: Path | str,
    run_b: Path | str,
    *,
    num_resamples: int = 10_000,
    seed: int = 0,
    metric_compute: Callable[[str], Compute] = load_compute,
) -> Comparison:
    """B against A over the clips that are ok in both. Raises AvbenchError where the runs are not of the same clips and task."""
    a, b = (_finished(Path(folder)) for folder in (run_a, run_b))
    _check_same_clips(a, b)
    clips_a, clips_b = RunClips.read(a.folder), RunClips.read(b.folder)
    common = [clip for clip in clips_a.ids if clip in clips_b.position]
    if a.unpaired:
        common = [clip for clip in common if clip.startswith(SIDES[0])]
    if len(common) < 2:
        raise AvbenchError(f"runs {a.run_id} and {b.run_id} have {len(common)} clips that are ok in both; a comparison needs two")
    pairing = (_Sets if a.unpaired else _Pairing)(
        a=clips_a, b=clips_b, common=common, num_resamples=num_resamples, seed=seed, metric_compute=metric_compute
    )
    rows = [_compare_metric(column, a, b, pairing) for column in _columns(a, b)]
    return Comparison(a=a, b=b, num_common=len(common), rows=tuple(_with_verdicts(rows)))


def render(comparison: Comparison) -> str:
    """The comparison as text for a terminal."""
    a, b = comparison.a, comparison.b
    head = [
        f"A  {a.tokenizer}  (run {a.run_id}, {a.num_ok}/{a.num_clips} clips ok)",
        f"B  {b.tokenizer}  (run {b.run_id}, {b.num_ok}/{b.num_clips} clips ok)",
        f"{a.split}: {comparison.num_common} {'references' if a.unpaired else 'clips'} are ok in both and counted here",
    ]
    headers = ["metric", "A", "B", "B - A", "95 % interval", "clips", "p (Holm)", "verdict"]
    align = ("left", "right", "right", "right", "left", "right", "right", "left")
    table = tabulate([row_texts(row) for row in comparison.rows], headers=headers, colalign=align, disable_numparse=True)
    left_out = ", ".join(row.column.title for row in comparison.rows if row.fixed)
    foot = "Paired bootstrap over clips (distribution metrics: paired jackknife); p corrected for the number of metrics (Holm)."
    if left_out:
        foot += f"\nNot tested and not counted there, since the difference is the same on every clip: {left_out}."
    return "\n".join([*head, "", table, "", foot]) + "\n"


@dataclass(frozen=True, kw_only=True)
class _Pairing:
    """Both runs' clips and how to test."""

    a: RunClips
    b: RunClips
    common: list[str]
    num_resamples: int
    seed: int
    metric_compute: Callable[[str], Compute]

    def clip_values(self, metric: str) -> tuple[float, float, PairedDifference, bool]:
        """Means over the clips that have the value in both, the test of their difference, and whether it is the same on every clip."""
        a, b = self.a.values(metric, self.common), self.b.values(metric, self.common)
        both = np.isfinite(a) & np.isfinite(b)
        difference = paired_bootstrap(a[both], b[both], num_resamples=self.num_resamples, seed=self.seed)
        if not both.any():
            return np.nan, np.nan, NOTHING, True
        return float(a[both].mean()), float(b[both].mean()), difference, bool(np.ptp(b[both] - a[both]) == 0)

    def features(self, metric: str) -> tuple[float, float, PairedDifference, bool]:
        """Values over the common clips' rows, the test of their difference, and whether the rows are the same."""
        plain, info = self.metric_compute(metric), _declared(metric)
        additive = info is not None and info.additive
        compute = (lambda rows: plain(sparse.total(rows))) if additive else (lambda rows: plain(sparse.dense(rows)))
        a, b = self.a.features(metric, self.common), self.b.features(metric, self.common)
        present = sparse.present(a) & sparse.present(b)
        a, b = a[present], b[present]
        test = paired_resampled if info is not None and info.resampled else paired_jackknife
        return compute(a), compute(b), test(compute, a, b, seed=self.seed), a.shape == b.shape and not (a != b).sum()


class _Sets(_Pairing):
    """Two runs of unpaired sets: the references are shared, each run's outputs are a set of their own."""

    def features(self, metric: str) -> tuple[float, float, PairedDifference, bool]:
        """Values over the shared references and all outputs, and the test of their difference.

        Rows that one run alone has are NaN in the other, which counts them nowhere: both then have the same rows.
        """
        compute = self.metric_compute(metric)
        shared = self.common
        own = [[clip for clip in run.ids if clip.startswith(SIDES[1])] for run in (self.a, self.b)]
        rows = [sparse.dense(run.features(metric, [*shared, *ids])) for run, ids in zip((self.a, self.b), own, strict=True)]
        if rows[0].ndim < 3 or rows[0].shape[1:] != rows[1].shape[1:] or rows[0].shape[1] != 2:
            raise AvbenchError("the rows of the two runs are not features of two sets")
        (references, a), (others, b) = ((part[: len(shared)], part[len(shared) :]) for part in rows)
        both = (sides(references) & sides(others))[:, 0]
        absent_a, absent_b = (np.full((len(part), *rows[0].shape[1:]), np.nan) for part in (a, b))
        rows_a, rows_b = (np.concatenate(parts) for parts in ((references[both], a, absent_b), (others[both], absent_a, b)))
        sets = np.repeat([0, 1, 2], [both.sum(), len(a), len(b)])
        difference = paired_jackknife(compute, rows_a, rows_b, seed=self.seed, sets=sets)
        return compute(rows_a), compute(rows_b), difference, False


def _compare_metric(column: Column, a: RunResult, b: RunResult, pairing: _Pairing) -> MetricComparison:
    name = column.metric
    value_a, value_b = a.values[name], b.values[name]
    row = MetricComparison(column=column, a=value_a.value, b=value_b.value, verdict="")
    for label, value in (("A", value_a), ("B", value_b)):
        if value.value is None:
            return replace(row, verdict=f"not comparable: {label} has no value ({clean(value.reason or '', 60)})")
    if value_a.protocol != value_b.protocol:
        return replace(row, verdict="not comparable: the metric's protocols differ")
    if pairing.a.has_values(name) and pairing.b.has_values(name):
        test = pairing.clip_values
    elif pairing.a.has_features(name) and pairing.b.has_features(name):
        test = pairing.features
    else:
        return replace(row, verdict="not comparable: one value a run, none a clip")
    try:
        a_common, b_common, difference, same = test(name)
    except (AvbenchError, MetricUnavailable) as error:
        return replace(row, verdict=f"not comparable: {error}")
    if difference.difference is None:
        return replace(row, verdict="not comparable: too few clips have it in both")
    row = replace(row, a=a_common, b=b_common, difference=difference)
    if not same or (difference.difference and column.higher_is_better is not None):  # better by the same everywhere is a result
        return row
    side = "higher" if difference.difference > 0 else "lower"
    verdict = f"B {side} by the same on every clip" if difference.difference else "the same on every clip"
    return replace(row, difference=replace(difference, p_value=None), fixed=True, verdict=verdict)


def _with_verdicts(rows: list[MetricComparison]) -> Iterable[MetricComparison]:
    for row, p_holm in zip(rows, holm([row.difference.p_value for row in rows]), strict=True):
        yield row if p_holm is None else replace(row, p_holm=p_holm, verdict=_verdict(row, p_holm))


def _verdict(row: MetricComparison, p_holm: float) -> str:
    difference = row.difference.difference
    if p_holm >= ALPHA or not difference:
        return "no difference shown"
    if row.column.higher_is_better is None:
        return "B higher" if difference > 0 else "B lower"
    return "B better" if (difference > 0) == row.column.higher_is_better else "A better"


def row_texts(row: MetricComparison) -> list[str]:
    """metric, A, B, B - A, interval, clips, p, verdict: as `render` shows them."""

    def number(value: float | None) -> str:
        return "n/a" if value is None else format_number(row.column, value)

    test = row.difference
    if row.p_holm is None:
        return [row.column.header, number(row.a), number(row.b), "", "", "", "", row.verdict]
    interval = f"[{number(test.ci_low)}, {number(test.ci_high)}]"
    p_value = "<0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
    return [
        row.column.header,
        number(row.a),
        number(row.b),
        number(test.difference),
        interval,
        str(test.num_clips),
        p_value,
        row.verdict,
    ]


def _columns(a: RunResult, b: RunResult) -> list[Column]:
    """What both runs have, in the board's order, then plugins' metrics by name."""
    shared = [name for name in a.values if name in b.values]
    board = next((board for board in load_boards() if a.task in board.tasks), None)
    known = [column for column in board.columns if column.metric in shared] if board else []
    extra = sorted(set(shared) - {column.metric for column in known})
    directions = {**b.directions, **a.directions}
    return [*known, *(Column(metric=name, title=name, section="", higher_is_better=directions.get(name)) for name in extra)]


def _finished(folder: Path) -> RunResult:
    if not (folder / "result.json").is_file():
        what = (
            "is not finished: the command that began it resumes it"
            if folder.is_dir()
            else "does not exist; a run's folder is runs/<run_id>"
        )
        raise AvbenchError(f"run {folder} {what}")
    return read_result(folder)


def _check_same_clips(a: RunResult, b: RunResult) -> None:
    differing = [
        f"{what} ({value_a} and {value_b})"
        for what, value_a, value_b in (
            ("tasks", a.task, b.task),
            ("split checksums", f"{a.split} {a.checksum}", f"{b.split} {b.checksum}"),
            ("split protocols", a.protocol, b.protocol),
            ("pairings", *("unpaired sets" if run.unpaired else "by clip" for run in (a, b))),
        )
        if value_a != value_b
    ]
    if differing:
        raise AvbenchError(
            f"runs {a.run_id} and {b.run_id} cannot be compared: different {'; '.join(differing)}; run both on the same split"
        )


def _declared(metric: str) -> MetricInfo | None:
    try:
        return metric_info(metric)
    except (AvbenchError, KeyError):  # not installed here: `metric_compute` has said so, or knows it all the same
        return None
