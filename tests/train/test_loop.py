"""avbench.train.loop: kills, pauses, processes. Run as a script, this file is one training call: `test_train_loop.py SPLIT OUT [KIND]`."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_avtok import MODEL, tiny

from avbench.artifact import trained_on
from avbench.errors import AvbenchError, UsageError
from avbench.train import recipes
from avbench.train.log import read_log
from avbench.train.loop import for_device, train


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    helpers = str(Path(__file__).parents[1] / "helpers")
    return {**os.environ, "OMP_NUM_THREADS": "1", "AVBENCH_CACHE": str(tmp_path_factory.mktemp("cache")), "PYTHONPATH": helpers}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path, environment: dict[str, str]) -> Path:
    """A whole run in a process of its own."""
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(call(clip_folder, out), env=environment, check=True, timeout=300)
    return out


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """This process uses the same prepared clips."""
    monkeypatch.setenv("AVBENCH_CACHE", environment["AVBENCH_CACHE"])


def call(folder: Path, out: Path, kind: str = "all", *before: str) -> list[str]:
    return [sys.executable, *before, str(Path(__file__)), f"folder:{folder}", str(out), kind]


def curve(out: Path) -> list[Any]:
    """Step, stage and every loss of every training line."""
    return [(line["step"], line["stage"], line["losses"]) for line in read_log(out) if line["kind"] == "train"]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_exactly_the_loss_curve_of_the_uninterrupted_one(
    tmp_path: Path, clip_folder: Path, environment: dict[str, str], uninterrupted: Path
) -> None:
    out = tmp_path / "run"
    for step in (4, 8):  # in stage video, then in stage audio
        process = subprocess.Popen(call(clip_folder, out), env=environment)
        deadline = time.monotonic() + 120
        while not any(line["step"] >= step and line["kind"] == "train" for line in lines(out)) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    subprocess.run(call(clip_folder, out), env=environment, check=True, timeout=300)
    assert len(curve(uninterrupted)) == 9
    assert curve(out) == curve(uninterrupted)
    assert weights(out) == weights(uninterrupted)


def lines(out: Path) -> list[dict[str, Any]]:
    """The log's whole lines, while another process writes it."""
    path = out / "log.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def weights(out: Path) -> list[str]:
    return [shard["sha256"] for shard in json.loads((out / "manifest.json").read_text())["shards"]]


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(tmp_path: Path, clip_folder: Path, environment: dict[str, str]) -> None:
    subprocess.run(call(clip_folder, tmp_path / "one", "plain"), env=environment, check=True, timeout=300)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    subprocess.run(call(clip_folder, tmp_path / "two", "plain", *torchrun), env=environment, check=True, timeout=300)
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert [row[:2] for row in one] == [row[:2] for row in two] == [(2, "joint"), (4, "joint")]
    for a, b in zip(one, two, strict=True):
        assert a[2] == pytest.approx(b[2], rel=1e-3)


@pytest.mark.slow
def test_a_finished_run_is_a_checkpoint_of_avtok_with_a_log_a_picture_and_its_provenance(uninterrupted: Path) -> None:
    from PIL import Image

    from avbench.tokenizers.avtok.checkpoint import load_checkpoint

    loaded = load_checkpoint(uninterrupted)
    assert loaded.provenance["split"].startswith("folder:")
    assert (loaded.provenance["recipe"], loaded.provenance["clips_seen"], loaded.provenance["stage"]) == ("tiny", 36, "decode")
    assert loaded.model.tokenize("video", torch.rand(1, 16, 3, 128, 128)).shape == (1, 6)
    held_out = [line["held_out"] for line in read_log(uninterrupted) if line["kind"] == "eval"]
    assert set(held_out[-1]) == {"psnr", "psnr_motion", "mel_l1", "codes_video", "codes_audio", "codes"}
    pictures = sorted((uninterrupted / "pictures").glob("*.png"))
    with Image.open(pictures[-1]) as image:
        assert image.size == (6 * 128 + 384, 2 * 128 + 4)
    assert list((uninterrupted / "tensorboard").glob("events*"))


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_max_minutes_pauses_and_the_same_call_goes_on(tmp_path: Path, clip_folder: Path) -> None:
    paused = train(tiny(), split=f"folder:{clip_folder}", out=tmp_path, max_minutes=1e-6, device="cpu")
    assert (paused.finished, paused.stage, paused.clips_seen) == (False, "video", 4)
    after = train(tiny(), split=f"folder:{clip_folder}", out=tmp_path, stage="audio", device="cpu")
    assert (after.finished, after.clips_seen) == (True, 24)
    again = train(tiny(), split=f"folder:{clip_folder}", out=tmp_path, device="cpu")
    assert (again.finished, again.stage, again.clips_seen) == (True, "decode", 36)
    assert again.minutes > after.minutes > paused.minutes
    assert [row[0] for row in curve(tmp_path)] == list(range(2, 19, 2))


