"""`train`: a recipe's stages one after the other, resumable at any moment, as one straight line."""

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from avbench import world
from avbench.errors import AvbenchError, UsageError
from avbench.files import disk_errors
from avbench.train import checkpoint, recipes
from avbench.train.budget import Budget, Clock, measured_peak
from avbench.train.checkpoint import Identity, Position, Saved, of_folder, provenance
from avbench.train.config import TrainConfig
from avbench.train.data import Share
from avbench.train.log import Log, write_picture
from avbench.train.stages import StageRun
from avbench.train.trainee import Batch, Data, Trainee


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Where a call left its run. finished: all stages (or those up to the one asked for) are done. held_out: the last numbers."""

    out: Path
    stage: str
    clips_seen: int
    minutes: float  # of training, all calls together
    finished: bool
    held_out: dict[str, float]


def train(
    recipe: str | TrainConfig,
    *,
    split: str = "arcade-train",
    out: Path,
    max_minutes: float | None = None,
    stage: str | None = None,
    device: str = "auto",
    limit: int | None = None,
    clips: int | None = None,
    seed: int | None = None,
    init: Path | None = None,
    budget: Budget | None = None,
    on_device: bool = False,
    watch: "Watch | None" = None,
) -> TrainResult:
    """Train from nothing, or go on where `out` was left; `out` then holds a checkpoint, for `--checkpoint`.

    max_minutes: pause after so many minutes of this call (schedules are in clips, so a pause changes nothing). stage: pause after
    it. limit: the first so many clips of the split. clips: see so many in all, instead of the recipe's number (`recipes.shortened`).
    init: a folder that a training exported; a new run begins with its weights, and with fresh optimisers at the schedule's beginning.
    budget: train for so many seconds instead of so many clips. on_device: hold all clips in the device's memory. watch: hears of
    evaluations and exports.
    Under torchrun every process takes its share of each batch.
    Raises UsageError for an unknown recipe, stage, split or device, AvbenchError where `out` holds another run or `init` another model.
    """
    begin = time.monotonic()
    config = recipes.config(recipe) if seed is None else replace(recipes.config(recipe), seed=seed)
    config = config if clips is None else recipes.shortened(config, clips)
    _check_stage(config, stage)
    if budget is not None and (Path(out) / checkpoint.STATE).exists():
        raise UsageError(f"{out} holds a run in clips; one of so many seconds cannot go on with it: give another --out, and --init {out}")
    accelerator = make_accelerator(device)
    _check_batch(config, accelerator)
    config = for_device(config, accelerator.device)
    if budget is not None and accelerator.num_processes > 1:
        raise UsageError("a run of so many seconds is one process's: the clocks of several would disagree about the learning rate")
    trainee = config.trainee()
    with accelerator.main_process_first():
        data: Data = trainee.load_data(split, limit)
    if on_device:
        data.hold_on(accelerator.device)
    with disk_errors(Path(out), "repeat the command; what was saved stands"):
        run = _Run(trainee, data, Path(out), accelerator, begin, init, budget, watch, None)
        try:
            return run.go(None if max_minutes is None else begin + 60 * max_minutes, stage)
        finally:
            run.close()


def for_device(config: TrainConfig, device: torch.device) -> TrainConfig:
    """The recipe in float32 where a CPU has no instructions for bfloat16: emulated, a product took 75 times as long (AVX2, torch 2.11)."""
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2"):
        return config
    return replace(config, compute_dtype="float32")


def train_on(
    trainee: Trainee[Any, Any],
    data: Data,
    models: dict[str, nn.Module],
    accelerator: Accelerator,
    *,
    out: Path,
    budget: Budget,
    watch: "Watch",
    init: Path | None = None,
) -> TrainResult:
    """`train` for whoever has made its parts before: models at step 0 on the device. init: whose weights they are, if any's."""
    run = _Run(trainee, data, out, accelerator, time.monotonic(), init, budget, watch, models)
    try:
        return run.go(None, None)
    finally:
        run.close()


class Watch:
    """Hears of a run's progress. Raising stops the run; what it exported stands."""

    def evaluated(self, stage: str, values: dict[str, float]) -> None:
        """Held-out numbers of the moving average."""

    def exported(self, out: Path) -> None:
        """`out` holds a checkpoint."""


