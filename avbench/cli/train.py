"""`avbench train`: one call of `train`, and a line that says where it left the run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from avbench.errors import UsageError

if TYPE_CHECKING:
    from avbench.train.config import TrainConfig


@click.command(name="train")
@click.argument("recipe")
@click.option("--split", default="arcade-train", show_default=True, help="Clips to train on.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run; default: out/RECIPE[-CLIPS]. An existing run is resumed.")
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Pause after so many minutes; the same command goes on.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Train for so many seconds instead of the recipe's clips; such a run cannot be resumed.",
)
@click.option("--stage", help="Pause after this stage (video, audio, decode or joint).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--limit", type=click.IntRange(min=5), help="Only the first N clips of the split.")
@click.option("--clips", type=click.IntRange(min=1), help="See so many clips in all, stages in proportion, instead of the recipe's number.")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed than the recipe's.")
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    help="A folder that a training wrote: begin a new run with its weights, and fresh optimisers.",
)
@click.option("--tokenizer", help="Generators (ar-...): whose tokens to learn; default: avtok.")
@click.option("--tokenizer-checkpoint", type=click.Path(), help="Generators: the tokenizer's weights, as --checkpoint of run.")
@click.option("--tasks", help="Generators: what to learn, of a2v, v2a and av; default: a2v,v2a,av.")
def command(
    recipe: str,
    out: Path | None,
    clips: int | None,
    seconds: float | None,
    tokenizer: str | None,
    tokenizer_checkpoint: str | None,
    tasks: str | None,
    **options: Any,
) -> None:
    """Train a recipe (avbench list recipes), or go on where it was stopped or killed. Its folder is a checkpoint, or a generator."""
    from avbench.train.budget import Budget
    from avbench.train.loop import train

    config = _config(recipe, tokenizer, tokenizer_checkpoint, tasks)
    folder = config.name if clips is None else f"{config.name}-{clips}"
    budget = None if seconds is None else Budget(seconds=seconds)
    done = train(config, out=out or Path("out") / folder, clips=clips, budget=budget, **options)
    state = "finished" if done.finished else f"paused in stage {done.stage}; the same command goes on"
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in done.held_out.items())
    click.echo(f"{recipe}: {state}; {done.clips_seen:,} clips seen in {done.minutes:.1f} minutes  {numbers}")
    click.echo(str(done.out))


def _config(recipe: str, tokenizer: str | None, checkpoint: str | None, tasks: str | None) -> "TrainConfig":
    """The recipe; a generator's, for its tokenizer and tasks."""
    from avbench.generate.tasks import TASKS
    from avbench.generate.trainee import GeneratorTraining
    from avbench.train import recipes

    config = recipes.config(recipe)
    if isinstance(config, GeneratorTraining):
        return config.of(tokenizer or config.tokenizer, checkpoint, tuple(tasks.split(",")) if tasks else TASKS)
    if tokenizer or checkpoint or tasks:
        raise UsageError(f"--tokenizer, --tokenizer-checkpoint and --tasks are for generators (ar-mini, ...); {recipe} is none")
    return config