@pytest.mark.usefixtures("here")
def test_a_folder_of_another_run_is_refused(tmp_path: Path, clip_folder: Path, uninterrupted: Path) -> None:
    with pytest.raises(AvbenchError, match='recipe "tiny", not "other"'):
        train(replace(tiny(), name="other"), split=f"folder:{clip_folder}", out=uninterrupted, device="cpu")
    with pytest.raises(AvbenchError, match="with another seed"):
        train(tiny(), split=f"folder:{clip_folder}", out=uninterrupted, device="cpu", seed=5)
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(AvbenchError, match="damaged or of another version"):
        train(tiny(), split=f"folder:{clip_folder}", out=tmp_path, device="cpu")


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_run_begins_with_the_weights_of_a_folder_goes_on_after_a_pause_and_says_whose_they_were(
    tmp_path: Path, clip_folder: Path, uninterrupted: Path
) -> None:
    from avbench.tokenizers.avtok.checkpoint import load_checkpoint

    short = {"split": f"folder:{clip_folder}", "device": "cpu", "clips": 6}
    still = replace(tiny(), stages=tuple(replace(stage, optim=replace(stage.optim, muon=0.0, adam=0.0)) for stage in tiny().stages))
    train(still, out=tmp_path / "out", init=uninterrupted, max_minutes=1e-6, **short)
    done = train(still, out=tmp_path / "out", init=uninterrupted, **short)
    begun, before = load_checkpoint(tmp_path / "out"), load_checkpoint(uninterrupted)
    ours, theirs = begun.model.state_dict(), before.model.state_dict()
    assert (done.finished, done.clips_seen) == (True, 6)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if "quantizer" not in name)  # entries were revived
    assert begun.provenance["init"]["clips_seen"] == 36
    assert trained_on(begun.provenance).endswith("42 clips seen")


@pytest.mark.usefixtures("here")
def test_weights_of_another_model_and_a_run_that_began_otherwise_are_refused(
    tmp_path: Path, clip_folder: Path, uninterrupted: Path
) -> None:
    split = f"folder:{clip_folder}"
    other = replace(tiny(), model=replace(MODEL, video=replace(MODEL.video, patch=(8, 32, 16))))
    with pytest.raises(AvbenchError, match=r"another model than tiny: video .*32, 16"):
        train(other, split=split, out=tmp_path / "a", device="cpu", init=uninterrupted)
    with pytest.raises(AvbenchError, match=r"has no manifest\.json"):
        train(tiny(), split=split, out=tmp_path / "b", device="cpu", init=tmp_path)
    with pytest.raises(AvbenchError, match="holds a run that began from nothing"):
        train(tiny(), split=split, out=uninterrupted, device="cpu", init=uninterrupted)


@pytest.mark.usefixtures("here", "uninterrupted")
def test_a_full_disk_at_the_first_save_is_told_in_words_and_nothing_half_written_stays(
    tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `write` fails on a full disk, below PyTorch's writer."""
    opened = Path.open

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        return Full(path, "x") if path.name.startswith(".state.pt") else opened(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(AvbenchError, match=r"no space left for .*run .*free some space and repeat the command: the last checkpoint stands"):
        train(tiny(), split=f"folder:{clip_folder}", out=tmp_path / "run", device="cpu")
    assert not [file.name for file in (tmp_path / "run").iterdir() if "state.pt" in file.name]
    (tmp_path / "file").touch()
    with pytest.raises(AvbenchError, match="cannot be written"):
        train(tiny(), split=f"folder:{clip_folder}", out=tmp_path / "file" / "run", device="cpu")


def test_a_stage_device_or_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no stage "sound"; it has video, audio, decode'):
        train(tiny(), out=tmp_path, stage="sound")
    with pytest.raises(UsageError, match="unknown device"):
        train(tiny(), out=tmp_path, device="gpu7")
    with pytest.raises(UsageError, match="unknown recipe"):
        train("avtok-nano", out=tmp_path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(tiny(sys.argv[3]), split=sys.argv[1], out=Path(sys.argv[2]), device="cpu")


@pytest.mark.parametrize(
    ("capability", "dtype"), [("DEFAULT", "float32"), ("AVX2", "float32"), ("AVX512", "bfloat16"), ("SVE256", "bfloat16")]
)
def test_a_cpu_without_instructions_for_bfloat16_computes_in_float32(monkeypatch: pytest.MonkeyPatch, capability: str, dtype: str) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    config = replace(recipes.config("avtok-mini"), name="tried")
    assert for_device(config, torch.device("cpu")).compute_dtype == dtype
    assert for_device(config, torch.device("cuda")).compute_dtype == "bfloat16"
