"""The Python side of the command line: `import avbench; run = avbench.evaluate("avtok", "arcade-mini", limit=8)`.

Everything here takes names as the command line does, paths as str or Path, and tokenizers as names or as objects.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avbench.board.compare import Comparison
from avbench.board.compare import compare as compare_folders
from avbench.board.results import read_result
from avbench.data.splits import Split
from avbench.data.splits import load as load_split_by_name
from avbench.errors import UsageError
from avbench.registry import load_task, load_tokenizer
from avbench.run.evaluate import Run
from avbench.run.evaluate import evaluate as evaluate_spec
from avbench.run.reconstruct import Reconstruct
from avbench.run.score import Scored, split_of
from avbench.run.unpaired import Unpaired
from avbench.tokenizer import Tokenizer
from avbench.types import DEFAULT_TASK, Outputs, RunSpec, Sampling

__all__ = ["Callback", "Run", "compare", "evaluate", "load_run", "load_split", "load_tokenizer", "score"]


def evaluate(
    tokenizer: str | Tokenizer,
    split: str | Path,
    *,
    metrics: Sequence[str] = (),
    task: str = DEFAULT_TASK,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 8,
    checkpoint: str | Path | None = None,
    generator: str | Path | None = None,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    runs_dir: str | Path = "runs",
    fresh: bool = False,
    save_samples: int = 0,
    progress: bool = True,
    alone: bool = False,
) -> Run:
    """What `avbench run` does. Resumes, and reuses a finished run, as it does.

    tokenizer: a name ("avtok", "h264@20k-opus@6k", "file.py:Class"), or an object with `info`, `encode` and `decode`
    (avbench/tokenizer.py). An object decodes in this process, since no other one could load it: its row says "isolated: false", is
    computed anew each time, and cannot be verified by others.
    split: a name, or a folder of videos, either with "?res=256&fps=25" (avbench/protocol.py).
    metrics: names, and of sets ("perceptual"); none: the task's default.
    alone: wait for no other process, though torchrun started several: in a training job's first one.

    Raises UsageError for what cannot be asked for, AvbenchError for what cannot be had. A clip that fails is a row: `run.num_failed`.
    """
    named = tokenizer if isinstance(tokenizer, str) else _name_of(tokenizer)
    spec = RunSpec(
        tokenizer=named,
        split=_split_name(split),
        task=task,
        metrics=tuple(metrics),
        limit=limit,
        seed=seed,
        device=device,
        batch_size=batch_size,
        checkpoint=None if checkpoint is None else str(checkpoint),
        generator=None if generator is None else str(generator),
        sampling=sampling,
    )
    if isinstance(tokenizer, str):
        return evaluate_spec(spec, runs_dir=Path(runs_dir), fresh=fresh, save_samples=save_samples, progress=progress, alone=alone)
    if task != DEFAULT_TASK:
        raise UsageError(f"task {task} needs a tokenizer by name: its generator belongs to that name")
    return evaluate_spec(
        spec, task=Reconstruct(tokenizer), runs_dir=Path(runs_dir), fresh=True, save_samples=save_samples, progress=progress,
        alone=alone,
    )  # fmt: skip


def score(
    reference: str | Path,
    outputs: str | Path,
    *,
    name: str | None = None,
    task: str = DEFAULT_TASK,
    pairs: str | Path | None = None,
    bits_per_s: float | None = None,
    only: str | None = None,
    fps: float | None = None,
    unpaired: bool = False,
    metrics: Sequence[str] = (),
    limit: int | None = None,
    device: str = "auto",
    batch_size: int = 8,
    runs_dir: str | Path = "runs",
    fresh: bool = False,
    save_samples: int = 0,
    progress: bool = True,
) -> Run:
    """What `avbench score` does: the finished clips in `outputs` against those of `reference`, a folder or a split.

    bits_per_s: of a clip, by their maker's word. only: "video" or "audio". fps: of folders of PNGs. unpaired: as two sets, of whatever
    size, by the distribution metrics alone. Raises as `evaluate` does.
    """
    spec = RunSpec(
        tokenizer=name or Path(outputs).expanduser().resolve().name,
        split=split_of(str(reference)),
        task=task,
        metrics=tuple(metrics),
        limit=limit,
        device=device,
        batch_size=batch_size,
        outputs=Outputs(
            folder=str(outputs), pairs=None if pairs is None else str(pairs), bits_per_s=bits_per_s, only=only, fps=fps, unpaired=unpaired
        ),
    )  # fmt: skip
    if not spec.tokenizer.isprintable() or len(spec.tokenizer) > 100:
        raise UsageError("name: at most 100 printable characters")
    if unpaired and save_samples:
        raise UsageError("--save-samples shows pairs; --unpaired has none")
    made = (Unpaired if unpaired else Scored)(load_task(task))
    return evaluate_spec(
        spec, task=made, runs_dir=Path(runs_dir), fresh=fresh, save_samples=save_samples, progress=progress
    )  # fmt: skip


def compare(a: Run | str | Path, b: Run | str | Path) -> Comparison:
    """B against A, metric by metric, paired by clip: differences, intervals, p-values after Holm. Runs, or their folders."""
    return compare_folders(*(run.folder if isinstance(run, Run) else Path(run) for run in (a, b)))


def load_run(folder: str | Path) -> Run:
    """A finished run that lies in `folder`. Raises AvbenchError where there is none."""
    read_result(Path(folder))  # which checks it
    return Run.read(Path(folder))


def load_split(split: str | Path, *, limit: int | None = None) -> Split:
    """A split's clips, prepared where they are not (`avbench.data.splits`). Raises UsageError for an unknown name."""
    return load_split_by_name(_split_name(split), limit=limit)


