"""One evaluation as a straight line: clips are encoded, their bytes kept, decoded elsewhere, measured, and the result saved."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from avbench import registry
from avbench import world as distributed
from avbench.data import splits
from avbench.errors import AvbenchError, UsageError
from avbench.metric import MetricOptions
from avbench.paths import cache_root
from avbench.run import identity, manifest, payload, summary
from avbench.run.conform import check_info
from avbench.run.context import Context
from avbench.run.finished import Run
from avbench.run.measure import measure_batch
from avbench.run.metrics import Metrics
from avbench.run.passage import Encoded, Reconstruction, decode, encode, total
from avbench.run.samples import has_sample
from avbench.run.sets import metrics_of
from avbench.run.store import RunStore
from avbench.run.worker import TIMEOUT_S, Decoder, InProcess, Worker
from avbench.task import Task
from avbench.types import ClipBatch, ClipFailure, RunSpec


def evaluate(
    spec: RunSpec,
    *,
    task: Task | None = None,
    runs_dir: Path = Path("runs"),
    fresh: bool = False,
    save_samples: int = 0,
    isolate: bool = True,
    timeout_s: float = TIMEOUT_S,
    metrics_memory: int | None = None,
    progress: bool = True,
    retry_failed: bool = True,
    alone: bool = False,
) -> Run:
    """Evaluate `spec`, resuming what `runs_dir` holds of it. Raises AvbenchError; a clip that fails is a row, not an error.

    task: not loaded yet; None: the one that `spec.task` names. isolate: decode in another interpreter. Without it a tokenizer may hand
    its decoder more than bytes: for measuring the cost; the manifest says so. A task without a `decoder` decodes here in any case.
    timeout_s: for encode or decode of a batch. metrics_memory: bytes that metrics' networks may take at once, or the largest of
    them; None: half of what is free. progress: bars on stderr. retry_failed: try clips that failed in an earlier call again. alone: wait
    for no other process, though torchrun started several: in a training job's first one.
    """
    spec = _checked(spec)
    world = distributed.alone() if alone else distributed.join()
    device = distributed.pick_device(spec.device, world)
    with ExitStack() as stack:
        with world.main_first():  # it prepares clips and fetches weights; the others find them
            task = _load_task(spec, device, task)
            decoder = stack.enter_context(closing(_decoder(task, device, isolate, timeout_s)))  # a worker loads meanwhile
            rest = _load_rest(spec, task, world, device, metrics_memory, progress=progress)
            context = replace(rest, timeout_s=timeout_s, progress=progress, retry_failed=retry_failed)
        store = RunStore(runs_dir / context.run_id)
        if world.is_main:
            stack.enter_context(store.lock())
        with world.main_first():
            plan = _begin(context, store, fresh, save_samples, isolated=isinstance(decoder, Worker)) if world.is_main else _Plan()
        measure(context, store, plan.samples, decoder)
        world.wait()
        with world.main_first():
            if world.is_main and not plan.reused:
                _finish(context, store, plan)
    return Run.read(store.folder, is_main=world.is_main, reused=plan.reused)


def load(spec: RunSpec) -> Context:
    """Task, split and metrics of `spec`; whatever cannot be had is known before any compute."""
    spec = _checked(spec)
    world = distributed.join()
    device = distributed.pick_device(spec.device, world)
    with world.main_first():
        return _load_rest(spec, _load_task(spec, device), world, device)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What there is to do beside the metrics: clips whose samples are wanted. reused: nothing, `earlier` is the result."""

    samples: range = range(0)
    earlier: dict[str, Any] | None = None
    reused: bool = False


def _begin(context: Context, store: RunStore, fresh: bool, save_samples: int, *, isolated: bool) -> _Plan:
    """The run's folder made ready."""
    if fresh:
        store.clear()
    if save_samples:
        (store.folder / "samples").mkdir(exist_ok=True)
    samples = range(min(save_samples, len(context.split.clips)))
    earlier = store.read_result()
    left = _wanted(context, store, frozenset(context.metrics), samples)
    reused = earlier is not None and not left and summary.holds(earlier, context)
    if not reused:
        store.write_json("manifest.json", {**describe(context), "isolated": isolated})
        store.write_clips()
    return _Plan(samples=samples, earlier=earlier, reused=reused)


def _finish(context: Context, store: RunStore, plan: _Plan) -> None:
    """The result of all rows, on disk."""
    store.write_clips()
    store.write_json("result.json", summary.summarise(context, store, plan.earlier))


