"""What the command line imports before there is anything to compute: help, versions and tables are for the impatient."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "numpy", "scipy", "sklearn", "av", "cv2", "librosa", "matplotlib"}
RESULTS = Path(__file__).parents[2] / "results"
CODE = """
import atexit
import sys
from avbench.cli.app import main
atexit.register(lambda: print("imported", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr))
main()
"""


def imported(*arguments: str) -> set[str]:
    """Top-level modules of a process that ran `avbench ARGUMENTS`."""
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", ["--version", "--help", "run --help", "table --help", "train --help", "list --help"])
def test_help_imports_nothing_heavy(arguments):
    assert not imported(*arguments.split()) & HEAVY


@pytest.mark.parametrize("style", ["md", "csv", "json", "html", "latex"])
def test_a_table_is_made_without_torch(style):
    found = imported("table", "--split", "arcade-mini", "--results", str(RESULTS), "--format", style)
    assert "avbench" in found
    assert not found & (HEAVY - {"numpy"})


@pytest.mark.parametrize("name", ["avbench", "avbench.types", "avbench.registry", "avbench.task", "avbench.tokenizer", "avbench.metric"])
def test_the_contracts_import_no_torch(name):
    code = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
