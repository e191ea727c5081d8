"""Which distance of two sets puts two known tokenizers in the right order, and from how many clips?

    OMP_NUM_THREADS=1 python benchmarks/few_clips.py [--draws 200] [--run results/...]

A simulation on real features. Clips are real (I3D's logits and the sound-effects network's numbers of 2,020 clips of arcade-train, which come
with avbench), and so are errors: what a codec's reconstructions moved those features by, from the features that a published run keeps.
A tokenizer is a strength: it moves every clip by the error of a clip drawn at random, times that. So the better of two is known.

"reconstruction": both tokenizers make the same clips that they are compared with, and share the errors' order. "generation": what is
compared are other clips. Each cell: the share of draws, in per cent, in which the better one is ahead (ties count half); 50 is a coin.
The last column: the better tokenizer's value at the smallest N over that at the largest, 1 where the number of clips does not matter.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tabulate import tabulate

from avbench.board.clips import read_clips
from avbench.metric import MetricOptions
from avbench.metrics.coverage import coverage, density
from avbench.metrics.extrapolated import at_infinity, subset_counts
from avbench.metrics.features import training_features
from avbench.metrics.frechet import frechet_from_features
from avbench.metrics.kernel_distance import gaussian, kernel_distance, median_distance, polynomial

ERRORS_OF = Path("results/h264@5k-opus@12k/2-libx264-62.28.102-5000bps+libopus-62.28.102-12000bps/arcade-mini_avtok")
COUNTS = (50, 100, 1_000)
RATIOS = (1.05, 1.2, 1.5)  # of the worse tokenizer's strength to the better one's
Distance = Callable[[np.ndarray, np.ndarray], float]