class _Run:
    """A call of `train`: what lasts over its stages."""

    def __init__(
        self,
        trainee: Trainee[Any, Any],
        data: Data,
        out: Path,
        accelerator: Accelerator,
        begin: float,
        init: Path | None,
        budget: Budget | None,
        watch: Watch | None,
        models: dict[str, nn.Module] | None,
    ) -> None:
        self.budget, self.watch = budget, watch or Watch()
        self.clock: Clock | None = None  # starts with the first step
        self.trainee, self.data, self.out, self.accelerator = trainee, data, out, accelerator
        self.config: TrainConfig = trainee.config
        self.device = accelerator.device
        self.identity = Identity(
            recipe=self.config.name,
            digest=self.config.digest,
            split=data.origin.split,
            split_checksum=data.origin.checksum,
            num_clips=data.origin.num_clips,
        )
        self.saved = checkpoint.load(out, self.identity)
        self.position = self.saved.position if self.saved else Position()
        self.minutes_before = self.position.minutes
        self.begin = begin
        self.steps_before = sum(stage.clips for stage in self.config.stages[: self.position.stage]) // self.config.batch_size
        self.init = _init(self.saved, init, out)
        self.models = models or trainee.build_models()
        if self.saved is None and models is None:
            if init is None:
                trainee.start(self.models, data)
            else:
                trainee.load(init, self.models)
        for model in self.models.values():
            model.to(self.device)
        self.peak = measured_peak(self.device, getattr(torch, self.config.compute_dtype))
        self.log = Log(out, step=self._global_step(), total_clips=self.config.clips) if accelerator.is_main_process else None
        self.last: dict[str, float] = {}
        self.next_eval = self.next_save = 0.0

    def go(self, deadline: float | None, until: str | None) -> TrainResult:
        """All stages that are left, or as far as the deadline or the stage `until` allow."""
        names = [stage.name for stage in self.config.stages]
        end = len(names) if until is None else names.index(until) + 1
        run = StageRun(self.trainee, self.position.stage, self.models, self.accelerator) if self.position.stage < end else None
        if run is not None and self.saved is not None:
            run.load_state(self.saved.state)
        self.saved = None
        while run is not None and self.position.stage < end and self._train_stage(run, deadline):
            run = self._finish_stage(run)
        stage = names[min(self.position.stage, len(names) - 1)]
        return TrainResult(
            out=self.out,
            stage=stage,
            clips_seen=self._clips_seen(),
            minutes=self.position.minutes,
            finished=self.position.stage >= end,
            held_out=self.last,
        )

    def close(self) -> None:
        """Stop the display."""
        if self.log is not None:
            self.log.close()

    def _train_stage(self, run: StageRun, deadline: float | None) -> bool:
        """Steps until the stage is over (then True) or the deadline is reached.

        That one is looked at every `log_steps` steps, where the device is waited for anyway.
        """
        first = self.position.step
        over = self.budget is None and first == run.steps
        steps = range(first, run.steps) if self.budget is None else itertools.count(first)
        batches = _Waiting(self._batches(run, (self.steps_before + step for step in steps)))
        speed = self.trainee.flops_per_clip(run.index) / self.peak
        if self._global_step() == 0:
            self._report(run, first)
        if self.budget is not None:
            if self.clock is None:
                stages = enumerate(self.config.stages)
                shares = self.budget.shares or tuple(stage.clips * self.trainee.flops_per_clip(index) for index, stage in stages)
                self.clock = Clock(self.budget.seconds, shares)
            self.clock.begin_stage(run.index)
        mark = time.monotonic()
        try:
            for step in range(first, run.steps) if self.budget is None else itertools.count(first):
                run.step(batches, step, self._clips_seen(), self.clock)
                self.position = replace(self.position, step=step + 1)
                over = step + 1 == run.steps if self.clock is None else self.clock.stage == 1
                if (step + 1) % self.config.log_steps and not over:
                    continue
                losses, now = run.take_sums(), time.monotonic()
                since_mark = step + 1 - max(first, step // self.config.log_steps * self.config.log_steps)
                clips_per_s = since_mark * self.config.batch_size / (now - mark)
                utilisation = clips_per_s * speed / self.accelerator.num_processes
                self._log_step(run, losses, clips_per_s, utilisation, batches.take() / (now - mark))
                if over:
                    break
                self._checkpoint_if_due(run, now)
                if self._agree(deadline is not None and now >= deadline):
                    break
                mark = time.monotonic()
        finally:
            batches.close()
        self._report(run, self.position.step)
        self._save(run)
        return over

    def _checkpoint_if_due(self, run: StageRun, now: float) -> None:
        if self._agree(now >= self.next_eval):
            self._report(run, self.position.step)
        if self._agree(now >= self.next_save):
            self._save(run)

    def _finish_stage(self, run: StageRun) -> StageRun | None:
        """The next stage begins: from the moving average, with fresh optimisers. None after the last."""
        run.finish()
        self.steps_before += self.position.step
        self.position = replace(self.position, stage=self.position.stage + 1, step=0)
        if self.position.stage == len(self.config.stages):
            return None
        self.accelerator.wait_for_everyone()
        self.trainee.begin_stage(self.models, self.position.stage)
        fresh = StageRun(self.trainee, self.position.stage, self.models, self.accelerator, inherited=run)
        self._save(fresh)
        return fresh

    def _batches(self, run: StageRun, steps: Iterable[int]) -> Iterator[Batch]:
        parts, part = self.accelerator.num_processes, self.accelerator.process_index
        share = Share(part=part, parts=parts, accumulate=self.config.accumulate)
        return self.data.batches(run.index, steps, share, self.device)

    def _log_step(self, run: StageRun, losses: dict[str, float], clips_per_s: float, utilisation: float, waiting: float) -> None:
        if self.log is None:
            return
        values = self._place(run) | {"losses": losses, "rate": run.share, "clips_per_s": round(clips_per_s, 2)}
        self.log.write("train", values | {"mfu": round(utilisation, 4), "waiting_for_data": round(waiting, 4)})
        held_out = "  ".join(f"{name} {value:.2f}" for name, value in self.last.items())
        self.log.show(run.stage.name, self._clips_seen(), losses["total"], clips_per_s, held_out)

    def _report(self, run: StageRun, step: int) -> None:
        """Held-out numbers and picture."""
        if self.log is not None:
            for model in run.average.models.values():
                model.to(self.device)
            with torch.no_grad():
                found = self.trainee.evaluate(run.average.models, self.data, self.device)
            self.last = found.values
            self.watch.evaluated(run.stage.name, found.values)
            self.log.write("eval", self._place(run) | {"held_out": found.values})
            if found.picture is not None:
                write_picture(self.out / "pictures" / f"{self._global_step():08d}.png", found.picture)
        self.next_eval = time.monotonic() + 60 * self.config.eval_minutes

    def _save(self, run: StageRun) -> None:
        """The checkpoint, and the published files beside it."""
        minutes = self.minutes_before + (time.monotonic() - self.begin) / 60
        self.position = replace(self.position, minutes=minutes)
        if self.accelerator.is_main_process:
            if self.budget is None:
                checkpoint.save(self.out, self.identity, self.position, run.state(), self.init)
            progress = {"stage": run.stage.name, "clips_seen": self._clips_seen(), "minutes": round(minutes, 1), "held_out": self.last}
            facts = provenance(self.config, self.data.origin, self.device, progress, self.init)
            if self.budget is not None:
                facts["seconds"] = self.budget.seconds
            self.trainee.export(self.out, run.average.models, facts)
            self.watch.exported(self.out)
        self.accelerator.wait_for_everyone()
        self.next_save = time.monotonic() + 60 * self.config.save_minutes

    def _place(self, run: StageRun) -> dict[str, Any]:
        return {"step": self._global_step(), "stage": run.stage.name, "clips_seen": self._clips_seen()}

    def _global_step(self) -> int:
        return self.steps_before + self.position.step

    def _clips_seen(self) -> int:
        return self._global_step() * self.config.batch_size

    def _agree(self, mine: bool) -> bool:
        """The first process's clock decides for all."""
        if self.accelerator.num_processes == 1:
            return mine
        flag = torch.tensor(float(mine), device=self.device)
        torch.distributed.broadcast(flag, 0)
        return bool(flag)


class _Waiting:
    """Counts the seconds that the loop stood still for data."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self._seconds = batches, 0.0

    def __iter__(self) -> "_Waiting":
        return self

    def __next__(self) -> Batch:
        begin = time.monotonic()
        batch = next(self._batches)
        self._seconds += time.monotonic() - begin
        return batch

    def take(self) -> float:
        """Seconds since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def close(self) -> None:
        """Stop reading ahead."""
        self._batches.close()  # type: ignore[attr-defined]


def make_accelerator(device: str) -> Accelerator:
    """Process group and device; the model computes in bfloat16 by itself, so accelerate's autocast stays off."""
    if device not in ("auto", "cpu", "cuda") and not device.startswith("cuda:"):
        raise UsageError(f'unknown device "{device}"; auto, cpu or cuda')
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"no CUDA device here for --device {device}; cpu or auto")
    world.described()  # half an environment of torchrun is told in words
    torch.set_float32_matmul_precision("high")  # TF32 for what is left in float32 on a CUDA device
    torch.backends.cudnn.benchmark = True
    return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available(), mixed_precision="no")


def _init(saved: Saved | None, init: Path | None, out: Path) -> dict[str, Any] | None:
    """Whose weights the run began from. Raises AvbenchError where a run that is there began otherwise than `init` asks."""
    if saved is None:
        return None if init is None else of_folder(init)
    if init is not None and (saved.init is None or saved.init["name"] != init.resolve().name):
        began = "from nothing" if saved.init is None else f"with the weights of {saved.init['name']}"
        raise AvbenchError(f"{out} holds a run that began {began}; give another --out for one that begins with those of {init}")
    return saved.init


def _check_stage(config: TrainConfig, stage: str | None) -> None:
    names = [item.name for item in config.stages]
    if stage is not None and stage not in names:
        raise UsageError(f'recipe {config.name} has no stage "{stage}"; it has {", ".join(names)}')


def _check_batch(config: TrainConfig, accelerator: Accelerator) -> None:
    if config.batch_size % (accelerator.num_processes * config.accumulate):
        raise UsageError(
            f"{accelerator.num_processes} processes cannot share batches of {config.batch_size} clips in {config.accumulate} parts; "
            "use a number of processes that divides them"
        )
