"""A task from outside: what avbench/task.py promises to whoever writes one, with the task of docs/add-a-task.md."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from avbench import registry
from avbench.errors import UsageError
from avbench.run.evaluate import evaluate
from avbench.types import RunSpec

PAGE = Path(__file__).parents[2] / "docs" / "add-a-task.md"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_cache: Path) -> ModuleType:
    """The page's file, imported; its task is the one that every run finds."""
    (source,) = re.findall(r"<!-- file backwards.py -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "backwards.py").write_text(source)
    spec = importlib.util.spec_from_file_location("backwards", tmp_path / "backwards.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setattr(registry, "load_task", lambda name: made.Backwards())
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    monkeypatch.chdir(tmp_path)
    return made


def test_a_task_from_outside_is_a_run_like_any_other(module: ModuleType, clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RunSpec(tokenizer="identity", split=f"folder:{clip_folder}", task="backwards", metrics=("psnr", "si_sdr"), limit=2)
    done = evaluate(spec, save_samples=1)
    assert [value["value"] for value in done.result["values"]] == [100.0, 100.0]  # turned round twice
    assert done.folder.name.startswith("identity_backwards_folder")
    assert json.loads((done.folder / "manifest.json").read_text())["isolated"] is True
    assert len(list((done.folder / "samples").glob("*.mp4"))) == 1
    monkeypatch.setattr(module.Backwards, "finish", lambda self, reference, recon: recon)
    assert evaluate(spec, fresh=True).result["values"][0]["value"] < 50


def test_what_a_tokenizer_lacks_is_said_by_the_task(module: ModuleType, clip_folder: Path) -> None:
    task = module.Backwards()
    task.load(RunSpec(tokenizer="silence", split="synthetic-val", task="backwards"), torch.device("cpu"))
    assert task.missing(registry.metric_info("psnr")) == "silence has no video"
    assert task.missing(registry.metric_info("si_sdr")) is None


def test_an_unknown_task_is_told_with_the_known_ones(clip_folder: Path) -> None:
    with pytest.raises(UsageError, match=r'unknown task "reconstrukt"; did you mean "reconstruct"\?  \(avbench list tasks\)'):
        evaluate(RunSpec(tokenizer="identity", split=f"folder:{clip_folder}", task="reconstrukt"))


def test_the_core_names_no_task() -> None:
    """`reconstruct` is a default in types.py, an entry point, and a class; the tasks that generate are theirs alone."""
    root = Path(__file__).parents[2] / "avbench"
    named = re.compile(r"[\"'](reconstruct|a2v|v2a)[\"']")
    found = {
        str(path.relative_to(root))
        for folder in ("run", "cli", "board", "data", "stats", "report", ".")
        for path in (root / folder).glob("*.py")
        if named.search(path.read_text())
    }
    assert found <= {"run/reconstruct.py", "types.py", "metric.py", "board/columns.py", "report/site.py"}, found  # published tables
