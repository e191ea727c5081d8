"""`write_site`: runs and training logs -> a folder of pages that opens from the disk. The folder appears whole or not at all."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avbench import __version__
from avbench.board.columns import load_boards
from avbench.board.results import Results, collect
from avbench.board.table import Group, Row, build_all
from avbench.errors import AvbenchError, UsageError
from avbench.files import open_regular, slug
from avbench.report import pages, plot
from avbench.report.facts import read_facts, words_of
from avbench.report.gallery import Gallery, GroupRun
from avbench.report.gallery import build as build_gallery
from avbench.report.rate import rate_plots
from avbench.report.training import comparisons, read_trainings
from avbench.types import DEFAULT_TASK

MARKER = ".avbench-report"  # in a folder that avbench made and may replace
REPORTED_TRACKS = {"video only": "video", "audio only": "audio"}  # of the kinds of published rows; others are audio-video
REPORTED_TASKS = {"A2V": "a2v", "V2A": "v2a", "cJAVG": "av"}  # others reconstruct


@dataclass(frozen=True, kw_only=True)
class Site:
    """What was written. index: the page to open."""

    index: Path
    num_runs: int
    num_sampled: int
    num_trainings: int


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A row of a board's table. number: its place among the group's runs in the gallery, if its clips differ by a metric."""

    row: Row
    task: str
    track: str
    page: str = ""
    number: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Board:
    """A group with everything its section of the front page shows."""

    group: Group
    anchor: str
    entries: tuple[_Entry, ...]
    remark: str = ""
    members: tuple[GroupRun, ...] = ()
    plots: tuple[plot.Plot, ...] = ()
    gallery: str = ""
    clips: Gallery | None = None

    @property
    def num_clips(self) -> int:
        """Clips of the split."""
        return self.clips.num_clips if self.clips else 0

    @property
    def num_sampled(self) -> int:
        """Clips that can be played."""
        return self.clips.num_sampled if self.clips else 0


