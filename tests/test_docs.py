"""docs/: every code block is executed, in a folder with a few short videos; the few that are not say why, and their commands exist.

<!-- file NAME -->       the next block is a file of that name
<!-- code PATH -->       the next block is that file of the repository (benchmarks/readme.py keeps it so)
<!-- not run: WHY -->    the next block is only parsed
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from avbench.cli.app import app
from avbench.registry import plugins

pytestmark = pytest.mark.slow  # two minutes on two cores

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page and the remark above it."""

    note: str
    kind: str
    code: str

    @property
    def lines(self) -> list[str]:
        """Its commands."""
        return [line for line in self.code.splitlines() if line.strip()]


def blocks(page: Path) -> list[Block]:
    return [Block(note=m["note"] or "", kind=m["kind"], code=m["code"]) for m in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def parses(words: list[str]) -> None:
    """Raise click's usage error unless `avbench WORDS` is a command with these options; nothing is run."""
    command: click.Command = app
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"avbench {shlex.join(words)}"
        command, words = found, words[1:]
    command.make_context("avbench", list(words))


@pytest.fixture
def place(tmp_path: Path, clip_folder: Path, test_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with my_videos/ and data/vggsound/, and a cache of the tests' own."""
    shutil.copytree(clip_folder, tmp_path / "my_videos")
    vggsound = tmp_path / "data" / "vggsound"
    vggsound.mkdir(parents=True)
    rows = []
    for number, movie in enumerate(sorted(clip_folder.rglob("*.mp4"))[:2]):
        video = f"abcdefghij{number}"
        shutil.copy(movie, vggsound / f"{video}_{30 * number:06d}.mp4")
        rows.append(f'{video},{30 * number},"playing, loudly",test\n')
    (vggsound / "vggsound.csv").write_text("".join([*rows, "abcdefghijk,10,gone,test\n", "abcdefghijl,10,gone,train\n"]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("AVBENCH_DATA", raising=False)
    return tmp_path


def execute(line: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command of a shell block: `avbench ...` in this process, `export NAME=$PWD/...`."""
    first, *rest = shlex.split(line.replace("$PWD", str(place)))
    if first == "export":
        name, _, value = rest[0].partition("=")
        monkeypatch.setenv(name, value)
        return
    assert first == "avbench", f"no rule for: {line}"
    done = CliRunner().invoke(app, rest)
    assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_code_block_of_a_page_runs(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks(page):
        if block.note.startswith("not run: "):
            commands = [shlex.split(line) for line in block.lines if block.kind == "sh"]
            for words in commands:
                parses(words[words.index("avbench") + 1 :])
        elif block.note.startswith(("file ", "code ")):
            (place / Path(block.note.split()[1]).name).write_text(block.code)
        elif block.kind == "python":
            environment = {**os.environ, "PYTHONPATH": str(place)}
            done = subprocess.run(
                [sys.executable, "-c", block.code], cwd=place, capture_output=True, text=True, env=environment, check=False
            )
            assert done.returncode == 0, f"{page.name}:\n{block.code}\n{done.stderr}"
        else:
            assert block.kind == "sh", f"{page.name}: a block of kind {block.kind!r} needs a remark"
            for line in block.lines:
                execute(line, place, monkeypatch)
    if page.stem == "report":
        assert len(list((place / "site" / "media").rglob("reference.flac"))) == 2  # the clips that were asked for can be played


def test_the_script_of_the_readme_runs(place: Path) -> None:
    """Six lines from a folder to two tables."""
    script = next(block for block in blocks(ROOT / "README.md") if block.code.startswith("import avbench"))
    assert len(script.lines) <= 6
    done = subprocess.run([sys.executable, "-c", script.code], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ci_low" in done.stdout


def test_the_notebook_runs_from_a_folder_to_a_plot(place: Path) -> None:
    """Its cells in order, in one interpreter, as a kernel runs them."""
    notebook = json.loads((ROOT / "docs" / "avbench.ipynb").read_text(encoding="utf-8"))
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    environment = {**os.environ, "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "h264@60k-opus@24k" in done.stdout
    assert (place / "rate.png").stat().st_size > 10_000
    assert all(not cell.get("outputs") for cell in notebook["cells"])


@pytest.mark.parametrize("name", sorted(name for name, plugin in plugins("metric").items() if plugin.distribution == "avbench"))
def test_every_metric_has_its_section(name: str) -> None:
    assert f"\n## {name}\n" in (ROOT / "docs" / "metrics.md").read_text(), (
        f"docs/metrics.md lacks a section on {name}: protocol, source, limits"
    )


def test_links_between_the_pages_and_files_they_name_are_there() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
        for path in re.findall(r"`((?:avbench|tests|benchmarks|scripts|metrics|leaderboards)/[\w./-]+\w/?)`", text):
            assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_the_environment_page_names_every_variable_that_the_code_reads_and_no_other() -> None:
    sources = [path for part in ("avbench", "tokenizers", "metrics", "leaderboards") for path in (ROOT / part).rglob("*.py")]
    code = " ".join(path.read_text(encoding="utf-8") for path in sources)
    read = set(re.findall(r"environ[^\n]*\"(AVBENCH_[A-Z_]+)\"", code)) | set(re.findall(r"^VARIABLE = \"(AVBENCH_[A-Z_]+)\"", code, re.M))
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    assert read == set(re.findall(r"^\| `(AVBENCH_[A-Z_]+)`", page, re.M))
