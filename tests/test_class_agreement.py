"""Class agreement: the classifier against scikit-learn, the metrics on hand-worked cases, and what they refuse."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor

from avbench import registry
from avbench.errors import AvbenchError
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.metrics import class_agreement
from avbench.metrics.class_agreement import (
    AvAgreement,
    AvAgreementSoft,
    ClassAccuracyAudio,
    ClassAccuracyAv,
    ClassAccuracyVideo,
    same_argmax,
    shared_mass,
)
from avbench.metrics.fad import FadAisfx
from avbench.metrics.features import classifier, frozen
from avbench.types import ClipBatch, Tokens

TOKENS = Tokens(codes={}, vocab_sizes={}, duration_s=1.0)
GAMES = ("alien", "boxing", "pong")
ALL = (ClassAccuracyVideo, ClassAccuracyAudio, ClassAccuracyAv, AvAgreement, AvAgreementSoft)


def features(count: int, seed: int, noise: float = 0.3) -> tuple[dict[str, np.ndarray], list[str]]:
    """`count` clips of each game: a game's own point, scattered; video in 5 numbers, audio in 4."""
    rng = np.random.default_rng(seed)
    labels = [game for game in GAMES for _ in range(count)]
    centres = {"video": 3 * np.eye(3, 5) + 7, "audio": np.array([[0, 0, 4, 0], [4, 0, 0, 0], [0, 4, 0, 0]])}
    numbers = [GAMES.index(label) for label in labels]
    return {m: centre[numbers] + noise * rng.standard_normal((len(labels), centre.shape[1])) for m, centre in centres.items()}, labels


@pytest.fixture(scope="module")
def fitted() -> classifier.Classifier:
    return classifier.fit(*features(20, seed=0), *features(5, seed=1))


