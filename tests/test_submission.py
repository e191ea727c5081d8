"""The whole way of a stranger's row: run, submit, validate, verify, table, by the command line in processes of their own."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from submissions import CARD

TOY = Path(__file__).parent / "toy_plugin" / "block_mean.py"
Command = Callable[..., subprocess.CompletedProcess[str]]


def test_a_strangers_row_is_run_submitted_validated_verified_and_shown(avbench: Command, tmp_path: Path) -> None:
    metrics = "psnr,codebook_use,bits_per_s,tokens_per_s"
    done = avbench("run", "--tokenizer", f"{TOY}:BlockMean", "--split", "arcade-mini", "--limit", "4", "--metrics", metrics)
    assert done.returncode == 0, done.stderr
    run = done.stdout.splitlines()[-1]
    done = avbench("submit", run)
    assert done.returncode == 2
    assert "fill in who" in done.stderr
    (tmp_path / "card.yaml").write_text(CARD)
    done = avbench("submit", run)
    assert done.returncode == 0, done.stderr
    row = tmp_path / done.stdout.splitlines()[-1]
    assert row.parts[-3] == "block-mean"
    assert row.name == "arcade-mini_avtok_first-4"
    done = avbench("validate", "results")
    assert done.returncode == 0, done.stdout
    assert done.stdout == "1 rows, all sound\n"

    shutil.copytree(tmp_path / "results", tmp_path / "before")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(TOY.parent, elsewhere / "plugin")
    done = avbench("verify", str(row), "--tokenizer", f"{elsewhere}/plugin/block_mean.py:BlockMean", "--by", "keeper", cwd=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((row / "manifest.json").read_text())["verified"]["by"] == "keeper"
    assert avbench("validate", "results").returncode == 0
    done = avbench("validate", "results", "--base", "before")
    assert done.returncode == 1
    assert '"verified" is added' in done.stdout
    assert "block-mean ✓" in avbench("table", "--results", "results").stdout
    assert "block-mean ✓" not in avbench("table", "--no-published").stdout
