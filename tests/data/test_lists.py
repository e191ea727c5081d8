"""Lists of clips, and what is odd about a split's clips."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from avbench.cli.app import app
from avbench.data import audit, lists, splits
from avbench.errors import UsageError
from tests.helpers import clocks

QUERY = "?res=32&fps=5&seconds=2&rate=16000"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AVBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def vggsound(tmp_path: Path) -> Path:
    """vggsound-test of three clips."""
    folder = tmp_path / "data" / "vggsound"
    folder.mkdir(parents=True)
    for number in range(3):
        clocks.write(folder / f"abcdefghij{number}_000010.mp4", seconds=2.0 + number)
    (folder / "vggsound.csv").write_text("".join(f"abcdefghij{number},10,dog,test\n" for number in range(3)))
    return folder


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_list_cuts_a_split_down_to_what_two_labs_have(vggsound: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(run("data", "export-list", f"vggsound-test{QUERY}"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "list.csv").read_text())))
    assert [row["id"] for row in rows] == [f"abcdefghij{number}_000010" for number in range(3)]
    assert {row["start"] for row in rows} == {"middle"}
    (tmp_path / "theirs.csv").write_text(f"id,sha256\n{rows[2]['id']},{rows[2]['sha256']}\n{rows[0]['id']},{'0' * 64}\ngone_000010,\n")
    run("data", "import-list", "vggsound-test", "theirs.csv", "--name", "common")
    split = splits.load(f"vggsound-test@common{QUERY}", progress=False)
    reasons = {clip.id: entry.failure for clip, entry in zip(split.clips, split.entries, strict=True)}
    assert reasons[rows[2]["id"]] is None
    assert "another file than the list's" in str(reasons[rows[0]["id"]])
    assert reasons["gone_000010"] == "is on the list and not here"
    assert rows[1]["id"] not in reasons
    assert split.name == f"vggsound-test@common{splits.find('vggsound-test' + QUERY).name.removeprefix('vggsound-test')}"


def test_all_but_a_list(vggsound: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("id\nabcdefghij1_000010\n")
    run("data", "import-list", "vggsound-test", "bad.csv", "--name", "clean", "--exclude")
    assert [clip.id for clip in splits.find("vggsound-test@clean").clips] == ["abcdefghij0_000010", "abcdefghij2_000010"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("name\nx\n", "no column id"),
        ("id,sha256\nx,zz\n", "line 2"),
        ("id\nx\nx\n", "there twice"),
        ("id,note\nx,failed\n", "names no clip"),
    ],
)
def test_a_list_that_is_none_is_refused(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(UsageError, match=says):
        lists.read(tmp_path / "list.csv")


def test_unknown_lists_and_bad_names_are_told(vggsound: Path) -> None:
    with pytest.raises(UsageError, match="no list nothing for vggsound-test; avbench data import-list"):
        splits.find("vggsound-test@nothing")
    with pytest.raises(UsageError, match="letters, digits"):
        lists.keep("vggsound-test", "../x", [lists.Listed(id="a")])


def test_an_audit_finds_what_is_odd(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def noise(number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 256, (64, 64, 3)).repeat(1, axis=0).astype(np.uint8)

    still, barred = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8), noise(5)
    barred[:12], barred[-12:] = 0, 0
    folder = tmp_path / "v"
    folder.mkdir()
    clocks.write(folder / "fine.mp4", seconds=2.0, options={"crf": "10"})
    clocks.write(folder / "still.mp4", seconds=2.0, shown=lambda _: still, options={"crf": "10"})
    clocks.write(folder / "black.mp4", seconds=2.0, shown=lambda _: np.zeros((64, 64, 3), np.uint8))
    clocks.write(folder / "bars.mp4", seconds=2.0, shown=lambda n: np.roll(barred, n, axis=1), options={"crf": "10"})
    clocks.write(folder / "twice.mp4", seconds=2.0, options={"crf": "12"})
    split = splits.load(f"folder:{folder}?res=64&fps=5&seconds=1", progress=False)
    found = {(finding.clip, finding.kind) for finding in audit.audit(split)}
    assert found == {
        ("still.mp4", "still"), ("black.mp4", "black"), ("bars.mp4", "bars"), ("twice.mp4", "duplicate"),
    }  # fmt: skip
    training = {(finding.clip, finding.kind) for finding in audit.audit(split, split)}
    assert ("fine.mp4", "in-training") in training
    out = run("data", "audit", f"folder:{folder}?res=64&fps=5&seconds=1", "--out", "odd.csv")
    assert "twice.mp4  duplicate: of fine.mp4" in out
    assert {clip.id for clip in lists.read(tmp_path / "odd.csv")} == {"still.mp4", "black.mp4", "bars.mp4", "twice.mp4"}


def test_mute_clips_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "chirp", lambda seconds, *_: np.zeros(round(seconds * clocks.RATE), np.float32))
    (tmp_path / "v").mkdir()
    clocks.write(tmp_path / "v" / "a.mp4", seconds=2.0)
    split = splits.load(f"folder:{tmp_path}/v{QUERY}", progress=False)
    assert [finding.kind for finding in audit.audit(split)] == ["mute"]
