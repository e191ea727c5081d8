"""The README keeps its word: it is short, its commands exist, its file tree is the tree, its tables and code are the repository's."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from avbench.cli.app import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = sorted((ROOT / "docs").glob("*.md"))
BLOCKS = re.findall(r"^```(?:\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = sorted({line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.startswith("avbench ")})


def parses(command: click.Command, arguments: list[str]) -> None:
    """Raise click's usage error unless `arguments` are of `command`'s form; nothing is run."""
    context = command.make_context("avbench", list(arguments))
    if isinstance(command, click.Group):
        name, sub, rest = command.resolve_command(context, arguments)
        assert sub is not None, name
        parses(sub, rest)


def test_the_readme_is_read_in_five_minutes() -> None:
    lines = README.splitlines()
    wide = [line for line in lines if len(line) > 100 and not line.startswith(("|", "<!--"))]
    assert len(lines) <= 150
    assert not wide


def test_the_readme_has_one_table_of_results_and_one_picture() -> None:
    tables = re.findall(r"^<!-- board .*?^<!-- end -->", README, re.DOTALL | re.MULTILINE)
    assert len(tables) == 1
    assert len(re.findall(r"^\|", tables[0], re.MULTILINE)) - 2 <= 8  # without the header and its rule
    assert README.count("![") == 1


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS], ids=lambda page: page.stem)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert target.startswith("http") or path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_every_page_stands_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in DOCS if page.name != "README.md" and f"]({page.name})" not in index] == []


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_exists_with_its_options(command: str) -> None:
    parses(app, command.split()[1:])


def test_every_file_of_the_readmes_tree_is_there() -> None:
    tree = next(block for block in BLOCKS if block.startswith("metrics/"))
    folder = ""
    for line in tree.splitlines():
        names = re.match(r"\s*([^\s,]+(?:, [^\s,]+)*)", line)[1].split(", ")
        folder = names[0] if not line.startswith(" ") else folder
        for name in names:
            path = folder if not line.startswith(" ") else folder + name
            assert list(ROOT.glob(path.rstrip("/"))), f"{path} is in the README and not in the repository"


def test_the_readmes_tables_and_code_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, "benchmarks/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
