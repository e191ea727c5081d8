"""`avbench verify`: a row is made again from its kept bytes, within walls, and every number put beside the stored one.

    read what the run says it is          avbench/run/kept.py
    this machine has the same inputs?     split, metrics, checkpoint; then, from within the walls, the tokenizer itself
    the line again, from the kept bytes   avbench/run/evaluate.py, into a folder that is thrown away
    a few clips decoded alone, in another order: nothing but a clip's own bytes may tell its decoder which clip it is
    the same clips' batches encoded again: are the bytes what `encode` makes of them?
    signed in manifest.json, or the differences

Whatever is the tokenizer's runs in processes within walls (avbench/run/walls.py), never in this one: here are the reference clips, the
metrics and the result. What this proves, and what it cannot, is in docs/trust.md.
"""

import datetime
import getpass
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from avbench import __version__, registry
from avbench import world as distributed
from avbench.data import splits
from avbench.errors import AvbenchError
from avbench.files import atomic, disk_errors
from avbench.metric import MetricOptions
from avbench.paths import cache_root
from avbench.run import identity, manifest, payload, spotcheck, summary
from avbench.run.context import Context
from avbench.run.differences import Difference, of_results, of_rows
from avbench.run.evaluate import measure
from avbench.run.kept import Kept, read_kept
from avbench.run.metrics import Metrics, free_bytes
from avbench.run.seen import comes_with, own_files, seen, size_of
from avbench.run.store import RunStore
from avbench.run.walls import Standing, Walls
from avbench.run.worker import LOAD_TIMEOUT_S, TIMEOUT_S, Worker
from avbench.task import DecoderSpec
from avbench.types import RunSpec

