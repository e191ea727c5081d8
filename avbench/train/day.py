"""A training on a machine that is lent for minutes: try everything on synthetic clips, choose the rates, train within what is left.

`python -m avbench.train.day RECIPE --seconds 540 --state DIR --out DIR`; scripts/gpu_day.sh calls it. Anything wrong stops at once, so
that most of the lent time is left for another try. What was trained lies in the output folder at every save, whole, in parts that a
transfer takes.
"""

import copy
import importlib.util
import io
import itertools
import math
import tarfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import Accelerator
from torch import nn

from avbench.errors import AvbenchError, UsageError
from avbench.train import recipes
from avbench.train.budget import Budget
from avbench.train.config import TrainConfig
from avbench.train.data import Share
from avbench.train.log import LOG
from avbench.train.loop import Watch, make_accelerator, train_on
from avbench.train.stages import StageRun
from avbench.train.trainee import Data, Trainee

SMOKE_STEPS, SMOKE_WARM = 6, 2
SMOKE_CLIPS = 60
PROBED = (0.2, 0.5, 1.0)  # of the recipe's rates; of Muon's 1e-2, the first kept avtok-small's start and the last tore it down
SHARES = {"video": 300.0, "audio": 40.0, "decode": 124.0}  # seconds of VFAL's stages in one slot
LOSS_DB = 0.3  # held-out PSNR may fall so far below the start's, not further
PART_BYTES = 15 * 2**20
MAX_PARTS = 4  # and a log: together under 64 MiB; the rest waits for the next command
PREFIX = "checkpoint.tar."


@dataclass(frozen=True, kw_only=True)
class Smoke:
    """What a stage cost on synthetic clips. memory: bytes at its peak, 0 on a CPU."""

    stage: str
    ms: float
    memory: int


class Back(Watch):
    """Copies what was exported into the output folder, and stops a training that falls below its start."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.seen: list[float] = []

    def evaluated(self, stage: str, values: dict[str, float]) -> None:
        """Raises AvbenchError where PSNR has fallen twice in a row and lies well below the start's."""
        say(f"{stage}: " + "  ".join(f"{name} {value:.4g}" for name, value in values.items()))
        if "psnr" not in values:
            return
        self.seen.append(values["psnr"])
        falling = len(self.seen) > 2 and self.seen[-1] < self.seen[-2] < self.seen[-3]
        if falling and self.seen[-1] < self.seen[0] - LOSS_DB:
            raise AvbenchError(f"held-out PSNR falls: {', '.join(f'{value:.2f}' for value in self.seen)} dB; lower rates are needed")

    def exported(self, out: Path) -> None:
        """In parts, all of them or none."""
        waiting = bring_back(out, self.out)
        say(f"checkpoint copied to {self.out}" + (f"; {waiting} parts wait for the next command" if waiting else ""))