class Callback:
    """An evaluation every so many steps of a training loop: watch rFVD while you train.

        watch = avbench.Callback(tokenizer, "arcade-val", every=1_000, metrics=("psnr", "fvd"), limit=101)
        for step in range(steps):
            ...
            watch(step + 1)          # {"psnr": 27.1, "fvd": 412.0} at every 1,000th step, else None

    With accelerate: `if accelerator.is_main_process: watch(step)`. With Lightning: `Trainer(callbacks=[watch.for_lightning()])`.

    tokenizer: an object, or a function that returns one (an export of the model in training). A torch module is put into eval mode for
    the evaluation, and each of its parts back into the mode that it had. Random states stay as they were. Of several processes the one
    that calls evaluates, alone: the others wait at their next meeting, so keep `limit` to what takes minutes.
    `history` holds what was measured: [{"step": ..., name: value}].
    """

    def __init__(
        self,
        tokenizer: Any,
        split: str | Path,
        *,
        every: int,
        metrics: Sequence[str] = (),
        limit: int | None = None,
        device: str = "auto",
        batch_size: int = 8,
        runs_dir: str | Path = "runs/training",
    ) -> None:
        """Raises UsageError unless `every` is 1 or more."""
        if every < 1:
            raise UsageError(f"every={every}: 1 or more steps")
        self.tokenizer, self.split, self.every = tokenizer, split, every
        self.options: dict[str, Any] = {
            "metrics": tuple(metrics), "limit": limit, "device": device, "batch_size": batch_size, "runs_dir": runs_dir,
        }  # fmt: skip
        self.history: list[dict[str, float]] = []

    def __call__(self, step: int) -> dict[str, float] | None:
        """The metrics' values where `step` is a multiple of `every`, else None. Clips that fail are left out, as in every table."""
        if step % self.every:
            return None
        import torch

        made = self.tokenizer if isinstance(self.tokenizer, Tokenizer) else self.tokenizer()
        parts = [part for part in (made, *vars(made).values()) if isinstance(part, torch.nn.Module)]
        modes = [(module, module.training) for part in parts for module in part.modules()]
        devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
        with torch.random.fork_rng(devices=devices):
            try:
                for part in parts:
                    part.eval()
                run = evaluate(made, self.split, progress=False, alone=True, **self.options)
            finally:
                for module, mode in modes:
                    module.training = mode
        values = {value["name"]: value["value"] for value in run.result["values"] if value["value"] is not None}
        self.history.append({"step": step, **values})
        return values

    def for_lightning(self) -> Any:
        """A `lightning.pytorch.Callback` that calls this one after each step of the first process, and logs the values as avbench/NAME."""
        from lightning.pytorch import Callback as LightningCallback

        watch = self

        class AvbenchCallback(LightningCallback):
            step = 0  # several batches of accumulated gradients are one

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                if not trainer.is_global_zero or trainer.global_step == self.step:
                    return
                self.step = trainer.global_step
                if values := watch(self.step):
                    module.log_dict({f"avbench/{name}": value for name, value in values.items()}, rank_zero_only=True)

        return AvbenchCallback()


def _name_of(tokenizer: Tokenizer) -> str:
    info = getattr(tokenizer, "info", None)
    if not isinstance(tokenizer, Tokenizer):
        raise UsageError(f"{type(tokenizer).__name__} is no tokenizer: it needs info, encode and decode (avbench/tokenizer.py)")
    return str(getattr(info, "name", type(tokenizer).__name__))


def _split_name(split: str | Path) -> str:
    """A folder by its path is a split, too."""
    text = str(split)
    base = text.rpartition("?")[0] if "?" in text and not Path(text).expanduser().is_dir() else text
    is_folder = isinstance(split, Path) or (":" not in text and ("/" in base or "\\" in base) and Path(base).expanduser().is_dir())
    return f"folder:{text}" if is_folder else text
