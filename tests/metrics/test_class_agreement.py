"""Class agreement: the classifier against scikit-learn, the metrics on hand-worked cases, and what they refuse."""

from collections import Counter
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
from avbench.metrics.features import cache, classifier, frozen, training_clips, training_features
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
    return classifier.fit(*features(20, seed=0))


@pytest.fixture
def small(fitted: classifier.Classifier, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The metrics over clips that carry their features as pixels and samples; the list notes each extraction."""
    calls: list[str] = []

    def extractor(modality: str, device: torch.device) -> frozen.Extract:
        def extract(content: Tensor, sample_rate: int) -> Tensor:
            calls.append(modality)
            return content.flatten(1)[:, : {"video": 5, "audio": 4}[modality]].double()

        return extract

    monkeypatch.setattr(frozen, "_extractor", extractor)
    monkeypatch.setattr(frozen.weights, "path", lambda name: Path(name))
    monkeypatch.setattr(cache, "_recent", {})
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
    found = classifier.fit(train, labels)
    np.testing.assert_allclose(found.probabilities("av", val), expected, atol=1e-4)
    assert found.labels == GAMES


def accuracy(found: classifier.Classifier, seen: dict[str, np.ndarray], labels: list[str]) -> list[float]:
    truth = found.positions(labels)
    return [float((found.probabilities(head, seen).argmax(axis=1) == truth).mean()) for head in ("video", "audio", "av")]


def test_clear_classes_are_learned_and_meaningless_features_are_not(fitted: classifier.Classifier) -> None:
    assert accuracy(fitted, *features(5, seed=1)) == [1.0, 1.0, 1.0]
    noise = classifier.fit(*features(20, seed=0, noise=1e3))
    assert all(0.2 < share < 0.47 for share in accuracy(noise, *features(100, seed=1, noise=1e3)))


def test_a_clip_is_held_out_with_its_whole_episode() -> None:
    seen, labels = features(2, seed=0)
    episodes = [0, 1] * len(GAMES)
    found = classifier.held_out(seen, labels, episodes)
    first = [place for place, episode in enumerate(episodes) if episode == 0]
    without = classifier.fit({m: np.delete(rows, first, axis=0) for m, rows in seen.items()}, [*GAMES])
    assert np.array_equal(found["av"][first], without.probabilities("av", {m: rows[first] for m, rows in seen.items()}))
    assert found["video"].shape == (6, 3)


def test_the_training_clips_are_two_episodes_of_each_of_101_games() -> None:
    labels, episodes = training_clips.labels(), training_clips.episodes()
    assert {(label, episode): 10 for label in sorted(set(labels)) for episode in (0, 1)} == Counter(zip(labels, episodes, strict=True))
    assert len(set(labels)) == 101


def test_a_fit_is_the_same_every_time_and_survives_the_file(fitted: classifier.Classifier, tmp_path: Path) -> None:
    again = classifier.fit(*features(20, seed=0))
    classifier.write(fitted, tmp_path / "fitted.safetensors")
    kept = classifier.read(tmp_path / "fitted.safetensors")
    for other in (again, kept):
        assert other.labels == fitted.labels
        assert all(np.array_equal(a, b) for head in fitted.heads for a, b in zip(other.heads[head], fitted.heads[head], strict=True))


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "cut":
        file.write_bytes(content[:100])
    elif how == "bit":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "labels":
        file.write_bytes(content.replace(b"boxing", b"bowing"))
    elif how == "pickle":
        file.write_bytes(b"\x80\x04cposix\nsystem\n(S'false'\ntR.")
    else:
        save_file({"x": np.zeros(1)}, file)


@pytest.mark.parametrize("how", ["cut", "bit", "labels", "pickle", "foreign"])
def test_a_damaged_file_is_named(how: str, fitted: classifier.Classifier, tmp_path: Path) -> None:
    file = tmp_path / "fitted.safetensors"
    classifier.write(fitted, file)
    damage(file, how)
    with pytest.raises(AvbenchError, match=r"fitted\.safetensors holds no classifier"):
        classifier.read(file)


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Training features that cost nothing, in an empty cache; the list notes each time that they are made."""
    made: list[str] = []
    seen, labels = features(20, seed=0)
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))

    def make(modality: str, options: MetricOptions) -> np.ndarray:
        made.append(modality)
        return seen[modality]

    monkeypatch.setattr(training_features, "of", make)
    monkeypatch.setattr(training_features, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(training_clips, "labels", lambda: tuple(labels))
    monkeypatch.setattr(training_clips, "episodes", lambda: (0, 1) * 30)
    return made


def test_a_fit_is_kept_and_says_its_accuracy(training: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = classifier.load(MetricOptions()), classifier.load(MetricOptions())
    assert training == ["video", "audio"]
    assert np.array_equal(first.heads["av"][0], second.heads["av"][0])
    assert "held out: video 100.0%, audio 100.0%, av 100.0%" in capsys.readouterr().err


def test_a_damaged_fit_is_made_again(training: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    first = classifier.load(MetricOptions())
    damage(classifier.fitted_files()[-1], "bit")
    again = classifier.load(MetricOptions())
    assert training == ["video", "audio"] * 2
    assert np.array_equal(first.heads["audio"][1], again.heads["audio"][1])
    assert "holds no classifier: its weights or labels are not those that were written; it is made again" in capsys.readouterr().err
    assert np.array_equal(classifier.load(MetricOptions()).heads["audio"][1], first.heads["audio"][1])
    assert len(training) == 4


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


@pytest.mark.parametrize("kind", ALL)
def test_missing_weights_are_known_at_once_and_nothing_else_is_done(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("AVBENCH_OFFLINE", "1")
    monkeypatch.delenv("AVBENCH_WEIGHTS", raising=False)
    with pytest.raises(MetricUnavailable, match="avbench weights pull"):
        kind(MetricOptions())
    assert {path.name for path in tmp_path.iterdir()} <= {"weights"}


@pytest.mark.parametrize("kind", ALL)
def test_constructing_neither_fits_nor_builds_a_network(kind: type, small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        pytest.fail("too early")

    monkeypatch.setattr(class_agreement.real_clips, "load", never)
    monkeypatch.setattr(frozen, "_extractor", never)
    assert kind(MetricOptions()).info.name


def test_a_fit_that_fails_is_tried_once_and_its_reason_stays(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def fail(options: MetricOptions) -> None:
        tried.append(1)
        raise AvbenchError("the disk is full")

    monkeypatch.setattr(class_agreement.real_clips, "load", fail)
    metric = AvAgreement(MetricOptions())
    for _ in range(3):
        with pytest.raises(MetricUnavailable, match="the disk is full"):
            metric.update(clips(["pong"], ["pong"]), clips(["pong"], ["pong"]), TOKENS)
    assert tried == [1]


def test_a_batch_is_looked_at_once_however_many_metrics_ask(small: list[str]) -> None:
    reference, recon = clips(["pong"], ["pong"], labels=("pong",)), clips(["pong"], ["pong"])
    for kind in ALL:
        rows(kind, reference, recon)
    assert sorted(small) == ["audio", "video"]
    rows(AvAgreement, reference, clips(["pong"], ["alien"]))
    assert sorted(small) == ["audio", "audio", "video", "video"]


def test_the_protocol_names_features_clips_fit_and_chance(small: list[str]) -> None:
    protocol = AvAgreement(MetricOptions()).info.protocol
    facts = ("I3D logits", "aisfx", "first 2020 clips of arcade-train", training_clips.identity()[:8], "C 1", "fit 2", "chance 0.0099")
    assert [fact for fact in facts if fact not in protocol] == []


def test_features_are_kept_under_the_keys_of_fvd_and_fad() -> None:
    from avbench.metrics.fvd import KEY

    assert {"video": KEY, "audio": FadAisfx.key} == frozen.KEYS


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