def write_site(
    out: Path,
    *,
    runs_dir: Path = Path("runs"),
    found: Results | None = None,
    split: str | None = None,
    training_dir: Path = Path("out"),
) -> Site:
    """Make the site of what was `found` (None: what lies in `runs_dir`), of one split or of all, in the folder `out`, in place of an
    earlier report.

    Raises UsageError where `out` holds something that is not a report, AvbenchError where it cannot be written.
    """
    if out.exists() and not (out / MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there and is not a report of avbench; choose another folder with --out")
    results = collect(runs_dir) if found is None else found
    table = build_all(results, split)
    boards = [_board(group, number, results) for number, group in enumerate(table.groups)]
    trainings = read_trainings(training_dir)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            folder = Path(temporary) / "site"
            folder.mkdir()
            writer = _Writer(folder, _navigation(boards, bool(trainings)))
            writer.front(boards, table.warnings, split)
            for board in boards:
                writer.board(board)
            writer.training(trainings)
            (folder / MARKER).write_text("made by avbench report, which may replace this folder\n")
            _swap(folder, out)
    except OSError as error:
        raise AvbenchError(f"{out} cannot be written: {error.strerror or error}; choose another folder with --out") from error
    return Site(
        index=out / "index.html",
        num_runs=sum(len(board.members) for board in boards),
        num_sampled=sum(board.num_sampled for board in boards),
        num_trainings=len(trainings),
    )


class _Writer:
    """Writes pages and media below `folder`."""

    def __init__(self, folder: Path, navigation: Sequence[dict[str, str]]) -> None:
        self.folder = folder
        self.navigation = navigation

    def front(self, boards: Sequence[_Board], warnings: Sequence[str], split: str | None) -> None:
        """index.html"""
        sections = list(dict.fromkeys(column.section for board in boards for column in board.group.columns if column.section))
        shown = [board for board in boards if not (split and board.group.split not in (split, ""))]
        measured = any(not board.group.reported for board in shown)
        present = {entry.task for board in shown for entry in board.entries}
        tasks = [(task, words_of(task).title) for board in load_boards() for task in board.tasks if task in present]
        values = {"boards": shown, "warnings": warnings, "sections": sections, "size": SIZE, "split": split, "measured": measured}
        self._page("index", "index.html", "Leaderboard", ("board",), tasks=tasks, **values)

    def board(self, board: _Board) -> None:
        """A page for each run of the board, its gallery and the gallery's media."""
        for number, member in enumerate(board.members):
            values = {"member": member, "group": board.group, "gallery": board.gallery, "number": board.entries[number].number}
            self._page("run", member.page, member.row.label, (), **values)
        if board.clips is not None:
            values = {"gallery": board.clips, "intro": words_of(board.group.task).intro}
            self._page("gallery", board.gallery, _gallery_title(board.group), ("clock", "gallery"), **values)
            self._files(board.clips.media)

    def training(self, trainings: Sequence[Any]) -> None:
        """training.html, where there is a training run."""
        if not trainings:
            return
        remarks = [f"{t.name}: {t.damaged_lines} lines of its log cannot be read" for t in trainings if t.damaged_lines]
        remarks += [f"{t.name} cannot be read: {t.problem}" for t in trainings if t.problem]
        sound = [training for training in trainings if not training.problem]
        values = {"trainings": sound, "comparisons": comparisons(sound), "remarks": remarks, "size": SIZE}
        self._page("training", "training.html", "Training", ("board", "training"), **values)
        self._files((picture.file, picture.target) for training in trainings for picture in training.pictures)

    def _page(self, template: str, name: str, title: str, scripts: tuple[str, ...], **values: Any) -> None:
        text = pages.render(template, scripts=scripts, title=title, here=name, nav=self.navigation, version=__version__, **values)
        (self.folder / name).write_text(text, encoding="utf-8")

    def _files(self, files: Iterable[tuple[Path, str]]) -> None:
        """Media beside the pages: the same bytes on disk where the file system allows, copies elsewhere. What is gone is left out."""
        for source, target in files:
            path = self.folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                os.link(source, path)
                continue
            try:
                opened = open_regular(source)
            except OSError:
                continue
            with opened, path.open("wb") as out:
                shutil.copyfileobj(opened, out)


SIZE = {
    "width": int(plot.WIDTH),
    "height": int(plot.HEIGHT),
    "left": int(plot.LEFT),
    "right": int(plot.RIGHT),
    "top": int(plot.TOP),
    "bottom": int(plot.BOTTOM),
}


def _board(group: Group, number: int, results: Results) -> _Board:
    anchor = f"group-{number}"
    if group.reported:
        return _Board(group=group, anchor=anchor, entries=tuple(map(_reported_entry, group.rows)))
    group = replace(group, title=_group_title(group))
    members = tuple(_member(row, number, results) for row in group.rows)
    clips = build_gallery(group, members, f"media/{number}")
    return _Board(
        group=group,
        anchor=anchor,
        entries=tuple(
            _Entry(row=m.row, task=group.task, track=m.facts.track, page=m.page, number=k if clips.ranked[k] else None)
            for k, m in enumerate(members)
        ),
        remark=words_of(group.task).remark,
        members=members,
        plots=tuple(_plots(group, members)),
        gallery=f"gallery-{number}-{slug(group.split)}.html",
        clips=clips,
    )


def _reported_entry(row: Row) -> _Entry:
    return _Entry(row=row, task=REPORTED_TASKS.get(row.kind, DEFAULT_TASK), track=REPORTED_TRACKS.get(row.kind, "audio-video"))


def _plots(group: Group, members: Sequence[GroupRun]) -> list[plot.Plot]:
    """Rate against quality. None of a generation task: its tokens are sampled, not a description of the clip that more bits make better."""
    if words_of(group.task).generates:
        return []
    floors = next((board.floors for board in load_boards() if group.task in board.tasks), frozenset[str]())
    return rate_plots(group, floors, {member.row.run_id: member.page for member in members})


def _member(row: Row, number: int, results: Results) -> GroupRun:
    """The run behind a row. Copies of a run (runs/ and results/) share its id: their samples are found in either."""
    same = [run for run in results.results if run.run_id == row.run_id and run.finished == row.finished]
    digest = hashlib.sha256(f"{number}/{row.run_id}/{row.label}".encode()).hexdigest()[:6]
    return GroupRun(
        row=row,
        run=same[0],
        facts=read_facts(same[0]),
        page=f"run-{slug(row.run_id)}-{digest}.html",
        folders=tuple(run.folder for run in same),
    )


def _navigation(boards: Sequence[_Board], trained: bool) -> list[dict[str, str]]:
    galleries = [{"href": board.gallery, "title": _gallery_title(board.group)} for board in boards if board.clips is not None]
    training = [{"href": "training.html", "title": "Training"}] if trained else []
    return [{"href": "index.html", "title": "Leaderboard"}, *galleries, *training]


def _group_title(group: Group) -> str:
    """A measured group's: that of its table, for a generation task the task's own."""
    if not words_of(group.task).generates:
        return group.title
    return f"{words_of(group.task).title} ({group.task}) on {group.split}, {group.num_clips} clips"


def _gallery_title(group: Group) -> str:
    words = words_of(group.task)
    task = f", {words.title.lower()}" if words.generates else ""
    return f"Gallery{task}: {group.split}, {group.num_clips} clips"


def _swap(new: Path, out: Path) -> None:
    """Put `new` where `out` is; the old one goes away last."""
    old = new.with_name("old")
    if out.exists():
        os.replace(out, old)
    os.replace(new, out)