def _load_task(spec: RunSpec, device: torch.device, task: Task | None = None) -> Task:
    task = registry.load_task(spec.task) if task is None else task
    with task.switches():
        task.load(spec, device)
    check_info(task.info)
    return task


def _decoder(task: Task, device: torch.device, isolate: bool, timeout_s: float) -> Decoder:
    if task.decoder is None or not isolate:
        return InProcess(task, device)
    return Worker(task.decoder, device, task.info.modalities, timeout_s=timeout_s)


def _load_rest(
    spec: RunSpec, task: Task, world: distributed.World, device: torch.device, metrics_memory: int | None = None, *, progress: bool = True
) -> Context:
    split = splits.load(spec.split, limit=spec.limit, progress=progress and world.is_main)
    if not split.clips:
        raise AvbenchError(f"split {spec.split} has no clips. {split.note}")
    with task.switches():
        task.begin(split)
        split = task.clips(split)
    _check_modalities(task, split)
    cache = cache_root() / "reference-features" / split.checksum[:16]
    options = MetricOptions(device=device, cache=cache, classes=frozenset(clip.label for clip in split.clips if clip.label))
    metrics = Metrics(spec.metrics or registry.default_metrics(spec.task), task, options, limit=metrics_memory)
    spec = replace(spec, device=device.type, split=split.name)
    facts = identity.facts_of(
        spec, name=task.info.name, revision=task.info.revision, checksum=split.checksum, protocol=str(split.protocol),
        checkpoint=identity.content_of_checkpoint(spec),
        plugin=identity.code_of_tokenizer(spec.tokenizer) if task.code is None else task.code,
    )  # fmt: skip
    return Context(spec=spec, device=device, world=world, task=task, split=split, metrics=metrics, facts=facts)


def _check_modalities(task: Task, split: splits.Split) -> None:
    lacking = task.info.modalities - split.protocol.modalities
    if lacking:
        makes = " and ".join(sorted(task.info.modalities))
        raise UsageError(f"{task.info.name} makes {makes}; clips of {split.name} have no {' and no '.join(sorted(lacking))}")


def _checked(spec: RunSpec) -> RunSpec:
    """`spec` with its metrics by name. Misspelt ones are found before clips are prepared or weights fetched."""
    if spec.batch_size < 1 or (spec.limit is not None and spec.limit < 1):
        raise UsageError("--batch-size and --limit must be at least 1")
    return replace(spec, metrics=metrics_of(spec.metrics, spec.task))


def describe(context: Context) -> dict[str, Any]:
    """manifest.json: what made the numbers."""
    info = context.task.info
    return {
        "spec": context.spec.facts(),
        "tokenizer": info.facts(),
        "split": summary.split_facts(context.split),
        "metrics": {name: info.protocol for name, info in context.metrics.infos.items()},
        "unavailable": context.metrics.unavailable,
        "metric_keys": context.metrics.row_keys,
        "identity": context.facts,
        "git_commit": manifest.git_commit(),
        "versions": manifest.versions(),
        "hardware": manifest.hardware(context.device),
        "processes": context.world.size,
        "command": f"avbench {' '.join(sys.argv[1:])}",
    }


