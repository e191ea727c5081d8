"""The layout's rules: links, and no package at the root that shadows an installed one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["tokenizers", "metrics", "leaderboards"])
def test_a_link_in_the_package_is_the_folder_at_the_root(name: str) -> None:
    assert (ROOT / "avbench" / name).is_symlink()
    assert (ROOT / "avbench" / name).samefile(ROOT / name)
    assert not (ROOT / name / "__init__.py").exists()


def test_a_module_is_the_same_file_through_the_link() -> None:
    import avbench.metrics.psnr as module

    assert Path(module.__file__ or "").samefile(ROOT / "metrics" / "psnr.py")


def test_import_tokenizers_at_the_root_is_hugging_faces() -> None:
    pytest.importorskip("tokenizers")
    code = "import tokenizers; assert tokenizers.Tokenizer; print(tokenizers.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "site-packages" in done.stdout
