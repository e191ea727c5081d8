"""Results -> a leaderboard: groups of rows that may be compared, best values ranked within each. formats.py prints it.

Who is ranked. Rows share a group where task, split, checksum, split protocol and number of clips are the same. In a column, the
cells that share the most common metric protocol and clip count are ranked, best and second best by the value as shown (ties
share); where the best value is that of the real clips, by the distance to that of their row (identity, real) in the group. Not
ranked, and noted: a cell of another protocol or clip count, and every cell of a row with failed clips, since a mean over the clips
that went well is about easier clips. Controls are shown and never ranked; a value that does not beat the zero-skill control of its
group is marked with `BELOW_FLOOR`. Published rows stand in groups of their own, unranked.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from avbench.board.columns import Board, Column, Reported, load_boards
from avbench.board.ranking import beats, common_footing, floor_value, footing_of, ranks, reference_value
from avbench.board.results import MAX_NAME, Results, RunResult, clean, collect
from avbench.types import MetricValue

__all__ = ["Cell", "Group", "Row", "Table", "build", "build_all", "collect", "leaderboard"]

KIND_ORDER = ("learned", "linear", "classical", "control")
BELOW_FLOOR = "▾"
VERIFIED = "✓"
VERIFIED_KEY = "verified: somebody decoded the row's kept bytes again and got these numbers (avbench verify)"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value. rank: 1 best, 2 second best, 0 otherwise. notes: numbers of the group's notes, from 1."""

    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    num_clips: int = 0
    protocol: str = ""
    reason: str | None = None
    rank: int = 0
    below_floor: bool = False
    notes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One tokenizer (or published method) in a group; cells by metric name. verified: by whom and when, or ""."""

    label: str
    kind: str
    cells: dict[str, Cell]
    num_ok: int | None = None
    num_clips: int | None = None
    notes: tuple[int, ...] = ()
    revision: str = ""
    trained_on: str = ""
    run_id: str = ""
    finished: str = ""
    verified: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that may be compared. legend: (column title, protocol) pairs; notes: texts that cells and rows refer to by number."""

    title: str
    task: str
    split: str
    checksum: str
    protocol: str
    num_clips: int | None
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    legend: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    reported: bool = False
    split_note: str = ""

    @property
    def has_verified(self) -> bool:
        """Whether the mark has to be explained."""
        return any(row.verified for row in self.rows)

    @property
    def source(self) -> str:
        """What the clips are and where the rows come from, in one sentence."""
        if self.reported:
            return f"Source: {self.protocol}"
        note = f"; {self.split_note}" if self.split_note else ""
        return f"Clips: {self.protocol}; split checksum {self.checksum[:16]}{note}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A leaderboard. warnings: runs that could not be shown, and why."""

    groups: tuple[Group, ...]
    warnings: tuple[str, ...] = ()


def leaderboard(runs_dir: Path | str, split: str | None = None, reported: bool = True) -> Table:
    """The table of everything that lies in `runs_dir`: what `avbench table` prints."""
    return build_all(collect(runs_dir), split, reported)


def build_all(results: Results, split: str | None = None, reported: bool = True) -> Table:
    """Every board that has runs, the reconstruction board always."""
    tables = [build(results, board, split, reported) for board in load_boards()]
    shown = [table for i, table in enumerate(tables) if i == 0 or any(not group.reported for group in table.groups)]
    return Table(groups=tuple(group for table in shown for group in table.groups), warnings=_warnings(results))


def build(results: Results, board: Board, split: str | None = None, reported: bool = True) -> Table:
    """The board's table over `results`, of one split or of all."""
    groups: dict[tuple[object, ...], list[RunResult]] = {}
    for run in results.results:
        if run.task in board.tasks and split in (None, run.split):
            groups.setdefault((run.split, run.task, -run.num_clips, run.protocol, run.checksum), []).append(run)
    measured = [_measured_group(board, _newest(runs)) for _, runs in sorted(groups.items(), key=lambda item: item[0])]
    same = Counter(group.title for group in measured)
    measured = [
        replace(group, title=f"{group.title}, split checksum {group.checksum[:8]}") if same[group.title] > 1 else group
        for group in measured
    ]
    published = [_reported_group(table) for table in board.reported] if reported else []
    return Table(groups=tuple(measured + published), warnings=_warnings(results))


@dataclass
class _Notes:
    """A group's notes, each text once, numbered from 1 in order of first use."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def _newest(runs: Iterable[RunResult]) -> list[RunResult]:
    """One run of what was evaluated, whatever it is called: of those with the most metrics (a quick look must hide nothing), the last."""
    newest: dict[tuple[str, str], RunResult] = {}
    ranks_of_kinds = {kind: rank for rank, kind in enumerate(KIND_ORDER)}
    for run in sorted(runs, key=lambda run: (len(run.values), run.finished, run.run_id)):
        newest[(run.tokenizer, run.evaluated)] = run
    return sorted(newest.values(), key=lambda run: (ranks_of_kinds.get(run.kind, 0), run.tokenizer, run.checkpoint or "", run.run_id))


def _labels(runs: Sequence[RunResult]) -> list[str]:
    """What each row is called: its tokenizer; with the checkpoint's name where two are called alike, and a hash where they still are."""
    labels = [clean(run.tokenizer, MAX_NAME) for run in runs]
    same = Counter(labels)
    labels = [
        clean(f"{label} ({run.checkpoint})", MAX_NAME) if run.checkpoint and same[label] > 1 else label
        for label, run in zip(labels, runs, strict=True)
    ]
    same = Counter(labels)
    digests = [hashlib.sha256(run.evaluated.encode()).hexdigest()[:6] for run in runs]
    return [f"{label} #{digest}" if same[label] > 1 else label for label, digest in zip(labels, digests, strict=True)]