@click.command()
@click.argument("recipe")
@click.option("--seconds", type=float, required=True, help="From now on, the copies included.")
@click.option("--state", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder that comes back.")
@click.option("--split", default="arcade-train", show_default=True)
@click.option("--limit", type=int)
@click.option("--device", default="auto", show_default=True)
@click.option("--init", type=click.Path(path_type=Path, exists=True), help="Begin with the weights of this folder.")
@click.option("--probe-steps", type=click.IntRange(min=3), default=24, show_default=True)
@click.option("--reserve", type=float, default=25.0, show_default=True, help="Seconds for the last evaluation, export and copy.")
def main(
    recipe: str,
    seconds: float,
    state: Path,
    out: Path,
    split: str,
    limit: int | None,
    device: str,
    init: Path | None,
    probe_steps: int,
    reserve: float,
) -> None:
    """Smoke, probe, train. RECIPE: a name, or FILE.py:FUNCTION."""
    end = time.monotonic() + seconds
    config = read_config(recipe).in_minutes()
    accelerator = make_accelerator(device)
    found = smoke(config, accelerator, state / "smoke")
    for part in found:
        say(f"smoke: stage {part.stage}, {part.ms:.0f} ms a step of {config.batch_size} clips, {part.memory / 2**30:.1f} GiB")
    trainee = config.trainee()
    data = trainee.load_data(split, limit)
    say(f"{data.origin.num_clips:,} clips are there")
    data.hold_on(accelerator.device)
    say("clips are on the device")
    models = started(trainee, data, accelerator, init)
    say("models are started" if init is None else f"models are those of {init}")
    factor = probe(trainee, data, models, accelerator, probe_steps)
    trainee.config = config.scaled(factor)
    left = end - time.monotonic() - reserve
    if left <= 0:
        raise AvbenchError(f"no second is left to train: {seconds:.0f} were given, {reserve:.0f} are kept for the end")
    say(f"training for {left:.0f} s at {factor:g} of the recipe's rates")
    shares = tuple(SHARES.get(stage.name, 0.0) for stage in config.stages)
    budget = Budget(seconds=left, shares=shares if all(shares) else None)
    done = train_on(trainee, data, models, accelerator, out=state / "run", budget=budget, watch=Back(out), init=init)
    say(f"{done.clips_seen:,} clips in {left:.0f} s: " + "  ".join(f"{name} {value:.4g}" for name, value in done.held_out.items()))


def read_config(recipe: str) -> TrainConfig:
    """A recipe by name, or what FUNCTION of FILE.py returns. Raises UsageError where there is no such one."""
    if ".py:" not in recipe:
        return recipes.config(recipe)
    file, _, name = recipe.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None or not Path(file).is_file():
        raise UsageError(f"no file {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = getattr(module, name)()
    assert isinstance(config, TrainConfig)
    return config


def smoke(config: TrainConfig, accelerator: Accelerator, scratch: Path) -> list[Smoke]:
    """A few steps of every stage on synthetic clips, then evaluation and export. Raises AvbenchError where a loss is not finite."""
    trainee, device = config.trainee(), accelerator.device
    data = trainee.load_data("synthetic-train", SMOKE_CLIPS)
    data.hold_on(device)
    models = trainee.build_models()
    for model in models.values():
        model.to(device)
    found, run = [], None
    for index, stage in enumerate(config.stages):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if index:
            trainee.begin_stage(models, index)
        run = StageRun(trainee, index, models, accelerator)
        batches = data.batches(index, itertools.count(), Share(accumulate=config.accumulate), device)
        begin = 0.0
        for step in range(SMOKE_STEPS):
            run.step(batches, step, step * config.batch_size)  # type: ignore[arg-type]
            if step == SMOKE_WARM - 1:
                run.take_sums()  # waits for the device
                begin = time.monotonic()
        losses = run.take_sums()
        ms = 1000 * (time.monotonic() - begin) / (SMOKE_STEPS - SMOKE_WARM)
        check_finite(f"stage {stage.name} on synthetic clips", losses)
        found.append(Smoke(stage=stage.name, ms=ms, memory=torch.cuda.max_memory_allocated() if device.type == "cuda" else 0))
        run.finish()
    assert run is not None
    for model in run.average.models.values():
        model.to(device)
    with torch.no_grad():
        check_finite("evaluation", trainee.evaluate(run.average.models, data, device).values)
    trainee.export(scratch, run.average.models, {})
    return found


def started(trainee: Trainee[Any, Any], data: Data, accelerator: Accelerator, init: Path | None) -> dict[str, nn.Module]:
    """Models at step 0, on the device."""
    models = trainee.build_models()
    if init is None:
        trainee.start(models, data)
    else:
        trainee.load(init, models)
    for model in models.values():
        model.to(accelerator.device)
    return models


def probe(trainee: Trainee[Any, Any], data: Data, models: dict[str, nn.Module], accelerator: Accelerator, steps: int) -> float:
    """Which share of the recipe's rates leaves the first stage at the lowest loss after `steps` steps that anneal to the end.

    All see the same clips, from the same weights, which are as before afterwards. Raises AvbenchError where no rate stays finite.
    """
    before = {name: copy.deepcopy(model.state_dict()) for name, model in models.items()}
    losses: dict[float, float] = {}
    for factor in PROBED:
        rates = copy.copy(trainee)
        short = trainee.config.scaled(factor)
        first = replace(short.stages[0], clips=steps * short.batch_size)
        rates.config = replace(short, stages=(first, *short.stages[1:]))
        run = StageRun(rates, 0, models, accelerator)
        batches = data.batches(0, range(steps), Share(accumulate=short.accumulate), accelerator.device)
        for step in range(steps):
            run.step(batches, step, step * short.batch_size)  # type: ignore[arg-type]
            if step + 1 == steps * 2 // 3:
                run.take_sums()  # the last third counts
        losses[factor] = run.take_sums()["total"]
        say(f"probe: {factor:g} of the rates, loss {losses[factor]:.4f}")
        for name, model in models.items():
            model.load_state_dict(before[name])
    finite = {factor: loss for factor, loss in losses.items() if math.isfinite(loss)}
    if not finite:
        raise AvbenchError(f"no rate of {PROBED} of the recipe's keeps the loss finite")
    return min(finite, key=finite.__getitem__)


def check_finite(where: str, values: dict[str, float]) -> None:
    """Raises AvbenchError that names what is not."""
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise AvbenchError(f"{where}: {', '.join(wrong)} not finite")


def bring_back(run: Path, out: Path) -> int:
    """A run's folder as one archive in parts that a transfer takes, without what only a resumed run needs; parts that wait in `run`.parts.

    The parts in `out` are of one archive at any time but for a few renames. Returns how many wait.
    """
    staging = run.with_name(f"{run.name}.parts")
    staging.mkdir(parents=True, exist_ok=True)
    for old in staging.iterdir():
        old.unlink()
    count = _write_parts(run, staging)
    out.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f".{out.name}.next")  # of the same file system: a rename is not torn by a kill
    scratch.mkdir(exist_ok=True)
    for part in sorted(staging.iterdir())[:MAX_PARTS]:
        (scratch / part.name).write_bytes(part.read_bytes())
    for old in out.glob(f"{PREFIX}*"):
        old.unlink()
    for part in scratch.iterdir():
        part.replace(out / part.name)
    return max(0, count - MAX_PARTS)


def _write_parts(run: Path, folder: Path) -> int:
    """Manifest, weights, log, and the last picture."""
    files = sorted(path for path in run.rglob("*") if path.suffix in (".json", ".safetensors"))
    files += [*run.glob(LOG), *sorted(run.glob("pictures/*.png"))[-1:]]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in files:
            tar.add(path, arcname=str(path.relative_to(run)))
    content = archive.getbuffer()
    starts = range(0, len(content), PART_BYTES)
    for number, start in enumerate(starts):
        (folder / f"{PREFIX}{number:02d}").write_bytes(content[start : start + PART_BYTES])
    return len(starts)


def say(text: str) -> None:
    """To the log, at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    main()
