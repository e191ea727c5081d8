"""`avbench table`, `report`, `submit`, `validate`: results to look at, and rows to hand in."""

import sys
from collections import Counter
from pathlib import Path

import click

from avbench.cli.show import terminal

RUNS_DIR = click.option("--runs-dir", type=click.Path(path_type=Path), help="Folder of your own runs.  [default: runs]")
RESULTS = click.option("--results", type=click.Path(path_type=Path), help="A results folder; without --runs-dir it alone is shown.")
NO_PUBLISHED = click.option("--no-published", is_flag=True, help="Without the rows that come with avbench, beside which yours stand.")


@click.command()
@click.option("--split", help="Only this split; default: every split that has runs.")
@click.option("--format", "style", type=click.Choice(["md", "csv", "json", "html", "latex"]), help="Default: for the terminal.")
@click.option("--no-reported", is_flag=True, help="Leave out the numbers of papers.")
@click.option("--write", is_flag=True, help="Also write leaderboards/<split>.md and .csv.")
@NO_PUBLISHED
@RESULTS
@RUNS_DIR
def table(
    split: str | None, style: str | None, no_reported: bool, write: bool, no_published: bool, results: Path | None, runs_dir: Path | None
) -> None:  # fmt: skip
    """Print the leaderboard of the runs at hand, beside the published rows of the same splits.

    Of a run of the first N clips (--limit) the published rows are computed anew over those.
    """
    from avbench.board import formats
    from avbench.board.published import gather
    from avbench.board.table import build_all

    found = gather(runs_dir, results, published=not no_published, split=split)
    board = build_all(found, split, reported=not no_reported)
    if not any(not group.reported for group in board.groups):
        where = " and ".join(str(folder) for folder in (runs_dir, results) if folder) or "runs"
        command = "avbench run --tokenizer NAME --split NAME"
        click.echo(f"no finished run{f' on {split}' if split else ''} in {where}; {command} makes one", err=True)
    click.echo(formats.render(board, style or terminal()))
    for path in formats.write(board, Path("leaderboards")) if write else ():
        click.echo(f"wrote {path}", err=True)


@click.command()
@click.option("--split", help="Only this split; default: every split that has runs.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("site"),
    show_default=True,
    help="Folder of the site; an earlier report is replaced.",
)
@click.option("--training-dir", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Where training runs lie.")
@NO_PUBLISHED
@RESULTS
@RUNS_DIR
def report(split: str | None, out: Path, training_dir: Path, no_published: bool, results: Path | None, runs_dir: Path | None) -> None:
    """Write the runs at hand as a static site: leaderboard, plots, and a gallery to look at and listen to. Last line: its page."""
    from avbench.board.published import gather
    from avbench.report import write_site

    found = gather(runs_dir, results, published=not no_published, split=split)
    site = write_site(out, found=found, split=split, training_dir=training_dir)
    click.echo(f"{site.num_runs} runs, {site.num_sampled} clips to play (avbench run --save-samples K), {site.num_trainings} training runs")
    click.echo(str(site.index))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="A results folder.")
@click.option("--card", type=click.Path(path_type=Path), default=Path("card.yaml"), show_default=True, help="Who stands for the row.")
def submit(run: Path, to: Path, card: Path) -> None:
    """Write a finished run as a row that others can check. Without a card, a template of one is written first. Last line: the folder."""
    from avbench.board.submit import submit as write

    done = write(run, to, card=card)
    for note in done.notes:
        click.echo(note, err=True)
    if done.replaced:
        click.echo("an earlier submission of the same tokenizer, split and protocol was replaced", err=True)
    click.echo(f"avbench validate {to}    # is next", err=True)
    click.echo(str(done.folder))


@click.command()
@click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
@click.option("--base", type=click.Path(path_type=Path), help='The results as they were: "verified" may then not be added or changed.')
def validate(results: Path, base: Path | None) -> None:
    """Check a results folder, or one row's: files, checksums, names, values anew from the rows, bits from the bytes, rows that are there
    twice. Exit 0, or 1 with every reason by folder."""
    from avbench.board.validate import validate as check

    found = check(results, base=base)
    folder = None
    for finding in found.errors:
        if finding.folder != folder:
            folder = finding.folder
            click.echo(folder)
        click.echo(f"    {finding.text}")
    remarks = Counter(finding.text for finding in found.findings if not finding.is_error)
    for text, count in remarks.most_common():
        click.echo(f"{count} rows: {text}")
    wrong = len({finding.folder for finding in found.errors})
    click.echo(f"{found.num_rows} rows, {wrong} refused" if wrong else f"{found.num_rows} rows, all sound")
    sys.exit(1 if wrong else 0)