def _measured_group(board: Board, runs: Sequence[RunResult]) -> Group:
    columns = _columns_of(board, runs)
    common = {column.metric: common_footing(column.metric, runs) for column in columns}
    floors = {column.metric: floor_value(board.floors, column, runs, common[column.metric]) for column in columns}
    aims = {column.metric: reference_value(board.references, column, runs, common[column.metric]) for column in columns}
    ranked = {column.metric: ranks(column, runs, common[column.metric], aims[column.metric]) for column in columns}
    notes = _Notes()
    rows = []
    for run, label in zip(runs, _labels(runs), strict=True):
        row_notes = tuple(notes.number(text) for text in (_failure_note(run), run.remark) if text)
        cells = {}
        for column in columns:
            footing, floor = common[column.metric], floors[column.metric]
            rank = ranked[column.metric].get(run.folder, 0)
            cells[column.metric] = _cell(column, run, footing, floor, rank, notes)
        rows.append(_row(run, label, cells, row_notes))
    first = runs[0]
    legend = [(column.title, common[column.metric][0]) for column in columns if common[column.metric][0]]
    return Group(
        title=_group_title(board, first),
        task=first.task,
        split=first.split,
        checksum=first.checksum,
        protocol=first.protocol,
        num_clips=first.num_clips,
        columns=columns,
        rows=tuple(rows),
        legend=tuple(legend),
        notes=tuple(notes.texts),
        split_note=first.split_note,
    )


def _cell(column: Column, run: RunResult, footing: tuple[str, int], floor: float | None, rank: int, notes: _Notes) -> Cell:
    value = run.values.get(column.metric)
    if value is None:
        return Cell(value=None, reason="not asked for", notes=(notes.number("not asked for in this run"),))
    numbers = [notes.number(text) for text in _remarks(column, run, value, footing)]
    return Cell(
        value=value.value,
        ci_low=value.ci_low,
        ci_high=value.ci_high,
        num_clips=value.num_clips,
        protocol=value.protocol,
        reason=value.reason,
        rank=rank,
        below_floor=run.kind != "control" and footing_of(value) == footing and not beats(column, value.value, floor),
        notes=tuple(numbers),
    )


def _remarks(column: Column, run: RunResult, value: MetricValue, footing: tuple[str, int]) -> Iterator[str]:
    """What the reader must know of a value beside the number."""
    unranked = "" if column.higher_is_better is None and not column.best_is_reference else ", not ranked"
    if value.value is None:
        yield value.reason or "no reason given"
        return
    if value.protocol != footing[0]:
        yield f"another protocol{unranked}: {value.protocol or 'none stated'}"
    if unranked and value.num_clips != footing[1] and not run.num_failed:
        yield f"over {value.num_clips} clips{unranked}" + (f": {value.reason}" if value.reason else "")


def _row(run: RunResult, label: str, cells: dict[str, Cell], notes: tuple[int, ...]) -> Row:
    return Row(
        label=label,
        kind=run.kind,
        cells=cells,
        num_ok=run.num_ok,
        num_clips=run.num_clips,
        notes=notes,
        revision=run.revision,
        trained_on=run.trained_on,
        run_id=run.run_id,
        finished=run.finished,
        verified=run.verified,
    )


def _columns_of(board: Board, runs: Sequence[RunResult]) -> tuple[Column, ...]:
    """The board's columns that some run has, then those of plugins by name."""
    present = {name for run in runs for name in run.values}
    known = [column for column in board.columns if column.metric in present]
    extra = sorted(present - {column.metric for column in board.columns})
    return (*known, *(_plugin_column(name, runs) for name in extra))


def _plugin_column(name: str, runs: Sequence[RunResult]) -> Column:
    stated = {run.directions[name] for run in runs if name in run.directions}
    units = {run.units[name] for run in runs if run.units.get(name)}
    return Column(
        metric=name,
        title=name,
        section="Other",
        higher_is_better=stated.pop() if len(stated) == 1 else None,
        best_is_reference=any(name in run.best_is_reference for run in runs),
        unit=units.pop() if len(units) == 1 else "",
    )


def _failure_note(run: RunResult) -> str:
    if not run.num_failed:
        return ""
    why = "; ".join(f"{count} x {reason}" for reason, count in run.failures.items())
    return f"{run.num_failed} of {run.num_clips} clips failed: values are over the {run.num_ok} others, not ranked" + (
        f" ({why})" if why else ""
    )


def _group_title(board: Board, run: RunResult) -> str:
    task = f" ({run.task})" if len(board.tasks) > 1 else ""
    return f"{board.title}{task} on {run.split}, {run.num_clips} clips"


def _reported_group(table: Reported) -> Group:
    rows = []
    for row in table.rows:
        label = f"{row.method} ({row.note})" if row.note else row.method
        cells = {key: Cell(value=value) for key, value in row.values.items()}
        rows.append(Row(label=label, kind=row.kind, cells=cells))
    title = f"Reported, not measured by avbench: {table.title}"
    return Group(
        title=title,
        task=table.task,
        split="",
        checksum="",
        protocol=f"{table.source}: {table.protocol}",
        num_clips=None,
        columns=table.columns,
        rows=tuple(rows),
        reported=True,
    )


def _warnings(results: Results) -> tuple[str, ...]:
    bad = [f"run {run.run_id} is not shown: {run.reason}" for run in results.unreadable]
    unfinished = ", ".join(results.unfinished)
    return (*bad, *([f"unfinished runs are not shown (the same command resumes them): {unfinished}"] if unfinished else []))
