"""Many runs as one: what a suite may say, how it goes on after a failure, and arguments of a constructor by name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from avbench.cli.app import app
from avbench.cli.suite import named_args
from avbench.errors import UsageError
from avbench.registry import load_tokenizer
from avbench.run.suite import read_suite, run_suite
from tests.helpers import clocks

QUERY = "?res=32&fps=5&seconds=2&rate=16000"
PLUGIN = """
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

class Levels:
    def __init__(self, *, levels: int = 2):
        self.levels = levels
        self.info = TokenizerInfo(name=f"levels-{levels}", revision=str(levels), modalities=frozenset({"video"}), kind="classical")

    def encode(self, batch):
        codes = (batch.video * (self.levels - 1)).round().long().flatten(1)[:, None]
        return Tokens(codes={"video": codes}, vocab_sizes={"video": self.levels}, duration_s=2.0)

    def decode(self, tokens):
        video = tokens.codes["video"][:, 0].unflatten(1, (10, 3, 32, 32)) / (self.levels - 1)
        return ClipBatch(video=video, fps=5, sample_rate=0)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v").mkdir()
    for name in ("a.mp4", "b.mp4"):
        clocks.write(tmp_path / "v" / name, seconds=3.0)
    (tmp_path / "v" / "broken.mp4").write_bytes(b"nothing")
    (tmp_path / "levels.py").write_text(PLUGIN)
    (tmp_path / "suite.yaml").write_text(
        f"""
splits: ["folder:{tmp_path}/v{QUERY}"]
metrics: [psnr]
tokenizers:
  - static-frame
  - nothing-of-the-kind
  - tokenizer: levels.py:Levels
    args: {{levels: 16}}
"""
    )
    return tmp_path


def test_a_suite_goes_on_after_what_cannot_be_run_and_is_resumed(place: Path) -> None:
    specs = read_suite(place / "suite.yaml", device="cpu")
    first = list(run_suite(specs, progress=False, retry_failed=False))
    assert [outcome.error is None for outcome in first] == [True, False, True]
    assert "unknown tokenizer" in str(first[1].error)
    again = list(run_suite(specs, progress=False, retry_failed=False))
    assert [outcome.run.reused for outcome in again if outcome.run is not None] == [True, True]
    assert not any(outcome.run.reused for outcome in run_suite(specs[:1], progress=False, retry_failed=True) if outcome.run is not None)
    assert first[2].run is not None
    assert first[2].run.result["tokenizer"]["name"] == "levels-16"
    assert first[2].run.result["spec"]["tokenizer_args"] == {"levels": 16}


def test_the_command_prints_a_line_a_run_and_one_table(place: Path) -> None:
    command = [sys.executable, "-m", "avbench", "run", "--suite", "suite.yaml", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 1
    assert "[1/3] static-frame on folder:" in done.stderr
    assert "[2/3] nothing-of-the-kind" in done.stderr
    assert "1 clips failed" in done.stderr
    assert "levels-16" in done.stdout
    wrong = subprocess.run([*command, "--tokenizer", "h264"], capture_output=True, text=True, env=dict(os.environ), check=False)
    assert wrong.returncode == 2
    assert "goes without --tokenizer" in wrong.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "holds no suite"),
        ("splits: [a]", "tokenizers must be a list"),
        ("splits: a\ntokenizers: [b]", "splits must be a list"),
        ("splits: [a]\ntokenizers: [b]\nmetric: [psnr]", "unknown metric"),
        ("splits: [a]\ntokenizers: [{name: b}]", "key tokenizer"),
        ("splits: [a]\ntokenizers: [{tokenizer: b, device: cpu}]", "unknown device"),
        ("splits: [a]\ntokenizers: [{tokenizer: b, args: [1]}]", "key: value pairs"),
        ("splits: [a\n", "no YAML"),
        ("splits: !!python/object/apply:os.system [echo]\ntokenizers: [b]", "no YAML"),
    ],
)
def test_what_is_no_suite_is_refused(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(content)
    with pytest.raises(UsageError, match=says):
        read_suite(tmp_path / "suite.yaml")


def test_arguments_reach_a_constructor_by_name(place: Path) -> None:
    assert named_args(("levels=8", "name=x", "on=true")) == (("levels", 8), ("name", "x"), ("on", True))
    assert load_tokenizer("levels.py:Levels", args={"levels": 8}).info.name == "levels-8"
    with pytest.raises(UsageError, match="takes no depth; its constructor takes levels"):
        load_tokenizer("levels.py:Levels", args={"depth": 8})
    with pytest.raises(UsageError, match="takes no levels; its constructor takes nothing by name"):
        load_tokenizer("h264", args={"levels": 8})
    with pytest.raises(UsageError, match="KEY=VALUE"):
        named_args(("levels",))


@pytest.mark.parametrize("file", sorted((ROOT / "leaderboards" / "suites").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_suites_of_our_own_boards_can_be_read(file: Path) -> None:
    assert len(read_suite(file)) > 3


@pytest.mark.parametrize("option", [("--limit", "2"), ("--tokenizer", "identity"), ("--seed", "0"), ("--guidance", "3")])
def test_what_a_suite_decides_is_not_given_beside_it(option: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text("splits: [arcade-mini]\ntokenizers: [identity]\n")
    done = CliRunner().invoke(app, ["run", "--suite", str(tmp_path / "suite.yaml"), *option])
    assert isinstance(done.exception, UsageError)
    assert f"goes without {option[0]} " in str(done.exception)
