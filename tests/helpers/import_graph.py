"""Who imports whom in this repository, as the sources say it: imports inside functions and for type checkers included."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINKED = ("tokenizers", "metrics")  # folders at the root that are sub-packages of avbench through a link


@cache
def modules() -> dict[str, Path]:
    """Module name -> its file."""
    files = [path for path in (ROOT / "avbench").rglob("*.py") if path.relative_to(ROOT).parts[1] not in (*LINKED, "leaderboards")]
    files += [path for folder in LINKED for path in (ROOT / folder).rglob("*.py")]
    return {_name(path.relative_to(ROOT)): path for path in sorted(files)}


@cache
def imports() -> dict[str, set[str]]:
    """Module name -> the modules of this repository that it names in import statements, itself left out."""
    known = modules()
    return {name: _imported(path, known) - {name} for name, path in known.items()}


def edges() -> list[tuple[str, str]]:
    """(importer, imported), in order."""
    return sorted((name, other) for name, others in imports().items() for other in others)


def room(module: str) -> str:
    """`avbench.tokenizers.avtok.model` -> "tokenizers"; "" for avbench itself."""
    return [*module.split("."), ""][1]


def folder(module: str) -> str:
    """`avbench.tokenizers.avtok.model` -> "avtok"; "" for a module that is a file in its room."""
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and (ROOT / parts[1] / parts[2]).is_dir() else ""


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    parts = parts if parts[0] == "avbench" else ("avbench", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, known: dict[str, Path]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: imports are absolute here"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else node.module for name in inside}
    return names & known.keys()
