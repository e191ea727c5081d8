"""One evaluation as a straight line: `evaluate(spec)` reads clips, reconstructs them, measures them and saves the result."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from avbench import registry
from avbench import world as distributed
from avbench.data import splits
from avbench.errors import AvbenchError, UsageError
from avbench.generate.interface import ClipGenerator
from avbench.generate.tasks import TARGETS
from avbench.metric import Metric, MetricOptions, MetricUnavailable
from avbench.paths import cache_root
from avbench.run import identity, manifest, summary
from avbench.run.measure import measure_batch
from avbench.run.reconstruct import Reconstruction
from avbench.run.samples import has_sample, write_sample
from avbench.run.store import RunStore
from avbench.tokenizer import Tokenizer
from avbench.types import RunSpec, Task


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


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a run needs, loaded. `unavailable`: metric name -> why it is n/a. `facts`: what its id is made of."""

    spec: RunSpec
    device: torch.device
    world: distributed.World
    tokenizer: Tokenizer
    split: splits.Split
    metrics: dict[str, Metric]
    unavailable: dict[str, str]
    facts: dict[str, Any]

    @property
    def run_id(self) -> str:
        """The name of the run's folder."""
        return identity.run_id(self.facts)

    @property
    def metric_keys(self) -> dict[str, str]:
        """Metric name -> what its rows must have been made by."""
        return {name: identity.metric_key(metric) for name, metric in self.metrics.items()}


def evaluate(spec: RunSpec, *, runs_dir: Path = Path("runs"), fresh: bool = False, save_samples: int = 0) -> Run:
    """Evaluate `spec`, resuming what `runs_dir` holds of it. Raises AvbenchError; a clip that fails is a row, not an error."""
    context = load(spec)
    store = RunStore(runs_dir / context.run_id)
    _keep_generated(context, store)
    if not context.world.is_main:
        return _assist(context, store)
    with store.lock():
        if fresh:
            store.clear()
        samples = _with_samples(context, store, save_samples)
        earlier = store.read_result()
        reused = earlier is not None and not _wanted(context, store, samples) and summary.holds(earlier, context)
        if not reused:
            store.write_json("manifest.json", describe(context))
            store.write_clips()
        context.world.wait()
        _measure(context, store, samples)
        context.world.wait()
        if earlier is None or not reused:
            store.write_clips()
            earlier = summary.summarise(context, store, earlier)
            store.write_json("result.json", earlier)
        context.world.wait()
    return Run(folder=store.folder, result=earlier, reused=reused)


def _assist(context: Context, store: RunStore) -> Run:
    """The part of the processes other than the first."""
    context.world.wait()
    _measure(context, store, range(0))
    context.world.wait()
    context.world.wait()
    return Run(folder=store.folder, result=json.loads((store.folder / "result.json").read_text()), is_main=False)


def load(spec: RunSpec) -> Context:
    """Tokenizer (or generator), split and metrics of `spec`; whatever cannot be had is known before any compute."""
    _check_names(spec)
    world = distributed.join()
    device = distributed.pick_device(spec.device, world)
    if not world.is_main:
        world.wait()  # the first process prepares clips and fetches weights; the others find them
    tokenizer = _tokenizer(spec, device)
    split = splits.load(spec.split, limit=spec.limit, progress=world.is_main)
    if not split.clips:
        raise AvbenchError(f"split {spec.split} has no clips. {split.note}")
    if isinstance(tokenizer, ClipGenerator):
        tokenizer.begin(split)
    metrics, unavailable = _load_metrics(spec, tokenizer, split, device)
    spec = replace(spec, device=device.type)
    facts = identity.facts_of(
        spec, tokenizer.info, split, checkpoint=identity.content_of_checkpoint(spec),
        plugin=identity.code_of_tokenizer(spec.tokenizer, tokenizer),
    )  # fmt: skip
    if world.is_main:
        world.wait()
    return Context(
        spec=spec, device=device, world=world, tokenizer=tokenizer, split=split, metrics=metrics, unavailable=unavailable, facts=facts,
    )  # fmt: skip


