"""Your own rows beside the published ones, which come with avbench: of the same splits, and at `--limit N` over the same clips."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from avbench.board.results import DERIVED, PUBLISHED, Results, RunResult, collect, with_derived
from avbench.data.arcade import pinned
from avbench.errors import AvbenchError
from avbench.types import MetricValue

if TYPE_CHECKING:
    from avbench.board.clips import RunClips

RUNS = Path("runs")
COSTS = ("encode_rtf", "decode_rtf", "parameters", "peak_memory_mb")  # of the whole run, whatever its clips


def gather(runs_dir: Path | None, results: Path | None, *, published: bool = True, split: str | None = None) -> Results:
    """What `avbench table` and `report` show.

    runs_dir: of your own runs; None: `runs`, but nothing where `results` is given. results: a results folder, shown whole. published:
    whether the rows that come with avbench stand beside your runs: of their splits, or all where you have none or ask for a `split`.
    """
    folders = [folder for folder in (runs_dir or (None if results else RUNS), results) if folder is not None]
    own = collect(*folders)
    if results is not None or not published:
        return own
    others = collect(PUBLISHED).results
    shown = {(run.split, run.task) for run in own.results}
    if shown and split is None:
        others = tuple(run for run in others if (run.split, run.task) in shown)
    return replace(own, results=(*own.results, *others, *_on_fewer_clips(own.results, others)))


def _on_fewer_clips(own: tuple[RunResult, ...], others: tuple[RunResult, ...]) -> Iterator[RunResult]:
    """Published rows over the clips of each of your groups that has fewer of them."""
    groups = {(run.split, run.task, run.protocol, run.checksum): run for run in own}
    there = {(run.split, run.task, run.protocol, run.checksum) for run in others}
    for key, mine in groups.items():
        like = [run for run in others if (run.split, run.task, run.protocol) == key[:3] and _has_clips_of(mine, run)]
        if key not in there and like:
            yield from _over_clips_of(mine, like)


def _has_clips_of(mine: RunResult, other: RunResult) -> bool:
    """Whether `mine` is of clips of `other`, as far as the split tells: where every machine has the same, its checksums say so."""
    split = pinned(mine.split)
    pairs = ((mine.checksum, mine.num_clips), (other.checksum, other.num_clips))
    return mine.num_clips < other.num_clips and (split is None or all(checksum == split.checksum(count) for checksum, count in pairs))


def _over_clips_of(mine: RunResult, others: list[RunResult]) -> Iterator[RunResult]:
    from avbench.board.clips import RunClips
    from avbench.run.finished import read_clips

    try:
        wanted = [row["id"] for row in read_clips(mine.folder)]
    except AvbenchError:
        return
    for run in others:
        clips = RunClips.read(run.folder)
        if wanted and all(clip in clips.position for clip in wanted):
            yield over_clips(run, clips, wanted, mine)


def over_clips(run: RunResult, clips: "RunClips", ids: list[str], like: RunResult) -> RunResult:
    """`run` as if it had been evaluated on the clips `ids` alone, in the group of `like`."""
    from avbench.board.recompute import recompute

    values: dict[str, MetricValue] = {}
    for name, value in run.values.items():
        if value.value is None or name in DERIVED:
            values |= {} if name in DERIVED else {name: value}
        elif name in COSTS:
            values[name] = replace(value, num_clips=value.num_clips and len(ids))
        else:
            values[name] = recompute(name, clips, ids, seed=run.seed, protocol=value.protocol)
    remark = f"published row, over these {len(ids)} of its {run.num_clips} clips"
    return replace(
        run, values=with_derived(values), checksum=like.checksum, num_clips=len(ids), num_ok=len(ids), num_failed=0, remark=remark
    )  # fmt: skip
