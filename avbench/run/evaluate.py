"""One evaluation as a straight line: clips are encoded, their bytes kept, decoded elsewhere, measured, and the result saved."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
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
from avbench.metric import Metric, MetricOptions, MetricUnavailable
from avbench.paths import cache_root
from avbench.run import identity, manifest, payload, summary
from avbench.run.conform import check_info
from avbench.run.context import Context
from avbench.run.measure import measure_batch
from avbench.run.passage import Encoded, Reconstruction, decode, encode, total
from avbench.run.samples import has_sample
from avbench.run.store import RunStore
from avbench.run.worker import TIMEOUT_S, Decoder, InProcess, Worker
from avbench.switches import fixed
from avbench.task import Task
from avbench.types import ClipBatch, ClipFailure, RunSpec


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: its folder and the content of its result.json."""

    folder: Path
    result: dict[str, Any]
    is_main: bool = True  # False in the processes that only help (torchrun)
    reused: bool = False  # everything that was asked for was there already

    @property
    def num_failed(self) -> int:
        """Clips that could not be evaluated."""
        return int(self.result["num_failed"])


def evaluate(
    spec: RunSpec,
    *,
    runs_dir: Path = Path("runs"),
    fresh: bool = False,
    save_samples: int = 0,
    isolate: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> Run:
    """Evaluate `spec`, resuming what `runs_dir` holds of it. Raises AvbenchError; a clip that fails is a row, not an error.

    isolate: decode in another interpreter. Without it a tokenizer may hand its decoder more than bytes: for measuring the cost, and for
    objects that another process cannot load; the manifest says so. timeout_s: for encode, decode or a metric of a batch.
    """
    task, world, device = _load_task(spec)
    decoder = _decoder(task, device, isolate, timeout_s)  # a worker loads while this process loads the rest
    try:
        context = replace(_load_rest(spec, task, world, device), timeout_s=timeout_s)
        store = RunStore(runs_dir / context.run_id)
        return _main(context, store, decoder, fresh, save_samples) if world.is_main else _assist(context, store, decoder)
    finally:
        decoder.close()


def _main(context: Context, store: RunStore, decoder: Decoder, fresh: bool, save_samples: int) -> Run:
    """The part of the first process."""
    with store.lock():
        if fresh:
            store.clear()
        samples = _with_samples(context, store, save_samples)
        earlier = store.read_result()
        reused = earlier is not None and not _wanted(context, store, samples) and summary.holds(earlier, context)
        if not reused:
            store.write_json("manifest.json", {**describe(context), "isolated": isinstance(decoder, Worker)})
            store.write_clips()
        context.world.wait()
        _measure(context, store, samples, decoder)
        context.world.wait()
        if earlier is None or not reused:
            store.write_clips()
            earlier = summary.summarise(context, store, earlier)
            store.write_json("result.json", earlier)
        context.world.wait()
    return Run(folder=store.folder, result=earlier, reused=reused)


def _assist(context: Context, store: RunStore, decoder: Decoder) -> Run:
    """The part of the processes other than the first."""
    context.world.wait()
    _measure(context, store, range(0), decoder)
    context.world.wait()
    context.world.wait()
    return Run(folder=store.folder, result=json.loads((store.folder / "result.json").read_text()), is_main=False)


def load(spec: RunSpec) -> Context:
    """Task, split and metrics of `spec`; whatever cannot be had is known before any compute."""
    return _load_rest(spec, *_load_task(spec))


def _load_task(spec: RunSpec) -> tuple[Task, distributed.World, torch.device]:
    _check_names(spec)
    world = distributed.join()
    device = distributed.pick_device(spec.device, world)
    if not world.is_main:
        world.wait()  # the first process prepares clips and fetches weights; the others find them
    task = registry.load_task(spec.task)
    with task.switches():
        task.load(spec, device)
    check_info(task.info)
    return task, world, device


def _decoder(task: Task, device: torch.device, isolate: bool, timeout_s: float) -> Decoder:
    if task.decoder is None or not isolate:
        return InProcess(task, device)
    return Worker(task.decoder, device, task.info.modalities, timeout_s=timeout_s)


def _load_rest(spec: RunSpec, task: Task, world: distributed.World, device: torch.device) -> Context:
    split = splits.load(spec.split, limit=spec.limit, progress=world.is_main)
    if not split.clips:
        raise AvbenchError(f"split {spec.split} has no clips. {split.note}")
    with task.switches():
        task.begin(split)
    metrics, unavailable = _load_metrics(spec, task, split, device)
    spec = replace(spec, device=device.type)
    facts = identity.facts_of(
        spec, name=task.info.name, revision=task.info.revision, checksum=split.checksum, protocol=str(split.protocol),
        checkpoint=identity.content_of_checkpoint(spec), plugin=identity.code_of_tokenizer(spec.tokenizer),
    )  # fmt: skip
    if world.is_main:
        world.wait()
    return Context(
        spec=spec, device=device, world=world, task=task, split=split, metrics=metrics, unavailable=unavailable, facts=facts,
    )  # fmt: skip


def _check_names(spec: RunSpec) -> None:
    """Misspelt metric names are found before clips are prepared or weights fetched."""
    known = registry.plugins("metric")
    for name in spec.metrics:
        if name.replace("-", "_") not in known:
            raise registry.unknown_name("metric", name, known)
    if spec.batch_size < 1 or (spec.limit is not None and spec.limit < 1):
        raise UsageError("--batch-size and --limit must be at least 1")


def _load_metrics(spec: RunSpec, task: Task, split: splits.Split, device: torch.device) -> tuple[dict[str, Metric], dict[str, str]]:
    cache = cache_root() / "reference-features" / split.checksum[:16]
    options = MetricOptions(device=device, cache=cache, classes=frozenset(clip.label for clip in split.clips if clip.label))
    metrics: dict[str, Metric] = {}
    unavailable: dict[str, str] = {}
    for name in spec.metrics or registry.default_metrics(spec.task):
        name = name.replace("-", "_")
        try:
            reason = task.missing(registry.metric_info(name))
            if reason is None:
                with fixed():
                    metrics[name] = registry.load_metric(name, options)
            else:
                unavailable[name] = reason
        except (MetricUnavailable, AvbenchError) as error:
            unavailable[name] = str(error)
    return metrics, unavailable


def describe(context: Context) -> dict[str, Any]:
    """manifest.json: what made the numbers."""
    info = context.task.info
    return {
        "spec": context.spec.facts(),
        "tokenizer": info.facts(),
        "split": summary.split_facts(context.split),
        "metrics": {name: metric.info.protocol for name, metric in context.metrics.items()},
        "unavailable": context.unavailable,
        "metric_keys": context.metric_keys,
        "identity": context.facts,
        "git_commit": manifest.git_commit(),
        "versions": manifest.versions(),
        "hardware": manifest.hardware(context.device),
        "processes": context.world.size,
        "command": f"avbench {' '.join(sys.argv[1:])}",
    }


def _with_samples(context: Context, store: RunStore, count: int) -> range:
    """Clips of which samples are wanted; their folder exists when this returns."""
    if count:
        (store.folder / "samples").mkdir(exist_ok=True)
    return range(min(count, len(context.split.clips)))


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What is left to do for a batch: metrics without rows, or nothing but its samples."""

    metrics: frozenset[str]


def _wanted(context: Context, store: RunStore, samples: range) -> dict[int, _Wanted]:
    """Batches with clips that failed, with metrics that have no rows, or with samples that are not there."""
    size, keys = context.spec.batch_size, context.metric_keys
    left = {index: _Wanted(metrics=frozenset(keys)) for index in range(-(-len(context.split.clips) // size))}
    for part in store.load():
        if not part.failed:
            left[part.index] = _Wanted(metrics=frozenset(name for name, key in keys.items() if part.measured.get(name) != key))
    shown = {clip // size for clip in samples if not has_sample(store.folder / "samples", context.split.clips[clip].id)}
    return {index: wanted for index, wanted in left.items() if wanted.metrics or index in shown}


def _measure(context: Context, store: RunStore, samples: range, decoder: Decoder) -> None:
    """This process's share of what is left to do."""
    size = context.spec.batch_size
    left = _wanted(context, store, samples)
    mine = context.world.mine(left)
    # The first process makes the samples of everybody's batches.
    mine = sorted({*mine, *(index for index in left if context.world.is_main and index * size < len(samples))})
    ids = {context.split.clips[clip].id for clip in samples}
    for batch, waited in _tracked(context, mine):
        metrics = {name: metric for name, metric in context.metrics.items() if name in left[batch.index].metrics}
        for clips in _pass(context, store, batch, waited, decoder, metrics):
            _save_samples(context.task, store, clips, ids)


def _pass(
    context: Context, store: RunStore, batch: splits.Batch, waited: float, decoder: Decoder, metrics: dict[str, Metric]
) -> list[Reconstruction]:
    """One batch along the line: clips -> bytes (kept) -> clips -> rows (kept). Its reconstructions."""
    started = time.perf_counter()
    size, seed = context.spec.batch_size, context.spec.seed * 1_000_003 + batch.index
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
    if metrics:
        ids = [clip.id for clip in context.split.clips[batch.index * size : (batch.index + 1) * size]]
        result = measure_batch(
            metrics, reconstructions, failures, index=batch.index, ids=ids, device=context.device, timeout_s=context.timeout_s
        )
        seconds |= {**result.seconds, "read": waited, "total": time.perf_counter() - started + waited}
        keys = context.metric_keys
        store.save(replace(result, seconds=seconds, measured={name: keys[name] for name in metrics}))
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
    with Progress(*columns, console=console, disable=not (total and context.world.is_main)) as progress:
        task = progress.add_task(f"{context.spec.tokenizer} on {context.spec.split}", total=total)
        asked = time.perf_counter()
        for batch in splits.batches(context.split, size, wanted):
            yield batch, time.perf_counter() - asked
            progress.advance(task, min(size, len(context.split.clips) - batch.index * size))
            asked = time.perf_counter()
