"""`avbench score`: clips that were made elsewhere."""

from pathlib import Path

import click

from avbench.cli.show import finish
from avbench.types import DEFAULT_TASK


@click.command(name="score")
@click.argument("reference")
@click.argument("outputs", type=click.Path())
@click.option("--task", default=DEFAULT_TASK, show_default=True, help="What they are: reconstructions, or a2v, v2a, av generated.")
@click.option("--name", default="", help="Of the row; default: the folder's own name.")
@click.option(
    "--pairs", type=click.Path(), metavar="CSV", help="Columns reference,output[,bytes]; default: files of one name belong together."
)
@click.option("--bits-per-s", type=float, help="What a clip takes, in the word of whoever made them.")
@click.option("--only", type=click.Choice(["video", "audio"]), help="Score this alone; default: what both sides have.")
@click.option("--fps", type=float, help="Of folders of PNGs.")
@click.option("--unpaired", is_flag=True, help="Compare two sets, of whatever size: FVD, FAD and their like alone.")
@click.option("--metrics", default="", help="Comma-separated names, of sets too (avbench list metrics).  [default: what suits]")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N references: a row of its own group.")
@click.option("--device", default="auto", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--fresh", is_flag=True, help="Forget what an earlier score of the same files left.")
@click.option("--save-samples", type=click.IntRange(min=0), default=0, metavar="K", help="Save the first K clips as mp4 and PNG.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of the runs.")
def command(
    reference: str, outputs: str, task: str, name: str, pairs: str | None, bits_per_s: float | None, only: str | None, fps: float | None,
    unpaired: bool, metrics: str, limit: int | None, device: str, batch_size: int, fresh: bool, save_samples: int, runs_dir: Path,
) -> None:  # fmt: skip
    """Score the finished clips in OUTPUTS against those in REFERENCE: a folder or a split, with "?res=256&fps=25..." at a protocol.

    Videos, sound files, and folders of PNGs. Both sides are read, resized and resampled alike; a pair that differs in length or shape is
    a failed row that says so. Prints the row, and last the run's folder, as avbench run does.
    """
    from avbench.api import score

    finish(
        score(
            reference, outputs, task=task, name=name or None, pairs=pairs, bits_per_s=bits_per_s, only=only, fps=fps,
            unpaired=unpaired, metrics=tuple(metric.strip() for metric in metrics.split(",") if metric.strip()), limit=limit, device=device,
            batch_size=batch_size, fresh=fresh, save_samples=save_samples, runs_dir=runs_dir,
        )
    )  # fmt: skip
