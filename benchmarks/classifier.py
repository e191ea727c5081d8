"""Known answers of class agreement and of the memorisation check: `python benchmarks/classifier.py [SPLIT] [--penalties]`.

What the metrics give for real clips, for real clips in wrong pairs, for other real clips of the same game, and for training clips. Makes
the training clips, their features and the split's where they are not in the cache (half an hour of a core at the first call). With
--penalties: the table that the classifier's C was chosen by, from training clips alone.
"""

import argparse

import numpy as np
import torch
from tabulate import tabulate

from avbench.data import splits
from avbench.generate.controls import mismatched
from avbench.metric import MetricOptions
from avbench.metrics.class_agreement import class_accuracy, same_argmax, shared_mass
from avbench.metrics.features import classifier, training_clips, training_features
from avbench.metrics.features.classifier import Features
from avbench.metrics.features.frozen import MODALITIES, Frozen
from avbench.metrics.memorisation import distance_ratio

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
SHUFFLES = 20


def features_of(split: splits.Split) -> Features:
    """Both modalities' features of `split`, in the order of its clips."""
    return {modality: Frozen(modality, MetricOptions()).of_split(split) for modality in MODALITIES}


def penalties(training: Features) -> list[list[object]]:
    """A row a C and head: accuracy and mean log-loss on the training clips, each by a fit without its own episode."""
    names = training_clips.labels()
    truth = np.searchsorted(sorted(set(names)), names)
    rows: list[list[object]] = []
    for penalty in PENALTIES:
        for head, found in classifier.held_out(training, names, training_clips.episodes(), penalty).items():
            loss = -np.log(found[np.arange(len(truth)), truth].clip(1e-300)).mean()
            rows.append([penalty, head, class_accuracy(found, truth).mean(), loss])
    return rows


def derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """A random order (count,) in which no place keeps its own."""
    while True:
        order = rng.permutation(count)
        if (order != np.arange(count)).all():
            return order


def agreement(model: classifier.Classifier, features: Features, truth: np.ndarray) -> list[list[object]]:
    """Rows of the class metrics: real clips, with the sound of any other clip (mean over shuffles), and with that of another class."""
    found = {head: model.probabilities(head, features) for head in classifier.HEADS}
    rows: list[list[object]] = [[f"class_accuracy_{head}", class_accuracy(found[head], truth).mean()] for head in found]
    rng = np.random.default_rng(0)
    orders = [derangement(len(truth), rng) for _ in range(SHUFFLES)]
    other_class = list(mismatched([str(number) for number in truth]))
    for name, metric in (("av_agreement", same_argmax), ("av_agreement_soft", shared_mass)):
        any_other = np.mean([metric(found["video"], found["audio"][order]).mean() for order in orders])
        wrong = metric(found["video"], found["audio"][other_class]).mean()
        rows.append([name, metric(found["video"], found["audio"]).mean(), any_other, wrong])
    return rows


def novelty(features: Features, training: Features, labels: np.ndarray) -> list[list[object]]:
    """Rows of the memorisation check: real clips in the place of other ones of their game, and training clips of the game."""
    rows: list[list[object]] = []
    other = _next_of_its_class(labels)
    known = np.array(training_clips.labels())
    copies = np.array([np.flatnonzero(known == label)[0] for label in labels])
    for modality in MODALITIES:
        real, train = features[modality], training[modality]
        honest = None if other is None else np.nanmean(distance_ratio(real[other], real, train))
        rows.append([f"nearest_train_{modality}", honest, np.nanmean(distance_ratio(train[copies], real, train))])
    return rows


def _next_of_its_class(labels: np.ndarray) -> np.ndarray | None:
    """(N,) another clip of the same class for each; None where a class has one clip only."""
    other = np.arange(len(labels))
    for label in set(labels):
        places = np.flatnonzero(labels == label)
        other[places] = np.roll(places, -1)
    return None if (other == np.arange(len(labels))).any() else other


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", nargs="?", default="arcade-test")
    parser.add_argument("--penalties", action="store_true", help="the table that C was chosen by")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training = {modality: training_features.of(modality, MetricOptions()) for modality in MODALITIES}
    if arguments.penalties:
        print(tabulate(penalties(training), headers=["C", "head", "accuracy", "log-loss"], floatfmt=("g", "", ".4f", ".4f")))
        return
    split = splits.load(arguments.split)
    features, labels = features_of(split), np.array([clip.label or "" for clip in split.clips])
    model = classifier.load(MetricOptions())
    rows = agreement(model, features, model.positions(list(labels)))
    print(tabulate(rows, headers=[split.name, "real", "sound of another clip", "sound of another class"], floatfmt=".4f"), end="\n\n")
    rows = novelty(features, training, labels)
    print(tabulate(rows, headers=[split.name, "another real clip of the game", "a training clip of the game"], floatfmt=".4f"))


if __name__ == "__main__":
    main()