@pytest.fixture
def small(fitted: classifier.Classifier, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The metrics over clips that carry their features as pixels and samples; the list notes each extraction."""
    calls: list[str] = []

    def extractor(modality: str, numbers: int) -> Callable[[torch.device], frozen.Extract]:
        def extract(content: Tensor, sample_rate: int) -> Tensor:
            calls.append(modality)
            return content.flatten(1)[:, :numbers].double()

        return lambda device: extract

    monkeypatch.setattr(frozen, "_video", extractor("video", 5))
    monkeypatch.setattr(frozen, "_audio", extractor("audio", 4))
    monkeypatch.setattr(frozen, "_recent", {})
    monkeypatch.setattr(class_agreement.real_clips, "load", lambda options: fitted)
    return calls


def clips(video: list[str], audio: list[str], labels: tuple[str | None, ...] = ()) -> ClipBatch:
    """Clips whose video shows the games `video` and whose sound is that of `audio`."""
    known, names = features(1, seed=2, noise=0.0)
    pictures = np.stack([known["video"][names.index(game)] for game in video]).reshape(-1, 1, 1, 1, 5)
    sound = np.stack([known["audio"][names.index(game)] for game in audio])[:, None]
    return ClipBatch(labels=labels, video=torch.from_numpy(pictures), audio=torch.from_numpy(sound), fps=4.0, sample_rate=24_000)


def rows(kind: type, reference: ClipBatch, recon: ClipBatch) -> list[float]:
    return kind(MetricOptions()).update(reference, recon, TOKENS).tolist()  # type: ignore[no-any-return]


def test_probabilities_are_those_of_scikit_learn_on_standardised_features() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (train, labels), (val, _) = features(20, seed=0), features(5, seed=1)
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=classifier.INVERSE_PENALTY, max_iter=1000))
    both = np.concatenate([train["video"], train["audio"]], axis=1)
    expected = oracle.fit(both, labels).predict_proba(np.concatenate([val["video"], val["audio"]], axis=1))
    found = classifier.fit(train, labels, val, features(5, seed=1)[1])
    np.testing.assert_allclose(found.probabilities("av", val), expected, atol=1e-4)
    assert found.labels == GAMES


def test_clear_classes_are_learned_and_meaningless_features_are_not(fitted: classifier.Classifier) -> None:
    assert fitted.accuracy == {"video": 1.0, "audio": 1.0, "av": 1.0}
    assert fitted.chance == pytest.approx(1 / 3)
    noise = classifier.fit(*features(20, seed=0, noise=1e3), *features(100, seed=1, noise=1e3))
    assert all(0.2 < share < 0.47 for share in noise.accuracy.values())


def test_a_fit_is_the_same_every_time_and_survives_the_file(fitted: classifier.Classifier, tmp_path: Path) -> None:
    again = classifier.fit(*features(20, seed=0), *features(5, seed=1))
    classifier.write(fitted, tmp_path / "fitted.safetensors")
    kept = classifier.read(tmp_path / "fitted.safetensors")
    for other in (again, kept):
        assert (other.labels, other.accuracy, other.num_val) == (fitted.labels, fitted.accuracy, 15)
        assert all(np.array_equal(a, b) for head in fitted.heads for a, b in zip(other.heads[head], fitted.heads[head], strict=True))


@pytest.mark.parametrize("damage", ["cut", "foreign", "labels", "nan"])
def test_a_damaged_file_is_named_with_what_to_do(damage: str, fitted: classifier.Classifier, tmp_path: Path) -> None:
    file = tmp_path / "fitted.safetensors"
    classifier.write(fitted, file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "foreign":
        save_file({"x": np.zeros(1)}, file)
    elif damage == "labels":
        classifier.write(classifier.replace(fitted, labels=("pong",)), file)
    else:
        heads = {head: (weight * np.nan, bias) for head, (weight, bias) in fitted.heads.items()}
        classifier.write(classifier.replace(fitted, heads=heads), file)
    with pytest.raises(AvbenchError, match=r"fitted\.safetensors holds no classifier.*remove it"):
        classifier.read(file)


def test_agreement_of_two_distributions_by_hand() -> None:
    video = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    audio = np.array([[0.6, 0.4, 0.0], [0.0, 0.5, 0.5]])
    assert same_argmax(video, audio).tolist() == [1.0, 0.0]
    assert shared_mass(video, audio).tolist() == pytest.approx([0.42, 0.0])


def test_the_generated_modality_is_compared_with_the_references_label(small: list[str]) -> None:
    reference = clips(["pong"] * 3, ["pong"] * 3, labels=("pong", "pong", "alien"))
    recon = clips(["pong", "boxing", "alien"], ["boxing", "pong", "alien"])
    assert rows(ClassAccuracyVideo, reference, recon) == [1.0, 0.0, 1.0]
    assert rows(ClassAccuracyAudio, reference, recon) == [0.0, 1.0, 1.0]


def test_real_pairs_agree_and_shuffled_ones_do_not_whatever_the_labels(small: list[str]) -> None:
    real, shuffled = clips([*GAMES], [*GAMES]), clips([*GAMES], [*GAMES[1:], GAMES[0]])
    assert rows(AvAgreement, real, real) == [1.0, 1.0, 1.0]
    assert rows(AvAgreement, real, shuffled) == [0.0, 0.0, 0.0]
    assert min(rows(AvAgreementSoft, real, real)) > 0.45 > 0.3 > max(rows(AvAgreementSoft, real, shuffled))
    named = clips([*GAMES], [*GAMES], labels=GAMES)
    assert rows(ClassAccuracyAv, named, real) == [1.0, 1.0, 1.0]


def test_a_clip_without_label_has_no_class_accuracy(small: list[str]) -> None:
    recon = clips(["pong", "alien"], ["pong", "alien"])
    found = rows(ClassAccuracyVideo, clips(["pong"] * 2, ["pong"] * 2, labels=(None, "alien")), recon)
    assert np.isnan(found[0])
    assert found[1] == 1.0
    assert np.isnan(rows(ClassAccuracyVideo, clips(["pong"] * 2, ["pong"] * 2), recon)).all()


def test_a_class_that_was_not_learned_is_refused_by_name(small: list[str]) -> None:
    reference = clips(["pong"], ["pong"], labels=("playing accordion",))
    with pytest.raises(MetricUnavailable, match='not "playing accordion"'):
        rows(ClassAccuracyVideo, reference, reference)
    assert small == []  # before any compute


@pytest.mark.parametrize("kind", ALL)
def test_a_split_of_other_classes_is_refused_before_anything_is_made(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    for classes, reason in ((frozenset({"playing accordion"}), 'such as "playing accordion"'), (frozenset(), "no labels")):
        with pytest.raises(MetricUnavailable, match=f"{reason}; use an arcade split"):
            kind(MetricOptions(classes=classes))
    assert list(tmp_path.iterdir()) == []


def test_a_batch_is_looked_at_once_however_many_metrics_ask(small: list[str]) -> None:
    reference, recon = clips(["pong"], ["pong"], labels=("pong",)), clips(["pong"], ["pong"])
    for kind in ALL:
        rows(kind, reference, recon)
    assert sorted(small) == ["audio", "video"]
    rows(AvAgreement, reference, clips(["pong"], ["alien"]))
    assert sorted(small) == ["audio", "audio", "video", "video"]


def test_the_protocol_names_features_split_accuracy_and_chance(small: list[str]) -> None:
    protocol = AvAgreement(MetricOptions()).info.protocol
    for fact in (
        "I3D logits",
        "aisfx",
        "first 2020 clips of arcade-train",
        "video 1.000, audio 1.000",
        "15 real clips of arcade-val",
        "0.3333",
    ):
        assert fact in protocol


def test_features_are_kept_under_the_keys_of_fvd_and_fad() -> None:
    from avbench.metrics.fvd import _SHA, PREPROCESSING

    assert {"video": f"i3d-k400-{_SHA}-{PREPROCESSING}", "audio": FadAisfx.key} == frozen.KEYS


def test_a_plain_reconstruction_run_does_not_measure_these() -> None:
    names = {
        "class_accuracy_video",
        "class_accuracy_audio",
        "class_accuracy_av",
        "av_agreement",
        "nearest_train_video",
        "nearest_train_audio",
    }
    assert names <= set(registry.plugins("metric"))
    assert not names & set(registry.default_metrics())