SAME_CODES = 0.95  # of what an encoder makes again: another processor flips few of them, another encoder most


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What came of it: no differences, and `signed` is what manifest.json then says under "verified". remarks: for whoever reads it."""

    folder: Path
    differences: tuple[Difference, ...]
    num_clips: int
    num_metrics: int
    standing: Standing
    reencoded: spotcheck.Reencoded
    remarks: tuple[str, ...]
    signed: dict[str, Any] | None


def verify(
    folder: Path,
    *,
    reencode: int = 4,
    seed: int = 0,
    tokenizer: str | None = None,
    checkpoint: str | None = None,
    device: str | None = None,
    by: str | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = None,
    progress: bool = True,
) -> Verification:
    """Verify the run or submission in `folder`, and sign it, or take an earlier signature away.

    reencode: how many clips, at least, are decoded alone and encoded again; a sample by `seed`. tokenizer, checkpoint: where they are on
    this machine, if not where the run had them. device: None: the run's, or the CPU where there is no such one. by: who signs; None: the
    user's name. timeout_s: for decode or encode of a batch. memory_bytes: of a walled-in process; None: what is free.
    Raises UsageError and AvbenchError, before any compute where this machine has another tokenizer, checkpoint, split or metric.
    """
    kept = read_kept(folder)
    world = distributed.join()
    found = kept.spec.device if device is None else device
    target = distributed.pick_device("cpu" if device is None and found != "cpu" and not torch.cuda.is_available() else found, world)
    spec = replace(kept.spec, tokenizer=tokenizer or kept.spec.tokenizer, checkpoint=checkpoint or kept.spec.checkpoint)
    with tempfile.TemporaryDirectory(prefix="avbench-verify-") as temporary:
        context = _context(kept, spec, target, world, Path(temporary), timeout_s, progress)
        walls = _walls(context, kept, Path(temporary), memory_bytes)
        with closing(_worker(context, walls)) as worker:
            context = _same_tokenizer(context, kept, worker)
            assert worker.standing is not None
            store = _with_kept_tokens(kept, Path(temporary))
            differences = list(_formats(context, store))
            measure(context, store, range(0), worker)
        rows = [row for part in store.load() for row in part.rows]
        differences += of_rows(kept.rows, rows, context.metrics.infos)
        differences += of_results(kept.result, summary.summarise(context, store), context.metrics.infos)
        sample = spotcheck.sample(context, store, reencode, random.Random(seed))
        with closing(_worker(context, walls)) as other:
            differences += spotcheck.alone(context, other, sample, {row.id: row for row in rows})
            encoded = spotcheck.encoded(context, other, sample)
        twice = None
        if encoded != spotcheck.kept_of(sample):
            with closing(_worker(context, walls)) as third:
                twice = spotcheck.encoded(context, third, sample)
        reencoded = spotcheck.Reencoded.of(spotcheck.kept_of(sample), encoded, twice)
        remarks = (*_sizes(context, store), *([] if reencoded.byte_equal else [str(reencoded)]))
    if reencoded.same_codes < SAME_CODES:
        differences.append(Difference(what="encoded again", stored="the kept bytes", found=str(reencoded)))
    signed = None
    if not differences:
        signed = {
            "by": by or getpass.getuser(),
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "code": f"avbench {__version__}, commit {manifest.git_commit() or 'unknown'}",
            "device": target.type,
            "tolerance": {name: info.tolerance for name, info in context.metrics.infos.items()},
            "clips": len(rows),
            "reencoded": asdict(reencoded),
            "walls": worker.standing.facts(),
        }
    _sign(kept, signed)
    return Verification(
        folder=folder, differences=tuple(differences), num_clips=len(rows), num_metrics=len(context.metrics), standing=worker.standing,
        reencoded=reencoded, remarks=remarks, signed=signed,
    )  # fmt: skip


def _context(
    kept: Kept, spec: RunSpec, device: torch.device, world: distributed.World, temporary: Path, timeout_s: float, progress: bool
) -> Context:
    """Split and metrics of this machine. Raises AvbenchError that names what differs from the run's.

    Features of the reference clips are made anew: what a cache holds, an encoder may have written when this machine made the run.
    """
    names = tuple(value["name"] for value in kept.result["values"])
    known = registry.plugins("metric")
    if absent := [str(path) for path in own_files(spec) if not path.exists()]:
        raise AvbenchError(f"{', '.join(absent)} is not on this machine; --tokenizer and --checkpoint say where its files are here")
    if lacking := sorted(set(names) - set(known)):
        raise AvbenchError(f"{kept.folder} has values of metrics that are not installed here: {', '.join(lacking)}")
    if own := comes_with(spec, names):
        raise AvbenchError(
            f"{kept.folder} cannot be verified: {', '.join(own)} came with the tokenizer, and would run where it is measured"
        )
    split = splits.load(spec.split, limit=spec.limit, progress=progress)
    classes = frozenset(clip.label for clip in split.clips if clip.label)
    task = spotcheck.Remote(kept.info)
    metrics = Metrics(names, task, MetricOptions(device=device, cache=temporary / "reference-features", classes=classes))
    facts = identity.facts_of(
        spec, name=kept.info.name, revision=kept.info.revision, checksum=split.checksum, protocol=str(split.protocol),
        checkpoint=identity.content_of_checkpoint(spec), plugin=None,
    )  # fmt: skip
    told = kept.identity
    wrong = [
        *_other("split's checksum", told["split"].get("checksum"), split.checksum),
        *_other("split's protocol", told["split"].get("protocol"), str(split.protocol)),
        *_other("checkpoint's content", told["tokenizer"].get("checkpoint"), facts["tokenizer"]["checkpoint"]),
        *_other("version of the line", told["line"], identity.LINE_VERSION),
    ]
    for value in kept.result["values"]:
        if value["value"] is not None and value["name"] in metrics.unavailable:
            wrong.append(f"{value['name']} cannot be had: {metrics.unavailable[value['name']]}")
        elif value["value"] is not None:
            wrong += _other(f"{value['name']}'s key", value.get("key"), metrics.row_keys[value["name"]])
    _raise(kept, wrong)
    return Context(
        spec=replace(spec, metrics=names), device=device, world=world, task=task, split=split, metrics=metrics, facts=facts,
        timeout_s=timeout_s, progress=progress,
    )  # fmt: skip


def _same_tokenizer(context: Context, kept: Kept, worker: Worker) -> Context:
    """`context`, with what the tokenizer says of itself. Raises AvbenchError where it is not the run's, CannotLoad without one."""
    about, told = worker.about(), kept.identity["tokenizer"]
    wrong = _other("plugin's code", told.get("plugin"), about["code"])
    for stored in ({name: told.get(name) for name in ("name", "revision")}, kept.manifest["tokenizer"]):
        since = {"entropy_coded"} - stored.keys()  # a fact that older runs do not tell, nor have values that need it
        for name in sorted({*stored, *(about["info"] if len(stored) > 2 else stored)} - since):
            wrong += _other(f"tokenizer's {name}", stored.get(name), about["info"].get(name))
    _raise(kept, wrong)
    tokenizer = {**context.facts["tokenizer"], "plugin": about["code"]}
    return replace(context, facts={**context.facts, "tokenizer": tokenizer})


