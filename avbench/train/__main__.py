"""`python -m avbench.train`: what `avbench train` runs, also under torchrun and accelerate launch."""

import sys

import click

from avbench.cli.train import command
from avbench.errors import AvbenchError, UsageError

if __name__ == "__main__":
    try:
        command()
    except AvbenchError as error:
        click.echo(f"avbench: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
