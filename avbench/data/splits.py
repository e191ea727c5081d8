"""Named splits: `load` prepares what is missing, `batches` reads, `verify` compares with the checksums."""

import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from avbench.data import lists, shards, workers
from avbench.data.batches import Batch, Split, batches, read_batch
from avbench.data.files import PROTOCOL
from avbench.data.folder import folder_source
from avbench.data.source import Source, checksum_of
from avbench.errors import AvbenchError, UsageError, unknown_name
from avbench.protocol import Protocol, parse
from avbench.registry import plugins
from avbench.types import ClipFailure, ClipRef

__all__ = ["Batch", "Split", "batches", "load", "prepare", "read_batch", "verify"]


def load(name: str, *, limit: int | None = None, progress: bool = True) -> Split:
    """The split called `name`, or its first `limit` clips; clips that are not prepared yet are, under a progress bar on stderr.

    Raises UsageError for an unknown name, AvbenchError where its data are missing or the disk is full.
    """
    return prepare(name, limit=limit, progress=progress)


def prepare(name: str, *, limit: int | None = None, jobs: int | None = None, progress: bool = True) -> Split:
    """Make whatever of the split is not prepared, on `jobs` processes (default: one a core). Resumes what was stopped or killed.

    A clip that fails is noted with its reason and tried again next time; it never stops the others.
    """
    return prepare_source(find(name), limit=limit, jobs=jobs, progress=progress)


def prepared(name: str) -> Split | None:
    """The split called `name` if every clip of it is prepared; None otherwise, and nothing is made."""
    source = find(name)
    count, entries = len(source.clips), shards.read_index(source.root)
    missing = _missing(source, [source.stamp(index) for index in range(count)], entries)
    return None if missing else _split(source, count, entries)


def prepare_source(source: Source, *, limit: int | None = None, jobs: int | None = None, progress: bool = True) -> Split:
    """`prepare` for clips that have no name among the splits."""
    count = _count(source, limit)
    stamps = [source.stamp(index) for index in range(count)]  # once: each is a look at a file, and there may be 100,000
    entries = shards.read_index(source.root)
    missing = _missing(source, stamps, entries)
    if missing:
        try:
            with shards.lock(source.root):
                entries = shards.read_index(source.root)
                _make(source, _missing(source, stamps, entries), stamps, entries, jobs or workers.available_cores(), progress)
            entries = shards.read_index(source.root)
        except shards.Unwritable as error:
            if not _all_failed(source, missing, stamps, entries):
                raise
            print(f"{len(missing)} clips failed before and are not tried again: {error}", file=sys.stderr)
    return _split(source, count, entries)


def _all_failed(source: Source, missing: Sequence[int], stamps: Sequence[str], entries: dict[str, shards.Entry]) -> bool:
    """Whether all those clips are known to fail as they are now."""
    known = (entries.get(source.clips[index].id) for index in missing)
    return all(entry is not None and entry.stamp == stamps[index] for entry, index in zip(known, missing, strict=True))


def verify(name: str, *, limit: int | None = None, progress: bool = True) -> list[ClipFailure]:
    """Clips that are not prepared, that failed, or whose bytes differ from their checksum.

    A clip that differs is forgotten: the next `prepare` makes it anew. A pinned split's clips are pinned when they are made.
    """
    source = find(name)
    count = _count(source, limit)
    entries = shards.read_index(source.root)
    problems = []
    with _bar(f"verifying {source.name}", count, progress) as bar:
        for index in range(count):
            reason = _problem(source, index, entries)
            if reason:
                problems.append(ClipFailure(id=source.clips[index].id, label=source.clips[index].label, reason=reason))
            bar.advance(bar.task_ids[0])
    return problems


def find(name: str) -> Source:
    """The source of a named split, at the protocol after its "?". Raises UsageError for an unknown name or protocol."""
    name, asked = _asked(name)
    if name.startswith("folder:"):
        return folder_source(name, asked or PROTOCOL)
    name, _, listed = name.partition("@")
    known = plugins("split")
    if name not in known and Path(name).expanduser().is_dir():
        raise UsageError(f"{name} is a folder; as a split it is called folder:{name}")
    if name not in known:
        raise unknown_name("split", name, [*known, "folder:PATH"])
    source = known[name].load()()
    if not isinstance(source, Source):
        raise AvbenchError(f"split {name} of distribution {known[name].distribution} is no avbench.data.source.Source: that page says more")
    if listed:
        source = lists.cut_down(source, name, listed)
    return source.at(asked) if asked is not None else source


