"""`avbench run --suite FILE`, and arguments of a constructor by name."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from avbench.errors import UsageError
from avbench.types import DEFAULT_TASK

BESIDE = frozenset({"suite", "device", "retry_failed", "fresh", "save_samples", "metrics_memory", "timeout", "runs_dir"})


def check_beside_suite(context: click.Context) -> None:
    """Raises UsageError for an option that was given and that only the suite decides."""
    given = [name for name in context.params if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    other = ", ".join("--" + name.replace("_", "-") for name in given if name not in BESIDE)
    if other:
        raise UsageError(f"a suite says itself what is run: --suite goes without {other} (docs/suites.md)")


def run_all(file: Path, *, device: str, **how: Any) -> None:
    """Every run of a suite, a line each, then the table of their splits; exits with 1 if one could not be made, 3 if clips failed."""
    from avbench.board.formats import render
    from avbench.board.results import Results, read_result
    from avbench.board.table import build_all
    from avbench.cli.show import terminal
    from avbench.run.suite import read_suite, run_suite

    folders, errors, failed = [], 0, 0
    for outcome in run_suite(read_suite(file, device=device), **how):
        spec, run = outcome.spec, outcome.run
        task = "" if spec.task == DEFAULT_TASK else f", {spec.task}"
        what = f"[{outcome.number}/{outcome.total}] {spec.tokenizer} on {spec.split}{task}"
        if run is None:
            errors += 1
            click.echo(f"{what}: {outcome.error}", err=True)
            continue
        if not run.is_main:
            continue
        failed += run.num_failed
        clips = f", {run.num_failed} clips failed" if run.num_failed else ""
        click.echo(f"{what}: {'reused' if run.reused else 'done'}{clips}  {run.folder}", err=True)
        folders.append(run.folder)
    if folders:
        board = build_all(Results(results=tuple(read_result(folder) for folder in folders)), reported=False)
        click.echo(render(board, terminal()))
    sys.exit(1 if errors else 3 if failed else 0)


def named_args(given: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """("levels=8", "name=x") -> (("levels", 8), ("name", "x")): a value that is JSON is read as such. Raises UsageError."""
    found: dict[str, Any] = {}
    for item in given:
        key, mark, value = item.partition("=")
        if not mark or not key.isidentifier() or key in found:
            raise UsageError(f"--tokenizer-args {item}: KEY=VALUE, each key once")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return tuple(sorted(found.items()))
