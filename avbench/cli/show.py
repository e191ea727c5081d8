"""What `avbench run` and `avbench score` print of a finished run."""

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from avbench.run.evaluate import Run


def terminal() -> str:
    """The format for what stdout is."""
    return "ansi" if sys.stdout.isatty() else "text"


def finish(done: "Run") -> None:
    """The run's row and, as the last line, its folder; exits with 3 if clips failed, else with 0."""
    from avbench.board.formats import render
    from avbench.board.results import Results, read_result
    from avbench.board.table import build_all

    if not done.is_main:
        return
    if done.reused:
        click.echo(f"finished {done.result['finished'][:16].replace('T', ' ')} UTC, reused; --fresh recomputes", err=True)
    row = build_all(Results(results=(read_result(done.folder),)), reported=False)
    brief = tuple(replace(group, legend=()) for group in row.groups)  # each metric's protocol: avbench table
    click.echo(render(replace(row, groups=brief), terminal()))
    click.echo(str(done.folder))
    for reason, count in done.result["failures"].items():
        click.echo(f"{count} of {done.result['num_clips']} clips failed: {reason}", err=True)
    if done.num_failed and "TORCHELASTIC_RUN_ID" in os.environ:
        click.echo("under torchrun the exit code is 0, since torchrun calls any other a crash; a single process exits with 3", err=True)
        sys.exit(0)
    sys.exit(3 if done.num_failed else 0)
