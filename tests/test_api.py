"""`import avbench`: names and objects, tables of pandas, a callback in a training loop."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import avbench
from avbench.errors import AvbenchError, UsageError
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens
from tests.helpers import clocks

QUERY = "?res=32&fps=5&seconds=2&rate=16000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        clocks.write(root / name, seconds=3.0)
    (root / "broken.mp4").write_bytes(b"no video")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


class Dimmed(torch.nn.Module):
    """A tokenizer that is a model in training: every pixel times a weight, as bytes."""

    info = TokenizerInfo(name="dimmed", revision="in training", modalities=frozenset({"video"}))

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))
        self.frozen = torch.nn.BatchNorm1d(1).eval()
        self.modes: list[bool] = []

    def encode(self, batch: ClipBatch) -> Tokens:
        self.modes.append(self.training)
        assert batch.video is not None
        codes = (batch.video * self.weight.detach() * 255).round().long().flatten(1)[:, None]
        return Tokens(codes={"video": codes}, vocab_sizes={"video": 256}, duration_s=2.0)

    def decode(self, tokens: Tokens) -> ClipBatch:
        video = tokens.codes["video"][:, 0].unflatten(1, (10, 3, 32, 32)) / 255
        return ClipBatch(video=video, fps=5, sample_rate=0)


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, avbench; assert not {'torch', 'numpy'} & set(sys.modules); print(sorted(avbench.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "evaluate" in done.stdout
    with pytest.raises(AttributeError):
        _ = avbench.nothing


def test_a_name_and_a_path_give_a_run_with_tables(folder: Path) -> None:
    run = avbench.evaluate("static-frame+silence", f"{folder}{QUERY}", metrics=("psnr", "mr_stft"), device="cpu", progress=False)
    assert run.num_failed == 1
    table = run.to_pandas()
    assert table.loc["psnr", "value"] == run["psnr"]
    assert table.loc["psnr", "num_clips"] == 3
    clips = run.clips()
    assert list(clips.index) == ["a.mp4", "b.mp4", "broken.mp4", "c.mp4"]
    assert clips.loc["broken.mp4", "status"] == "failed"
    assert clips["psnr"].mean() == pytest.approx(run["psnr"])
    assert avbench.load_run(run.folder).result == run.result
    with pytest.raises(KeyError):
        _ = run["fvd"]
    with pytest.raises(AvbenchError, match="n/a"):
        _ = avbench.evaluate("static-frame", f"{folder}{QUERY}", metrics=("si_sdr",), device="cpu", progress=False)["si_sdr"]


def test_an_object_is_evaluated_anew_each_time_and_says_so(folder: Path) -> None:
    model = Dimmed()
    first = avbench.evaluate(model, f"{folder}{QUERY}", metrics=("psnr",), device="cpu", progress=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    second = avbench.evaluate(model, f"{folder}{QUERY}", metrics=("psnr",), device="cpu", progress=False)
    assert second["psnr"] == 100 > first["psnr"]
    assert '"isolated": false' in (second.folder / "manifest.json").read_text()


def test_runs_are_compared(folder: Path) -> None:
    runs = [
        avbench.evaluate(name, f"{folder}{QUERY}", metrics=("psnr",), device="cpu", progress=False) for name in ("static-frame", "identity")
    ]
    found = avbench.compare(*runs)
    assert found.num_common == 3
    psnr = next(row for row in found.rows if row.column.metric == "psnr")
    assert psnr.b == 100 > psnr.a


def test_outputs_are_scored(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "a.mp4").write_bytes((folder / "a.mp4").read_bytes())
    run = avbench.score(Path(folder), tmp_path / "outputs", metrics=("psnr",), device="cpu", progress=False)
    assert run["psnr"] == 100
    assert run.num_failed == 3


def test_a_callback_measures_every_so_many_steps_and_leaves_the_training_alone(folder: Path) -> None:
    model, before = Dimmed(), torch.random.get_rng_state()
    watch = avbench.Callback(model, f"{folder}{QUERY}", every=2, metrics=("psnr",), device="cpu", runs_dir="watched")
    assert [watch(step) is not None for step in (1, 2, 3, 4)] == [False, True, False, True]
    assert [entry["step"] for entry in watch.history] == [2, 4]
    assert watch.history[0]["psnr"] == watch.history[1]["psnr"]
    assert model.training
    assert not model.frozen.training  # as it was
    assert set(model.modes) == {False}
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("broken", [object(), type("Half", (), {"info": None, "encode": None})()])
def test_what_is_no_tokenizer_is_refused(broken: object, folder: Path) -> None:
    with pytest.raises(UsageError, match="is no tokenizer"):
        avbench.evaluate(broken, folder)  # type: ignore[arg-type]


def test_an_object_with_wrong_facts_is_refused(folder: Path) -> None:
    class Empty(Dimmed):
        info = TokenizerInfo(name="", revision="1", modalities=frozenset({"video"}))

    with pytest.raises(AvbenchError, match="must not be empty"):
        avbench.evaluate(Empty(), f"{folder}{QUERY}", metrics=("psnr",), progress=False)