def _wanted(context: Context, store: RunStore, names: frozenset[str], samples: range) -> dict[int, frozenset[str]]:
    """What is left to do: batch -> those of `names` that have no rows, or all where a clip failed; none where only samples are missing."""
    size, keys = context.spec.batch_size, {name: context.metrics.row_keys[name] for name in names}
    left = dict.fromkeys(range(-(-len(context.split.clips) // size)), names)
    for part in store.load():
        if not (part.failed and context.retry_failed):
            left[part.index] = frozenset(name for name, key in keys.items() if part.measured.get(name) != key)
    shown = {clip // size for clip in samples if not has_sample(store.folder / "samples", context.split.clips[clip].id)}
    return {index: lacking for index, lacking in left.items() if lacking or index in shown}


def measure(context: Context, store: RunStore, samples: range, decoder: Decoder) -> None:
    """This process's share of what is left to do, one turn of metrics after another."""
    size = context.spec.batch_size
    ids = {context.split.clips[clip].id for clip in samples}
    for names in context.metrics.turns:
        left = _wanted(context, store, names, samples)
        # The first process makes the samples of everybody's batches.
        mine = {*context.world.mine(left), *(index for index in left if context.world.is_main and index * size < len(samples))}
        for batch, waited in _tracked(context, sorted(mine)):
            for clips in _pass(context, store, batch, waited, decoder, left[batch.index]):
                _save_samples(context.task, store, clips, ids)


def seed_of(spec: RunSpec, batch: int) -> int:
    """What torch's generators are seeded with before a batch is encoded, and before it is decoded."""
    return spec.seed * 1_000_003 + batch


def _pass(
    context: Context, store: RunStore, batch: splits.Batch, waited: float, decoder: Decoder, names: frozenset[str]
) -> list[Reconstruction]:
    """One batch along the line: clips -> bytes (kept) -> clips -> rows of the metrics `names` (kept). Its reconstructions."""
    started = time.perf_counter()
    size, seed = context.spec.batch_size, seed_of(context.spec, batch.index)
    failures = list(batch.failures)
    reconstructions: list[Reconstruction] = []
    seconds: dict[str, float] = {}
    if batch.clips is not None:
        payloads, encoded = _bytes_of(context, store, batch.index, batch.clips, seed)
        failures += encoded.failures
        whole = [number for number, clip_id in enumerate(batch.clips.ids) if clip_id in payloads]
        if whole:
            reference = batch.clips.select(whole).to(context.device)
            reconstructions, failed = decode(context.task, decoder, reference, [payloads[clip_id] for clip_id in reference.ids], seed)
            failures += failed
        seconds = total([encoded.seconds, *(clips.seconds for clips in reconstructions)])
    if names:
        metrics = {name: context.metrics[name] for name in context.metrics if name in names}
        ids = [clip.id for clip in context.split.clips[batch.index * size : (batch.index + 1) * size]]
        result = measure_batch(metrics, reconstructions, failures, index=batch.index, ids=ids, device=context.device)
        seconds |= {**result.seconds, "read": waited, "total": time.perf_counter() - started + waited}
        store.save(replace(result, seconds=seconds, measured={name: context.metrics.row_keys[name] for name in metrics}))
    return reconstructions


def _bytes_of(context: Context, store: RunStore, index: int, clips: ClipBatch, seed: int) -> tuple[dict[str, bytes], Encoded]:
    """The kept bytes of a batch's clips; those that have none are encoded now, and kept."""
    payloads = store.load_tokens(index)
    lacking = [number for number, clip_id in enumerate(clips.ids) if clip_id not in payloads]
    if not lacking:
        return payloads, Encoded()
    torch.manual_seed(seed)
    encoded = encode(context.task, clips.select(lacking).to(context.device), context.timeout_s)
    encoded = _of_one_format(store, encoded)
    payloads = {clip_id: data for clip_id, data in (payloads | encoded.payloads).items() if clip_id in clips.ids}
    store.save_tokens(index, payloads)
    return payloads, encoded


def _of_one_format(store: RunStore, encoded: Encoded) -> Encoded:
    """Without the clips whose streams are not the run's: what differs from clip to clip would reach the decoder and count nowhere."""
    agreed = next((store.agreed_format(payload.format_of(data)) for data in encoded.payloads.values()), b"")
    odd = [clip_id for clip_id, data in encoded.payloads.items() if payload.format_of(data) != agreed]
    reason = "encode failed: streams, codebooks, vocab sizes or fixed lengths are not those of the run's first clip"
    return replace(
        encoded,
        payloads={clip_id: data for clip_id, data in encoded.payloads.items() if clip_id not in odd},
        failures=(*encoded.failures, *(ClipFailure(id=clip_id, label=None, reason=reason) for clip_id in odd)),
    )


def _save_samples(task: Task, store: RunStore, clips: Reconstruction, ids: set[str]) -> None:
    for index, clip_id in enumerate(clips.reference.ids):
        if clip_id in ids:
            task.write_sample(store.folder / "samples", clips.reference.select([index]), clips.recon.select([index]))


def _tracked(context: Context, wanted: Sequence[int]) -> Iterator[tuple[splits.Batch, float]]:
    """The wanted batches, and the seconds that each was waited for, under a progress bar on stderr."""
    size = context.spec.batch_size
    total = sum(min(size, len(context.split.clips) - k * size) for k in wanted)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (total and context.world.is_main and context.progress)) as progress:
        task = progress.add_task(f"{context.spec.tokenizer} on {context.spec.split}", total=total)
        asked = time.perf_counter()
        for batch in splits.batches(context.split, size, wanted):
            yield batch, time.perf_counter() - asked
            progress.advance(task, min(size, len(context.split.clips) - batch.index * size))
            asked = time.perf_counter()
