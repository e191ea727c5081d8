"""Writes what class agreement and the memorisation check look through: features of the training clips, and the classifier fitted to them.

    python leaderboards/make/heads.py

20 minutes of a core where the features are not in the cache. Two files in metrics/features/arcade-train/, whose names say what they were
made of; files of other names there are removed.
"""

import torch

from avbench.metric import MetricOptions
from avbench.metrics.features import classifier, training_clips, training_features
from avbench.metrics.features.frozen import MODALITIES, Frozen


def main() -> None:
    """Both files anew."""
    split = training_clips.load()
    features = {modality: Frozen(modality, MetricOptions()).of_split(split) for modality in MODALITIES}
    training_features.SHIPPED.mkdir(exist_ok=True)
    for file in training_features.SHIPPED.iterdir():
        file.unlink()
    training_features.write(training_features.shipped_file(), {name: torch.from_numpy(rows) for name, rows in features.items()})
    classifier.write(classifier.fit(features, training_clips.labels()), classifier.fitted_files()[0])
    for file in sorted(training_features.SHIPPED.iterdir()):
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
