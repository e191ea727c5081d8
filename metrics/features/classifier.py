"""A small classifier of real clips: multinomial logistic regression on frozen features of the video, of the audio, and of both.

It is fitted to the first 2,020 clips of arcade-train and comes with avbench (training_features.py). N clips, D numbers a clip, K classes.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avbench.artifact import read_file, write_file
from avbench.errors import AvbenchError
from avbench.files import regular
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics.features import training_clips, training_features
from avbench.metrics.features.frozen import MODALITIES
from avbench.paths import cache_root

HEADS: dict[str, tuple[str, ...]] = {"video": ("video",), "audio": ("audio",), "av": ("video", "audio")}
# scikit-learn's C, by accuracy on training clips of episodes that were held out (`held_out`, 2 x 1,010 clips, of no other split;
# python benchmarks/classifier.py --penalties):
#   C      0.001   0.01    0.1      1      3     10    100
#   video   .957   .980   .987   .987   .986   .982   .983
#   audio   .705   .858   .879   .886   .886   .879   .869
#   av      .950   .976   .982   .982   .981   .977   .977
# Their mean is highest at 1; the mean log-loss, 0.225 there, is flat (0.250 at 0.3, 0.222 at 3, 0.251 at 10).
INVERSE_PENALTY = 1.0
MAX_STEPS = 1000
MAX_FILE_BYTES = 16 << 20  # it has 0.7 MB
FIT_VERSION = 2  # raise it when `fit` changes: a fit of older code in somebody's cache must not pass for this one

Features = Mapping[str, np.ndarray]  # "video" (N, 400), "audio" (N, 512): what a head reads


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """labels: of the K classes, sorted. heads: name -> weight (K, D) and bias (K,), float32, of raw features."""

    labels: tuple[str, ...]
    heads: Mapping[str, tuple[np.ndarray, np.ndarray]]

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
                raise MetricUnavailable(f'the classifier learned the {len(known)} classes of {training_clips.SPLIT}, not "{label}"')
        return np.array([known[label] for label in labels], dtype=np.int64)


def fit(features: Features, labels: Sequence[str], inverse_penalty: float = INVERSE_PENALTY) -> Classifier:
    """All heads, fitted to `features` of clips with `labels`. The same input gives the same classifier."""
    heads = {head: _fit_head(_joined(head, features), np.array(labels), inverse_penalty) for head in HEADS}
    return Classifier(labels=tuple(sorted(set(labels))), heads=heads)


def _fit_head(features: np.ndarray, labels: np.ndarray, inverse_penalty: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    model = LogisticRegression(C=inverse_penalty, max_iter=MAX_STEPS).fit((features - mean) / std, labels)
    weight = model.coef_ / std  # the scaling goes into the weights, so that a head reads features as they come
    return weight.astype(np.float32), (model.intercept_ - weight @ mean).astype(np.float32)


def _joined(head: str, features: Features) -> np.ndarray:
    return np.concatenate([np.asarray(features[modality], np.float64) for modality in HEADS[head]], axis=1)


def held_out(
    features: Features, labels: Sequence[str], groups: Sequence[int], inverse_penalty: float = INVERSE_PENALTY
) -> dict[str, np.ndarray]:
    """Head -> probabilities (N, K) of each clip's classes, by a fit to the clips of all groups but its own. All groups know all classes."""
    found = {head: np.empty((len(labels), len(set(labels)))) for head in HEADS}
    for group in sorted(set(groups)):
        out = np.array(groups) == group
        seen = [label for label, is_out in zip(labels, out, strict=True) if not is_out]
        classifier = fit({modality: rows[~out] for modality, rows in features.items()}, seen, inverse_penalty)
        for head in HEADS:
            found[head][out] = classifier.probabilities(head, {modality: rows[out] for modality, rows in features.items()})
    return found


def load(options: MetricOptions) -> Classifier:
    """The classifier that came with avbench, or that of the cache; fitted where neither fits or it is damaged.

    Raises MetricUnavailable without the networks' weights, AvbenchError where the training clips cannot be prepared or read.
    """
    for file in filter(Path.exists, fitted_files()):
        try:
            return read(file)
        except AvbenchError as damage:
            print(f"class agreement: {damage}; it is made again", file=sys.stderr, flush=True)
    features = {modality: training_features.of(modality, options) for modality in MODALITIES}
    labels = training_clips.labels()
    classifier = fit(features, labels)
    write(classifier, fitted_files()[-1])
    _tell(held_out(features, labels, training_clips.episodes()), classifier.positions(labels))
    return classifier


def fitted_files() -> tuple[Path, Path]:
    """Where it may be: with avbench, in the cache. The name changes with the training clips, the networks and the way of fitting."""
    name = f"classifier-fit{FIT_VERSION}-{training_features.inputs()}.safetensors"
    return training_features.SHIPPED / name, cache_root() / "fitted" / name


def _tell(probabilities: Mapping[str, np.ndarray], truth: np.ndarray) -> None:
    shares = ", ".join(f"{head} {(rows.argmax(axis=1) == truth).mean():.1%}" for head, rows in probabilities.items())
    print(f"class agreement: fitted to {len(truth)} clips; accuracy on episodes held out: {shares}", file=sys.stderr, flush=True)


def write(classifier: Classifier, file: Path) -> None:
    """Write the fitted file, all of it or nothing."""
    arrays = {f"{head}.weight": torch.from_numpy(weight) for head, (weight, _) in classifier.heads.items()}
    arrays |= {f"{head}.bias": torch.from_numpy(bias) for head, (_, bias) in classifier.heads.items()}
    write_file(file, arrays, {"labels": classifier.labels, "sha256": _digest(classifier)}, key="facts")


def _digest(classifier: Classifier) -> str:
    """Of everything in it: a bit that flips on the disk leaves weights that look like any others."""
    digest = hashlib.sha256(json.dumps(classifier.labels).encode())
    for head in HEADS:
        for array in classifier.heads[head]:
            digest.update(json.dumps([str(array.dtype), array.shape]).encode() + array.tobytes())
    return digest.hexdigest()


def read(file: Path) -> Classifier:
    """What `write` wrote, to the bit. Raises AvbenchError where the file is damaged or of another kind."""
    try:
        if regular(file).stat().st_size > MAX_FILE_BYTES:
            raise ValueError("it is too large")
        facts, arrays = read_file(file, key="facts")
        heads = {head: (arrays[f"{head}.weight"].numpy(), arrays[f"{head}.bias"].numpy()) for head in HEADS}
        classifier = Classifier(labels=tuple(str(label) for label in facts["labels"]), heads=heads)
        if facts["sha256"] != _digest(classifier):
            raise ValueError("its weights or labels are not those that were written")
        return classifier
    except (AvbenchError, ValueError, KeyError, TypeError) as error:
        raise AvbenchError(f"{file} holds no classifier: {error}") from error
