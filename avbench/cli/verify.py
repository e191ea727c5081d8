"""`avbench verify`: is a row what its bytes say?"""

import sys
from pathlib import Path

import click


@click.command(name="verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--tokenizer", help="Where it is on this machine, if not where the run had it: a name, path/to/file.py:Class.")
@click.option("--checkpoint", type=click.Path(), help="Its weights on this machine, if not where the run had them.")
@click.option("--device", help="Default: the run's; the CPU where there is no such one.")
@click.option(
    "--reencode", type=click.IntRange(min=0), default=4, show_default=True, metavar="N",
    help="Decode at least N clips alone, and encode them again: whole batches, by chance.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of that chance: choose one that nobody knows.")
@click.option("--by", help="Who signs.  [default: this user's name]")
@click.option("--memory", type=click.FloatRange(min=0, min_open=True), metavar="GB", help="Of the decoder.  [default: what is free]")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=1800, show_default=True, help="Seconds for a batch, as avbench run."
)
def command(
    folder: Path, tokenizer: str | None, checkpoint: str | None, device: str | None, reencode: int, seed: int, by: str | None,
    memory: float | None, timeout: float,
) -> None:  # fmt: skip
    """Make a row again from its kept bytes, within walls, and compare every number.

    FOLDER is a run's (runs/ID) or a submission's. Exits with 0 where all is as stored, and signs manifest.json; with 1 and the list of
    what differs otherwise. What is checked, and what it proves: docs/trust.md.
    """
    from avbench.run.differences import told
    from avbench.run.verify import verify

    done = verify(
        folder, reencode=reencode, seed=seed, tokenizer=tokenizer, checkpoint=checkpoint, device=device, by=by, timeout_s=timeout,
        memory_bytes=None if memory is None else int(memory * 1e9),
    )  # fmt: skip
    for line in told(done.differences):
        click.echo(line)
    for remark in done.remarks:
        click.echo(remark)
    click.echo(f"walls that held: {', '.join(done.standing.held) or 'none'}")
    for wall, why in done.standing.missing.items():
        click.echo(f"no wall on this machine: {wall} ({why})")
    verdict = "NOT verified" if done.differences else "verified"
    number = f", {len(done.differences)} differences" if done.differences else ""
    click.echo(f"{verdict}: {folder}, {done.num_clips} clips, {done.num_metrics} metrics{number}")
    sys.exit(1 if done.differences else 0)