def protocol_of(name: str) -> Protocol:
    """What clips of a named split are, without a look at its files where its name says it."""
    base, asked = _asked(name)
    if asked is not None:
        return asked
    return PROTOCOL if base.startswith("folder:") else find(base).protocol


def _asked(name: str) -> tuple[str, Protocol | None]:
    """The name and the protocol of `name?key=value&...`. A folder whose own name has a "?" is that folder."""
    base, mark, query = name.rpartition("?")
    if not mark or Path(name.removeprefix("folder:")).expanduser().is_dir():
        return name, None
    return base, parse(query)


def _count(source: Source, limit: int | None) -> int:
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: must be at least 1")
    return len(source.clips) if limit is None else min(limit, len(source.clips))


def _missing(source: Source, stamps: Sequence[str], entries: dict[str, shards.Entry]) -> list[int]:
    """Clips that are not prepared, in order; failed ones too."""
    return [index for index, stamp in enumerate(stamps) if not _is_prepared(entries.get(source.clips[index].id), stamp)]


def _is_prepared(entry: shards.Entry | None, stamp: str) -> bool:
    return entry is not None and entry.row is not None and entry.stamp == stamp


def _make(
    source: Source, missing: Sequence[int], stamps: Sequence[str], entries: dict[str, shards.Entry], jobs: int, progress: bool
) -> None:
    """Under the lock of the source's root. stamps: from before, so that a file that changes meanwhile is made anew next time."""
    if not missing:
        return
    making = source.make(missing, jobs)
    try:
        with shards.Writer(source.root, source.protocol) as writer, _bar(f"preparing {source.name}", len(missing), progress) as bar:
            for made in making:
                clip, stamp = source.clips[made.index], stamps[made.index]
                if made.failure is None:
                    writer.add(clip.id, stamp, made.pin, made.video, made.audio, shape=made.shape)
                elif entries.get(clip.id) != shards.Entry(id=clip.id, stamp=stamp, pin=made.pin, failure=made.failure):
                    writer.fail(clip.id, stamp, made.pin, made.failure)
                bar.advance(bar.task_ids[0])
    except OSError as error:
        raise shards.cannot_write(source.root, error) from error
    finally:
        if isinstance(making, Generator):
            making.close()  # ends its worker processes now, whatever holds on to the traceback


def _split(source: Source, count: int, known: dict[str, shards.Entry]) -> Split:
    clips = source.clips[:count]
    made = tuple(known[clip.id] for clip in clips)
    entries = tuple(_as_expected(entry, source.expected(index)) for index, entry in enumerate(made))
    return Split(
        name=source.name, clips=clips, protocol=source.protocol, checksum=_checksum(source, clips, made),
        num_official=source.num_official, note=source.note, train_split=source.train_split, root=source.root, entries=entries,
    )  # fmt: skip


def _as_expected(entry: shards.Entry, wanted: str) -> shards.Entry:
    """A failed clip where it was made from something else than it must have been."""
    if not wanted or not entry.pin or entry.pin == wanted:
        return entry
    reason = f"is another file than the list's (sha256 {entry.pin[:12]}..., not {wanted[:12]}...)"
    return replace(entry, row=None, failure=reason)


def _checksum(source: Source, clips: Sequence[ClipRef], entries: Sequence[shards.Entry]) -> str:
    return checksum_of(source.protocol, source.decoder, clips, [entry.pin for entry in entries])


def _problem(source: Source, index: int, entries: dict[str, shards.Entry]) -> str | None:
    entry = entries.get(source.clips[index].id)
    if entry is None or entry.stamp != source.stamp(index):
        return f"not prepared; avbench data prepare {source.name}"
    if entry.row is None:
        return entry.failure
    arrays = next(shards.read_rows(source.root, [entry.row], source.protocol))
    if arrays is not None and shards.is_intact(entry, *arrays):
        return None
    reason = "prepared bytes differ from their checksum; prepare the split again to make the clip anew"
    try:
        with shards.lock(source.root), shards.Writer(source.root, source.protocol) as writer:
            writer.fail(entry.id, entry.stamp, entry.pin, reason)
    except (shards.Unwritable, OSError):
        return f"{reason} (by somebody who can write to {source.root})"
    return reason


def _bar(title: str, total: int, shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=not (shown and total))
    bar.add_task(title, total=total)
    return bar
