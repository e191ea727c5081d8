"""The gallery of a group of runs: which clips are shown, with which media, and each clip's metrics under each tokenizer.

A clip has one card or two of its own (facts.py: the reference; or the condition and the real clip) and one for each run.

Shown are the clips that some run has a sample of, and each run's worst and best by every metric: those are found over all clips,
whether or not their media were saved. The page gets the numbers of shown clips only, so that it stays light.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avbench.board.columns import Column
from avbench.board.results import MAX_NAME, MAX_TEXT, RunResult, clean
from avbench.board.table import Group, Row
from avbench.report.facts import RunFacts, kind_of, shown_of, words_of
from avbench.run.finished import is_number, read_clips
from avbench.run.samples import has_sample, sample_name
from avbench.task import Card

EXTREMES = 5  # worst and best clips of a run by a metric
MAX_CLIPS = 1_500  # a page of 10 runs and 10 metrics then has about 1 MB of numbers
MAX_CLIP_NAME = 200
MAX_MEDIA_BYTES = 2**28  # of one file; four seconds have 0.2 MB
KINDS = {"video": ("mp4", "jpg"), "audio": ("flac", "png")}


@dataclass(frozen=True, kw_only=True)
class GroupRun:
    """A row of a group with its run. folders: every folder that holds this very run (runs/ and results/)."""

    row: Row
    run: RunResult
    facts: RunFacts
    page: str
    folders: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """data: what the page's script reads, JSON values only. media: (file, where it goes below the site's folder).

    ranked: for each run, whether some metric tells its clips apart as worse and better.
    """

    data: dict[str, Any]
    media: tuple[tuple[Path, str], ...]
    remarks: tuple[str, ...]
    num_clips: int
    num_sampled: int
    ranked: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """A run's clips by id, and the folder of its samples if it has one. shows: modalities of its samples that are its own work."""

    member: GroupRun
    rows: dict[str, dict[str, Any]]
    samples: Path | None
    shows: frozenset[str]
    remark: str = ""

    def value(self, clip: str, metric: str) -> float | None:
        """The clip's number, None where it has none."""
        value = self.rows.get(clip, {"metrics": {}})["metrics"].get(metric)
        return float(value) if is_number(value) else None

    def sampled(self, clip: str) -> bool:
        """Whether its media were saved."""
        return self.samples is not None and has_sample(self.samples, clip) and not (self.samples / sample_name(clip)).is_symlink()


def build(group: Group, members: Sequence[GroupRun], folder: str) -> Gallery:
    """The gallery of `group`; `folder`: where its media go, relative to the site."""
    task = words_of(group.task)
    read = [_read(member, group.task) for member in members]
    clips = list(dict.fromkeys(clip for rows in read for clip in rows.rows))
    columns = [column for column in group.columns if any(rows.value(clip, column.metric) is not None for rows in read for clip in clips)]
    sampled = [clip for clip in clips if any(rows.sampled(clip) for rows in read)]
    extremes = {(i, column.metric): _extremes(rows, column) for i, rows in enumerate(read) for column in columns}
    wanted = {*sampled[:MAX_CLIPS], *(clip for pair in extremes.values() for side in pair for clip in side)}
    shown = [clip for clip in clips if clip in wanted]
    number = {clip: i for i, clip in enumerate(shown)}
    return Gallery(
        data={
            "folder": folder,
            "cards": [_card(card) for card in task.cards],
            "shows": {"picture": "video" in task.shows, "sound": "audio" in task.shows},
            "metrics": [_metric(column) for column in columns],
            "runs": [_run(rows, group) for rows in read],
            "clips": [_clip(clip, read, columns) for clip in shown],
            "extremes": [
                [[[number[clip] for clip in side] for side in extremes[(i, column.metric)]] for column in columns] for i in range(len(read))
            ],
        },
        media=tuple(_media(shown, read, folder)),
        remarks=tuple(_remarks(read, sampled)),
        num_clips=len(clips),
        num_sampled=len(sampled),
        ranked=tuple(any(extremes[(i, column.metric)][0] for column in columns) for i in range(len(read))),
    )