def _other(what: str, stored: Any, found: Any) -> list[str]:
    return [] if stored == found else [f"the {what} is {str(stored)[:80]} there, {str(found)[:80]} here"]


def _raise(kept: Kept, wrong: Sequence[str]) -> None:
    if wrong:
        raise AvbenchError(f"{kept.folder} cannot be verified here, its inputs are others: {'; '.join(wrong)}")


def _walls(context: Context, kept: Kept, temporary: Path, memory_bytes: int | None) -> Walls:
    around, limit, cpu = (
        seen(context.spec, context.split, kept.folder),
        memory_bytes or free_bytes(torch.device("cpu")),
        torch.get_num_threads(),
    )
    (temporary / "walls").mkdir()
    batches = -(-len(context.split.clips) // context.spec.batch_size)
    return Walls(
        root=temporary / "walls", visible=around.visible, hidden=around.hidden,
        memory_bytes=None if context.device.type == "cuda" else limit,
        cpu_s=int(max(cpu, 1) * (LOAD_TIMEOUT_S + context.timeout_s * batches)),
        variables={"AVBENCH_CACHE": str(cache_root()), "AVBENCH_OFFLINE": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def _worker(context: Context, walls: Walls) -> Worker:
    spec = context.spec
    args, protocol = dict(spec.tokenizer_args), context.split.protocol
    decoder = DecoderSpec(tokenizer=spec.tokenizer, checkpoint=spec.checkpoint, seed=spec.seed, protocol=protocol, args=args)
    return Worker(decoder, context.device, context.task.info.modalities, timeout_s=context.timeout_s, walls=walls)


def _with_kept_tokens(kept: Kept, temporary: Path) -> RunStore:
    """A run's folder that is thrown away, with links to the kept bytes."""
    store = RunStore(temporary / "again")
    store.tokens.mkdir()
    for path in kept.folder.glob("tokens/*.avt"):
        (store.tokens / path.name).symlink_to(path.resolve())
    return store


def _formats(context: Context, store: RunStore) -> Iterator[Difference]:
    """What a payload says of its streams tells a decoder something and counts no bits: it has to be the same for every clip."""
    agreed: bytes | None = None
    for index in _batches(context):
        for clip, data in store.load_tokens(index).items():
            try:
                found = payload.format_of(data)
            except AvbenchError as error:
                yield Difference(what="bytes", clip=clip, stored="a payload", found=str(error))
                continue
            agreed = agreed or found
            if found != agreed:
                yield Difference(what="streams, codebooks, vocabularies, duration", clip=clip, stored=found.decode(), found=agreed.decode())


def _batches(context: Context) -> range:
    return range(-(-len(context.split.clips) // context.spec.batch_size))


def _sizes(context: Context, store: RunStore) -> Iterator[str]:
    """How much a decoder knows beside the bytes: one that holds the clips is as large as they are."""
    payloads = sum(len(data) for index in _batches(context) for data in store.load_tokens(index).values())
    protocol, clips = context.split.protocol, len(context.split.clips)
    raw = clips * (3 * protocol.num_frames * protocol.resolution**2 + 2 * protocol.num_samples * protocol.channels)
    files = size_of(own_files(context.spec))
    yield (
        f"kept bytes {payloads:,} of {raw:,} in the clips; beside them its decoder has {files:,} bytes of its own files"
        f" and {context.task.info.parameters:,} parameters"
    )
    if files > 0.1 * raw and (protocol.resolution or not protocol.num_frames):
        yield "its files are large enough to hold these clips: ask for a row on a split that it cannot have seen"


def _sign(kept: Kept, signed: dict[str, Any] | None) -> None:
    """`signed` as "verified" of the manifest, which is otherwise as it was; None: no such word."""
    content = {key: value for key, value in kept.manifest.items() if key != "verified"} | ({"verified": signed} if signed else {})
    with disk_errors(kept.folder, "repeat the command"), atomic(kept.folder / "manifest.json", "w") as file:
        file.write(json.dumps(content, indent=1) + "\n")
