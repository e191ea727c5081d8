"""A toy tokenizer in the registry, its clips, and a generator of its tokens; tokens are kept for one test only."""

from pathlib import Path

import pytest
import torch
from toy_generator import Toy, toy_training

from avbench import registry
from avbench.data import splits
from avbench.generate.trainee import GeneratorTrainee


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_cache: Path) -> Path:
    """Prepared clips are the session's, tokens this test's own."""
    root = tmp_path / "cache"
    root.mkdir()
    (root / "prepared").symlink_to(test_cache / "prepared")
    monkeypatch.setenv("AVBENCH_CACHE", str(root))
    return root


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy()
    monkeypatch.setattr(registry, "load_tokenizer", lambda name, **options: made)
    return made


@pytest.fixture
def split(clip_folder: Path) -> splits.Split:
    return splits.load(f"folder:{clip_folder}", progress=False)


@pytest.fixture
def folder(tmp_path: Path, clip_folder: Path, toy: Toy) -> Path:
    """A generator of random weights."""
    trainee = GeneratorTrainee(toy_training())
    trainee.load_data(f"folder:{clip_folder}", None)
    models = trainee.build_models()
    torch.nn.init.normal_(models["generator"].head.weight)  # type: ignore[union-attr, arg-type]
    trainee.export(tmp_path / "generator", models, {"split": "clips"})
    return tmp_path / "generator"
