"""The layout's rules: links, no package at the root that shadows an installed one, and who may import whom."""

import ast
import subprocess
import sys
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from import_graph import edges, folder, imports, modules, room

from avbench.registry import plugins

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["tokenizers", "metrics", "leaderboards", "results"])
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


# What still breaks a rule, and why. An entry that nothing needs any more fails the test as well.
NOT_YET: dict[tuple[str, str], str] = {}
SHARED = {("larp", "avtok"): "LARP and AVTok share a network"}  # (builds on, built on): words in both docstrings


def broken(rule: Callable[[str, str], bool]) -> list[tuple[str, str]]:
    """Imports that `rule` forbids."""
    return [edge for edge in edges() if rule(*edge) and edge not in NOT_YET]


def test_the_core_reaches_tokenizers_and_metrics_through_entry_points_only() -> None:
    assert not broken(lambda user, used: room(user) not in ("tokenizers", "metrics") and room(used) in ("tokenizers", "metrics"))


def test_tokenizers_and_metrics_do_not_import_each_other() -> None:
    assert not broken(lambda user, used: {room(user), room(used)} == {"tokenizers", "metrics"})


def test_no_tokenizer_imports_anothers_folder_unless_it_is_built_on_it_by_name() -> None:
    def foreign(user: str, used: str) -> bool:
        apart = room(user) == room(used) == "tokenizers" and folder(used) != folder(user)
        return apart and bool(folder(used)) and (folder(user), folder(used)) not in SHARED

    assert not broken(foreign)


@pytest.mark.parametrize(("names", "words"), SHARED.items(), ids=lambda value: "-".join(value) if isinstance(value, tuple) else "")
def test_tokenizers_that_share_say_so(names: tuple[str, str], words: str) -> None:
    for name in names:
        assert words in (ast.get_docstring(ast.parse((ROOT / "tokenizers" / name / "__init__.py").read_text())) or "")


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: {used for used in others if (name, used) not in NOT_YET} for name, others in imports().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_every_recipe_is_an_entry_point() -> None:
    written = set()
    for path in ROOT.glob("**/recipes.py"):
        if path.parent == ROOT / "avbench" / "train" or ".venv" in path.parts or "avbench/tokenizers" in str(path):
            continue
        module = next(name for name, file in modules().items() if file == path)
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        written |= {f"{module}:{f.name}" for f in functions if not f.name.startswith("_") and not f.args.args}
    assert written <= {plugin.entry_point.value for plugin in plugins("recipe").values()}
    assert len(written) >= 10


def test_exceptions_are_needed() -> None:
    assert set(NOT_YET) <= set(edges())
