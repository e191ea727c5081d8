"""One evaluation as a straight line: `evaluate(spec)` reads clips, reconstructs them, measures them and saves the result."""

import hashlib
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
from avbench.run import manifest, summary
from avbench.run.code_version import code_version
from avbench.run.measure import measure_batch
from avbench.run.reconstruct import Reconstruction
from avbench.run.samples import has_sample, slug, write_sample
from avbench.run.store import RunStore
from avbench.tokenizer import Tokenizer
from avbench.types import RunSpec, Task


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: its folder and the content of its result.json."""

    folder: Path
    result: dict[str, Any]
    is_main: bool = True  # False in the processes that only help (torchrun)

    @property
    def num_failed(self) -> int:
        """Clips that could not be evaluated."""
        return int(self.result["num_failed"])


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a run needs, loaded. `unavailable`: metric name -> why it is n/a."""

    spec: RunSpec
    device: torch.device
    world: distributed.World
    tokenizer: Tokenizer
    split: splits.Split
    metrics: dict[str, Metric]
    unavailable: dict[str, str]


def evaluate(spec: RunSpec, *, runs_dir: Path = Path("runs"), fresh: bool = False, save_samples: int = 0) -> Run:
    """Evaluate `spec`, resuming what `runs_dir` holds of it. Raises AvbenchError; a clip that fails is a row, not an error."""
    context = load(spec)
    store = RunStore(runs_dir / run_id(context))
    _keep_generated(context, store)
    if not context.world.is_main:
        return _assist(context, store)
    with store.lock():
        if fresh:
            store.clear()
        store.write_json("manifest.json", describe(context))
        store.write_clips()
        context.world.wait()
        _measure(context, store, _with_samples(context, store, save_samples))
        context.world.wait()
        store.write_clips()
        result = summary.summarise(context, store)
        store.write_json("result.json", result)
        context.world.wait()
    return Run(folder=store.folder, result=result)


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
    if world.is_main:
        world.wait()
    return Context(
        spec=replace(spec, device=device.type), device=device, world=world, tokenizer=tokenizer, split=split,
        metrics=metrics, unavailable=unavailable,
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


def run_id(context: Context) -> str:
    """`<tokenizer>_[<task>_]<split>_<hash>`: the same inputs and code give the same folder, anything else another one."""
    facts = {
        "spec": asdict(context.spec),
        "revision": context.tokenizer.info.revision,
        "checksum": context.split.checksum,
        "protocol": str(context.split.protocol),
        "metrics": {name: metric.info.protocol for name, metric in context.metrics.items()},
        "unavailable": sorted(context.unavailable),
        "code": code_version(context.tokenizer, context.metrics.values()),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    task = "" if context.spec.task == "reconstruct" else f"{context.spec.task}_"
    return f"{slug(context.tokenizer.info.name)}_{task}{slug(context.spec.split)}_{digest}"


def describe(context: Context) -> dict[str, Any]:
    """manifest.json: what made the numbers."""
    info = context.tokenizer.info
    return {
        "spec": asdict(context.spec),
        "tokenizer": {**asdict(info), "modalities": sorted(info.modalities)},
        "split": summary.split_facts(context.split),
        "metrics": {name: metric.info.protocol for name, metric in context.metrics.items()},
        "unavailable": context.unavailable,
        "code_version": code_version(context.tokenizer, context.metrics.values()),
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


def _measure(context: Context, store: RunStore, samples: range) -> None:
    """Evaluate this process's batches that are not done yet; batches with wanted samples are passed through again."""
    size = context.spec.batch_size
    done = store.done()
    count = -(-len(context.split.clips) // size)
    shown = {clip // size for clip in samples if not has_sample(store.folder / "samples", context.split.clips[clip].id)}
    wanted = [k for k in context.world.mine(range(count)) if k not in done or k in shown]
    wanted = sorted({*wanted, *shown})  # the first process makes the samples of everybody's batches
    ids = {context.split.clips[clip].id for clip in samples}
    for batch, waited in _tracked(context, wanted):
        clips = context.split.clips[batch.index * size : (batch.index + 1) * size]
        result, reconstructions = measure_batch(
            context.tokenizer, context.metrics, batch, [clip.id for clip in clips], context.device, context.spec.seed
        )
        if batch.index not in done:
            seconds = {**result.seconds, "read": waited, "total": result.seconds["total"] + waited}
            store.save(replace(result, seconds=seconds))
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
