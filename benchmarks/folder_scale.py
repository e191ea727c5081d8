"""How long a folder of N files takes until the first row of its first run, and of its second; and how much memory.

    python benchmarks/folder_scale.py                  # 100, 10,000 and 100,000 files
    python benchmarks/folder_scale.py --files 1000

The files are hard links to one second of sound. Listing them, looking at each, writing and reading prepared clips are what they are for
any files; decoding is left out (it takes what the files take) and timed apart, over 200 of them.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from avbench.data import splits, workers
from avbench.data.files import Files
from avbench.data.folder import folder_source
from avbench.data.source import Made
from avbench.protocol import parse
from avbench.run.evaluate import evaluate
from avbench.run.store import RunStore
from avbench.types import RunSpec

PROTOCOL = parse("only=audio&seconds=0.5&rate=8000")
PER_FOLDER = 1_000
DECODED = 200


class Undecoded(Files):
    """The files of a folder, each taken for silence."""

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        """Without a look into the file."""
        silence = bytes(2 * self.protocol.num_samples)
        for index in indices:
            yield Made(index=index, pin=f"{index:064x}", audio=silence)


class FirstRow(Exception):
    """The first row is there."""


def write(folder: Path, count: int) -> None:
    """`count` files in folders of a thousand; more links than that to one file are not possible everywhere."""
    sound = 0.1 * np.sin(np.arange(8_000) / 3)
    for number in range(count):
        below = folder / f"{number // PER_FOLDER:04d}"
        first = below / f"{number // PER_FOLDER * PER_FOLDER:06d}.wav"
        if number % PER_FOLDER:
            os.link(first, below / f"{number:06d}.wav")
        else:
            below.mkdir(parents=True)
            soundfile.write(first, sound, 8_000, subtype="PCM_16")


def until_first_row(folder: Path, runs: Path, decode: bool) -> float:
    """Seconds from the command to the first row."""

    def stop(*_: object) -> None:
        raise FirstRow

    def find(name: str) -> Files:
        found = folder_source(f"folder:{folder}", PROTOCOL)
        return found if decode else Undecoded(**{key: getattr(found, key) for key in found.__dataclass_fields__})

    splits.find, RunStore.save = find, stop  # type: ignore[assignment,method-assign]
    started = time.perf_counter()
    try:
        spec = RunSpec(tokenizer="silence", split=f"folder:{folder}", metrics=("mr_stft",), device="cpu")
        evaluate(spec, runs_dir=runs, isolate=False, progress=False)
    except FirstRow:
        return time.perf_counter() - started
    raise AssertionError("no row was made")


def measure(count: int) -> str:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["AVBENCH_CACHE"] = f"{place}/cache"
        folder = Path(place, "files")
        write(folder, count)
        started = time.perf_counter()
        source = folder_source(f"folder:{folder}", PROTOCOL)
        listed = time.perf_counter() - started
        first, second = (until_first_row(folder, Path(place, name), decode=False) for name in ("a", "b"))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        few = replace(source, clips=source.clips[:DECODED], paths=source.paths[:DECODED])
        started = time.perf_counter()
        decoded = sum(made.failure is None for made in few.make(range(len(few.clips)), 1))
        pace = (time.perf_counter() - started) / decoded
    return f"| {count:,} | {listed:.2f} | {first:.1f} | {second:.1f} | {memory:,.0f} | {1000 * pace:.0f} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int)
    asked = parser.parse_args()
    if asked.files is not None:
        print(measure(asked.files))
        sys.exit()
    print(f"{workers.available_cores()} cores\n")
    print("| files | listed (s) | first run's first row (s) | second run's (s) | peak memory (MB) | decoding one file on one core (ms) |")
    print("|--:|--:|--:|--:|--:|--:|")
    for count in (100, 10_000, 100_000):
        done = subprocess.run([sys.executable, __file__, "--files", str(count)], capture_output=True, text=True, check=True)
        print(done.stdout.splitlines()[-1], flush=True)
