"""Which distance of two sets puts two known tokenizers in the right order, and from how many clips?

    OMP_NUM_THREADS=1 python benchmarks/few_clips.py [--draws 200]

A simulation on real features. Clips are real: I3D's logits and the sound-effects network's numbers of 2,020 clips of arcade-train, which
come with avbench. So are errors: what H.264 at 5 kbit/s and Opus at 12 kbit/s moved those features by, from the rows that are published.
A tokenizer is a strength: it moves every clip by the error of a clip drawn at random, times that. So the better of two is known.

"reconstruction": both tokenizers make the clips that they are compared with. "generation": clips are compared with others. Each cell: the
share of draws, in per cent, in which the better one is ahead (ties count half); 50 is a coin, and with 200 draws +-7 are chance.
"from 50": the better tokenizer's mean value of 50 clips over that of 1,000; 1 where the number of clips does not matter.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tabulate import tabulate

from avbench.board.clips import RunClips
from avbench.metric import MetricOptions
from avbench.metrics.coverage import coverage, density
from avbench.metrics.extrapolated import extrapolated
from avbench.metrics.features import training_features
from avbench.metrics.frechet import frechet_from_features
from avbench.metrics.kernel_distance import gaussian, kernel_distance, median_distance, polynomial
from avbench.sparse import dense

ERRORS_OF = Path("results/h264@5k-opus@12k/2-libx264-62.28.102-5000bps+libopus-62.28.102-12000bps/arcade-mini_avtok")
COUNTS = (50, 100, 1_000)
RATIOS = (1.1, 1.5)  # of the worse tokenizer's strength to the better one's
ROWS = {"video": "fvd", "audio": "fad_aisfx"}
Distance = Callable[[np.ndarray], float]  # rows (N, 2, D) -> the value, less is better


def frechet(rows: np.ndarray) -> float:
    """FVD, FAD."""
    return frechet_from_features(rows[:, 0], rows[:, 1])


DISTANCES: dict[str, Distance] = {
    "Frechet (FVD, FAD)": frechet,
    "Frechet at infinity": lambda rows: extrapolated(frechet, rows),
    "kernel, polynomial (KVD)": lambda rows: kernel_distance(rows, lambda reference: polynomial),
    "kernel, Gaussian (KAD)": lambda rows: kernel_distance(rows, lambda reference: gaussian(median_distance(reference))),
    "density": lambda rows: -density(rows[:, 0], rows[:, 1]),
    "coverage": lambda rows: -coverage(rows[:, 0], rows[:, 1]),
}


def errors_of(modality: str) -> np.ndarray:
    """(N, D) what a codec's reconstructions moved a clip's features by, windows averaged."""
    clips = RunClips.read(ERRORS_OF)
    rows = dense(clips.features(ROWS[modality], list(clips.ids))).astype(np.float64)
    means = rows.reshape(len(rows), 2, -1, rows.shape[-1]).mean(axis=2)
    return np.asarray(means[:, 1] - means[:, 0])


class World:
    """Clips and errors of one modality."""

    def __init__(self, modality: str) -> None:
        self.clips = training_features.of(modality, MetricOptions()).astype(np.float64)
        self.errors = errors_of(modality)

    def rows(self, count: int, strength: float, task: str, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(count, 2, D) of a tokenizer; chosen: a permutation of all clips, of which the first are the reference."""
        sources = chosen[:count] if task == "reconstruction" else chosen[-count:]
        made = self.clips[sources] + strength * self.errors[rng.integers(len(self.errors), size=count)]
        return np.stack([self.clips[chosen[:count]], made], axis=1)


def ahead(world: World, name: str, task: str, count: int, ratio: float, draws: int) -> tuple[float, float]:
    """Share of draws in which the better tokenizer is ahead, and its mean value."""
    rng, wins, values = np.random.default_rng(0), [], []
    for _ in range(draws):
        chosen = rng.permutation(len(world.clips))
        better, worse = (DISTANCES[name](world.rows(count, strength, task, chosen, rng)) for strength in (1.0, ratio))
        wins.append(1.0 if better < worse else 0.5 if better == worse else 0.0)
        values.append(better)
    return float(np.mean(wins)), float(np.mean(values))


def main() -> None:
    """A table a modality and task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--names", nargs="*", default=list(DISTANCES), choices=list(DISTANCES))
    options = parser.parse_args()
    for modality in ROWS:
        world = World(modality)
        for task in ("reconstruction", "generation"):
            table = []
            for name in options.names:
                found = {(count, ratio): ahead(world, name, task, count, ratio, options.draws) for count in COUNTS for ratio in RATIOS}
                few, many = (found[count, RATIOS[0]][1] for count in (COUNTS[0], COUNTS[-1]))
                shares = [f"{100 * found[count, ratio][0]:.0f}" for ratio in RATIOS for count in COUNTS]
                table.append([name, *shares, f"{few / many:.2f}" if many else "n/a"])
                print(f"{modality}, {task}, {name}: done", flush=True)
            headers = [f"{modality}, {task}", *(f"{ratio:g}x, N = {count:,}" for ratio in RATIOS for count in COUNTS), "from 50"]
            print(tabulate(table, headers=headers, tablefmt="pipe", disable_numparse=True), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