def _tokenizer(spec: RunSpec, device: torch.device) -> Tokenizer:
    """What is evaluated: a tokenizer, or for the tasks that generate, a generator of its tokens."""
    if spec.task != "reconstruct":
        from avbench.generate.load import load as load_generator

        return load_generator(spec, spec.task, device)
    if spec.generator is not None:
        raise UsageError("--generator goes with --task a2v, v2a or av; a reconstruction needs none")
    return registry.load_tokenizer(spec.tokenizer, checkpoint=spec.checkpoint, device=device, seed=spec.seed)


def _keep_generated(context: Context, store: RunStore) -> None:
    """A generator leaves each finished clip's tokens in the run's folder, and a stopped run goes on after it."""
    if isinstance(context.tokenizer, ClipGenerator):
        context.tokenizer.keep_in(store.generated)


def _check_names(spec: RunSpec) -> None:
    """Misspelt metric names are found before clips are prepared or weights fetched."""
    known = registry.plugins("metric")
    for name in spec.metrics:
        if name.replace("-", "_") not in known:
            raise registry.unknown_name("metric", name, known)
    if spec.batch_size < 1 or (spec.limit is not None and spec.limit < 1):
        raise UsageError("--batch-size and --limit must be at least 1")


def _load_metrics(
    spec: RunSpec, tokenizer: Tokenizer, split: splits.Split, device: torch.device
) -> tuple[dict[str, Metric], dict[str, str]]:
    cache = cache_root() / "reference-features" / split.checksum[:16]
    options = MetricOptions(device=device, cache=cache, classes=frozenset(clip.label for clip in split.clips if clip.label))
    metrics: dict[str, Metric] = {}
    unavailable: dict[str, str] = {}
    for name in spec.metrics or registry.default_metrics(spec.task):
        name = name.replace("-", "_")
        try:
            metric = registry.load_metric(name, options)
            _check_needs(metric, spec.task, tokenizer)
            metrics[name] = metric
        except (MetricUnavailable, AvbenchError) as error:
            unavailable[name] = str(error)
        except Exception as error:  # a plugin's constructor may raise anything
            unavailable[name] = f"cannot be constructed: {type(error).__name__}: {error}"
    return metrics, unavailable


def _check_needs(metric: Metric, task: Task, tokenizer: Tokenizer) -> None:
    """Raises MetricUnavailable for a modality that is not there. What is generated is judged alone, or with the condition beside it."""
    if task == "reconstruct":
        missing = metric.info.needs - tokenizer.info.modalities
        says = f"{tokenizer.info.name} has no"
    else:
        missing = metric.info.needs - set(TARGETS[task]) if len(metric.info.needs) == 1 else frozenset()
        says = f"{task} generates no"
    if missing:
        raise MetricUnavailable(f"{says} {' and no '.join(sorted(missing))}")


def describe(context: Context) -> dict[str, Any]:
    """manifest.json: what made the numbers."""
    info = context.tokenizer.info
    return {
        "spec": asdict(context.spec),
        "tokenizer": {**asdict(info), "modalities": sorted(info.modalities)},
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


def _measure(context: Context, store: RunStore, samples: range) -> None:
    """This process's share of what is left to do."""
    size = context.spec.batch_size
    left = _wanted(context, store, samples)
    mine = context.world.mine(left)
    # The first process makes the samples of everybody's batches.
    mine = sorted({*mine, *(index for index in left if context.world.is_main and index * size < len(samples))})
    ids = {context.split.clips[clip].id for clip in samples}
    keys = context.metric_keys
    for batch, waited in _tracked(context, mine):
        clips = context.split.clips[batch.index * size : (batch.index + 1) * size]
        metrics = {name: metric for name, metric in context.metrics.items() if name in left[batch.index].metrics}
        result, reconstructions = measure_batch(
            context.tokenizer, metrics, batch, [clip.id for clip in clips], context.device, context.spec.seed
        )
        if metrics:
            seconds = {**result.seconds, "read": waited, "total": result.seconds["total"] + waited}
            store.save(replace(result, seconds=seconds, measured={name: keys[name] for name in metrics}))
        for done_clips in reconstructions:
            _save_samples(store, done_clips, ids, context.spec.task)


def _save_samples(store: RunStore, clips: Reconstruction, ids: set[str], task: Task) -> None:
    for index, clip_id in enumerate(clips.reference.ids):
        if clip_id in ids:
            write_sample(store.folder / "samples", clips.reference.select([index]), clips.recon.select([index]), task)


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