def _read(member: GroupRun, task: str) -> _Rows:
    shows = shown_of(task, member.row.kind, member.facts.modalities)
    try:
        found = [path / "samples" for path in member.folders if (path / "samples").is_dir()]
        own = [path for path in found if not path.is_symlink()]  # a link may lead to anything of this machine, and a site is given away
        remark = "its samples folder is a link, which is not followed" if len(own) < len(found) else ""
        rows = {row["id"]: row for row in read_clips(member.run.folder)}
    except Exception as error:  # a run may come from anybody: whatever is wrong with one, the others are shown
        return _Rows(member=member, rows={}, samples=None, shows=shows, remark=f"no clips to show. {clean(str(error), MAX_TEXT)}")
    return _Rows(member=member, rows=rows, samples=own[0] if own else None, shows=shows, remark=remark)


def _extremes(rows: _Rows, column: Column) -> tuple[list[str], list[str]]:
    """Ids of the run's worst and best clips, the most extreme first; none where less or more is no better."""
    if column.higher_is_better is None:
        return [], []
    values = {clip: value for clip in rows.rows if (value := rows.value(clip, column.metric)) is not None}
    upwards = sorted(values, key=lambda clip: values[clip])
    worst_first = upwards if column.higher_is_better else upwards[::-1]
    return worst_first[:EXTREMES], worst_first[::-1][:EXTREMES]


def _metric(column: Column) -> dict[str, Any]:
    return {"title": column.title, "unit": column.unit, "up": column.higher_is_better, "decimals": column.decimals, "scale": column.scale}


def _run(rows: _Rows, group: Group) -> dict[str, Any]:
    member = rows.member
    return {
        "label": member.row.label,
        "kind": kind_of(group.task, member.row.kind, member.row.label),
        "page": member.page,
        "command": member.facts.sample_command(group.num_clips or 8),
    }


def _card(card: Card) -> dict[str, Any]:
    return {"key": card.key, "title": card.title, "picture": "video" in card.shows, "sound": "audio" in card.shows, "says": card.says}


def _clip(clip: str, read: Sequence[_Rows], columns: Sequence[Column]) -> dict[str, Any]:
    label = next((rows.rows[clip].get("label") for rows in read if clip in rows.rows), None)
    return {
        "name": clean(clip, MAX_CLIP_NAME),
        "label": clean(str(label), MAX_NAME) if label else "",
        "reference": any(rows.sampled(clip) for rows in read),
        "runs": [_cell(rows, clip, columns) for rows in read],
    }


def _cell(rows: _Rows, clip: str, columns: Sequence[Column]) -> dict[str, Any]:
    row = rows.rows.get(clip)
    if row is None:
        return {"state": "absent"}
    if row["status"] == "failed":
        return {"state": "failed", "reason": clean(str(row.get("reason") or "no reason given"), MAX_TEXT)}
    numbers = [rows.value(clip, column.metric) for column in columns]
    short = [None if number is None else float(f"{number:.5g}") for number in numbers]
    if rows.samples is None or not rows.sampled(clip):
        return {"state": "numbers", "values": short}
    files = rows.samples / sample_name(clip)
    picture, sound = (name in rows.shows and (files / f"recon.{KINDS[name][0]}").is_file() for name in ("video", "audio"))
    return {"state": "media", "values": short, "picture": picture, "sound": sound}


def _media(shown: Sequence[str], read: Sequence[_Rows], folder: str) -> Iterator[tuple[Path, str]]:
    """The files of the clips shown: the reference once, from the first run that has it."""
    for number, clip in enumerate(shown):
        owners = [
            (str(i), rows.samples / sample_name(clip), rows.shows)
            for i, rows in enumerate(read)
            if rows.samples is not None and rows.sampled(clip)
        ]
        sources = [("reference", path / "reference", frozenset(KINDS)) for _, path, _ in owners[:1]]
        sources += [(name, path / "recon", shows) for name, path, shows in owners]
        for name, source, shows in sources:
            for kind in (kind for modality in sorted(shows) for kind in KINDS[modality]):
                file = source.with_suffix(f".{kind}")
                if file.is_file() and not file.is_symlink() and file.stat().st_size <= MAX_MEDIA_BYTES:
                    yield file, f"{folder}/{number}/{name}.{kind}"


def _remarks(read: Sequence[_Rows], sampled: Sequence[str]) -> Iterator[str]:
    for rows in read:
        if rows.remark:
            yield f"{rows.member.row.label}: {rows.remark}"
    if len(sampled) > MAX_CLIPS:
        yield f"{len(sampled)} clips have samples; the first {MAX_CLIPS} of them are shown, and each tokenizer's worst and best"
