"""`entry_points.py FOLDER`: makes avbench's own entry points known in FOLDER (on sys.path), for a machine where it cannot be installed.

An editable install needs its build backend; a machine without a network may lack it. Only metadata is written, no code.
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(folder: Path) -> None:
    """Write FOLDER/avbench-<version>.dist-info."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    target = folder / f"avbench-{project['version']}.dist-info"
    target.mkdir(parents=True, exist_ok=True)
    (target / "METADATA").write_text(f"Metadata-Version: 2.1\nName: avbench\nVersion: {project['version']}\n")
    groups = [_section(group, names) for group, names in project["entry-points"].items()]
    (target / "entry_points.txt").write_text("\n".join(groups))


def _section(group: str, names: dict[str, str]) -> str:
    return f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
