"""avbench.train.day: what stops a training on a lent machine, and what comes back from it. Whole days: test_gpu_day.py."""

import io
import tarfile
from pathlib import Path

import pytest

from avbench.errors import AvbenchError, UsageError
from avbench.registry import plugins
from avbench.train import day, recipes
from avbench.train.day import Back, bring_back, read_config


def test_psnr_that_falls_twice_to_well_below_the_start_stops_the_training(tmp_path: Path) -> None:
    back = Back(tmp_path)
    for value in (26.9, 26.2, 26.8, 26.7, 26.65):  # a dip that recovers, a small loss
        back.evaluated("video", {"psnr": value})
    with pytest.raises(AvbenchError, match=r"26\.90, .* 26\.40 dB; lower rates"):
        back.evaluated("video", {"psnr": 26.4})
    Back(tmp_path).evaluated("codec", {"mr_stft": 2.0})


def test_an_archive_comes_back_in_parts_of_one_moment_and_the_rest_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day, "PART_BYTES", 4096)
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    (run / "manifest.json").write_text("{}")
    (run / "state.pt").write_bytes(b"x" * 100)
    for size, waiting in ((30_000, 5), (5_000, 0)):
        (run / "model-000.safetensors").write_bytes(bytes(size))
        assert bring_back(run, out) == pytest.approx(waiting, abs=2)
    parts = sorted(out.iterdir())
    assert len(parts) <= day.MAX_PARTS
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as tar:
        assert sorted(tar.getnames()) == ["manifest.json", "model-000.safetensors"]


@pytest.mark.parametrize("name", sorted(name for name in plugins("recipe") if not name.startswith(("ar-base", "avtok-base"))))
def test_every_recipe_has_a_form_for_minutes_without_an_adversary_of_avtok(name: str) -> None:
    config = recipes.config(name).in_minutes()
    assert config.export_dtype == "bfloat16"
    assert not config.compile
    halved = config.scaled(0.5)
    assert halved.stages[0].optim.adam == pytest.approx(config.stages[0].optim.adam / 2)
    if name.startswith("avtok"):
        assert config.batch_size <= 32
        assert not any(stage.loss.video.adversarial or stage.loss.audio.adversarial for stage in config.stages)  # type: ignore[attr-defined]


def test_a_recipe_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"no file nowhere\.py"):
        read_config("nowhere.py:recipe")
