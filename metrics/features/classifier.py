"""A small classifier of real clips: multinomial logistic regression on frozen features of the video, of the audio, and of both.

It is fitted once, to the first 2,020 clips of arcade-train, and kept in the cache with its accuracy on the clips of arcade-val.
N clips, D numbers a clip, K classes.
"""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from avbench.errors import AvbenchError
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics.features.frozen import KEYS, MODALITIES, Frozen
from avbench.paths import cache_root

if TYPE_CHECKING:
    from avbench.data.splits import Split

TRAIN_SPLIT, VAL_SPLIT = "arcade-train", "arcade-val"
TRAIN_CLIPS = 2020  # twenty of each of its 101 games: those that the generators here are trained on
HEADS: dict[str, tuple[str, ...]] = {"video": ("video",), "audio": ("audio",), "av": ("video", "audio")}
INVERSE_PENALTY = 0.03  # of scikit-learn: C
MAX_STEPS = 1000
FIT_VERSION = 1  # raise it when `fit` changes: a fit of older code in somebody's cache must not pass for this one

Features = Mapping[str, np.ndarray]  # "video" (N, 400), "audio" (N, 512): what a head reads


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """labels: of the K classes, sorted. heads: name -> weight (K, D) and bias (K,), of raw features. accuracy: of each head, held out."""

    labels: tuple[str, ...]
    heads: Mapping[str, tuple[np.ndarray, np.ndarray]]
    accuracy: Mapping[str, float]
    num_val: int

    @property
    def chance(self) -> float:
        """Accuracy of a guess: every class is as frequent as any other."""
        return 1 / len(self.labels)

    def probabilities(self, head: str, features: Features) -> np.ndarray:
        """(N, K) float64, by the head called "video", "audio" or "av"; it reads its own modalities of `features`."""
        weight, bias = self.heads[head]
        scores = _joined(head, features) @ weight.T.astype(np.float64) + bias
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def positions(self, labels: Sequence[str]) -> np.ndarray:
        """int64 (N,) in [0, K). Raises MetricUnavailable for a class that it does not know."""
        known = {label: index for index, label in enumerate(self.labels)}
        for label in labels:
            if label not in known:
                raise MetricUnavailable(f'the classifier learned the {len(known)} classes of {TRAIN_SPLIT}, not "{label}"')
        return np.array([known[label] for label in labels], dtype=np.int64)


def fit(features: Features, labels: Sequence[str], val_features: Features, val_labels: Sequence[str]) -> Classifier:
    """All heads, fitted to `features` of clips with `labels`; accuracy over the val clips. The same input gives the same classifier."""
    heads = {head: _fit_head(_joined(head, features), np.array(labels)) for head in HEADS}
    classifier = Classifier(labels=tuple(sorted(set(labels))), heads=heads, accuracy={}, num_val=len(val_labels))
    truth = classifier.positions(val_labels)
    guesses = {head: classifier.probabilities(head, val_features).argmax(axis=1) for head in HEADS}
    return replace(classifier, accuracy={head: float((guess == truth).mean()) for head, guess in guesses.items()})


def _fit_head(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_STEPS).fit((features - mean) / std, labels)
    weight = model.coef_ / std  # the scaling goes into the weights, so that a head reads features as they come
    return weight.astype(np.float32), (model.intercept_ - weight @ mean).astype(np.float32)


def _joined(head: str, features: Features) -> np.ndarray:
    return np.concatenate([np.asarray(features[modality], np.float64) for modality in HEADS[head]], axis=1)


def check_classes(classes: frozenset[str] | None) -> None:
    """Raises MetricUnavailable, before anything is computed, where a split's classes are all strange to arcade-train."""
    from avbench.data import splits

    if classes is None:
        return
    known = {clip.label for clip in splits.find(TRAIN_SPLIT).clips[:TRAIN_CLIPS]}
    if not classes & known:
        here = f'none of the classes here, such as "{min(classes)}"' if classes else "these clips have no labels"
        raise MetricUnavailable(f"looks at clips with the eyes of the {len(known)} games of {TRAIN_SPLIT}, and {here}; use an arcade split")


def load(options: MetricOptions) -> Classifier:
    """The classifier of the file in the cache; makes it where it is not there. Raises MetricUnavailable without the networks' weights."""
    return read(_fitted_file(options))


def _fitted_file(options: MetricOptions) -> Path:
    from avbench.data import splits

    train, val = splits.load(TRAIN_SPLIT, limit=TRAIN_CLIPS), splits.load(VAL_SPLIT)
    inputs = hashlib.sha256(json.dumps([train.checksum, val.checksum, KEYS]).encode()).hexdigest()[:12]
    file = cache_root() / "fitted" / f"classifier-fit{FIT_VERSION}-{inputs}.safetensors"
    if not file.exists():
        count = len(train.clips) + len(val.clips)
        print(f"class agreement: features of {count} clips, once (about half a second each on one core)", file=sys.stderr)
        classifier = fit(*_clips(train, options), *_clips(val, options))
        print(f"class agreement: accuracy on {VAL_SPLIT} {_percent(classifier.accuracy)}", file=sys.stderr)
        write(classifier, file)
    return file


def _clips(split: "Split", options: MetricOptions) -> tuple[Features, list[str]]:
    """Features of both modalities, and the labels."""
    found = {modality: Frozen(modality, options).of_split(split) for modality in MODALITIES}
    return {modality: features for modality, (features, _) in found.items()}, [label or "" for label in found["video"][1]]


def _percent(accuracy: Mapping[str, float]) -> str:
    return ", ".join(f"{head} {share:.1%}" for head, share in accuracy.items())


def write(classifier: Classifier, file: Path) -> None:
    """Write the fitted file, all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Contiguous: safetensors writes a transposed array's memory as it lies, under the shape it seems to have.
    arrays = {f"{head}.weight": np.ascontiguousarray(weight) for head, (weight, _) in classifier.heads.items()}
    arrays |= {f"{head}.bias": bias for head, (_, bias) in classifier.heads.items()}
    facts = {"labels": classifier.labels, "accuracy": dict(classifier.accuracy), "num_val": classifier.num_val}
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".classifier-") as scratch:
        part = Path(scratch) / file.name
        save_file(arrays, part, metadata={"facts": json.dumps(facts)})
        os.replace(part, file)


def read(file: Path) -> Classifier:
    """What `write` wrote. Raises AvbenchError where the file is damaged or of another kind."""
    try:
        with safe_open(file, framework="numpy") as content:
            facts = json.loads((content.metadata() or {})["facts"])
            heads = {head: (content.get_tensor(f"{head}.weight"), content.get_tensor(f"{head}.bias")) for head in HEADS}
        labels = tuple(str(label) for label in facts["labels"])
        if any(weight.ndim != 2 or len(weight) != len(labels) or bias.shape != weight.shape[:1] for weight, bias in heads.values()):
            raise ValueError("its weights do not belong to its labels")
        if not all(np.isfinite(array).all() for pair in heads.values() for array in pair):
            raise ValueError("its weights are not finite")
        accuracy = {head: float(facts["accuracy"][head]) for head in HEADS}
        return Classifier(labels=labels, heads=heads, accuracy=accuracy, num_val=int(facts["num_val"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise AvbenchError(f"{file} holds no classifier: {error}; remove it and it is made again") from error
