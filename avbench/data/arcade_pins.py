"""Makes the pinned checksums of the arcade splits anew: `python -m avbench.data.arcade_pins --out FOLDER [SPLIT ...]`.

For a new version of the policy or of ale-py, and to check that another machine gives the same bytes (`cmp` with pins/).
Writes round by round (one episode of each game), so a part of it is a shorter valid split, and goes on where a file in FOLDER ends.
"""

from pathlib import Path

import click

from avbench.data import workers
from avbench.data.arcade import CLIPS_PER_EPISODE, PIN_BYTES, emulate
from avbench.data.arcade_games import GAMES
from avbench.errors import AvbenchError
from avbench.types import Protocol

CLIPS_PER_GAME = {"arcade-test": 10, "arcade-val": 5, "arcade-train": 200}


@click.command()
@click.argument("splits", nargs=-1, type=click.Choice(list(CLIPS_PER_GAME)))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--jobs", type=click.IntRange(min=1), default=workers.available_cores())
def main(splits: tuple[str, ...], out: Path, jobs: int) -> None:
    """Write SPLIT.bin for each split into --out."""
    out.mkdir(parents=True, exist_ok=True)
    for stem in splits or tuple(CLIPS_PER_GAME):
        path = out / f"{stem}.bin"
        done = path.stat().st_size // (PIN_BYTES * len(GAMES)) if path.exists() else 0
        for first in range(done, CLIPS_PER_GAME[stem], CLIPS_PER_EPISODE[stem]):
            with path.open("ab") as file:
                file.write(_round(stem, first, jobs))
            click.echo(f"{stem}: {(first + CLIPS_PER_EPISODE[stem]) * len(GAMES)} clips", err=True)


def _round(stem: str, first: int, jobs: int) -> bytes:
    """Pins of one episode of each game, from clip number `first` of the game on."""
    indices = range(first * len(GAMES), (first + CLIPS_PER_EPISODE[stem]) * len(GAMES))
    pins: dict[int, bytes] = {}
    for index, reply in emulate(stem, indices, jobs, protocol=Protocol(), raw_only=True):
        if reply.failure is not None:
            raise AvbenchError(f"{stem} clip {index}: {reply.failure}")
        pins[index] = bytes.fromhex(reply.header["raw"])[:PIN_BYTES]
    return b"".join(pins[index] for index in indices)


if __name__ == "__main__":
    main()
