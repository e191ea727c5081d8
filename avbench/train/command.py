"""`avbench train`: one call of `train`, and a line that says where it left the run."""

from pathlib import Path
from typing import Any

import click


@click.command(name="train")
@click.argument("recipe")
@click.option("--split", default="arcade-train", show_default=True, help="Clips to train on.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run; default: out/RECIPE[-CLIPS]. An existing run is resumed.")
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Pause after so many minutes; the same command goes on.")
@click.option("--stage", help="Pause after this stage (video, audio, decode or joint).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--limit", type=click.IntRange(min=5), help="Only the first N clips of the split.")
@click.option("--clips", type=click.IntRange(min=1), help="See so many clips in all, stages in proportion, instead of the recipe's number.")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed than the recipe's.")
def command(recipe: str, out: Path | None, clips: int | None, **options: Any) -> None:
    """Train a recipe (avbench list recipes), or go on where it was stopped or killed. Its folder is a checkpoint of `avtok`."""
    from avbench.train.loop import train

    folder = recipe if clips is None else f"{recipe}-{clips}"
    done = train(recipe, out=out or Path("out") / folder, clips=clips, **options)
    state = "finished" if done.finished else f"paused in stage {done.stage}; the same command goes on"
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in done.held_out.items())
    click.echo(f"{recipe}: {state}; {done.clips_seen:,} clips seen in {done.minutes:.1f} minutes  {numbers}")
    click.echo(str(done.out))
