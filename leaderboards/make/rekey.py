"""Gives every run of runs/reference/ the folder and run_id that this version would give it; numbers stay byte for byte.

    python leaderboards/make/rekey.py --prove TOKENIZER [TOKENIZER ...]     evaluates them on arcade-mini, compares with the kept rows
    python leaderboards/make/rekey.py --write                               renames

An id is made of what a run's manifest says: spec, tokenizer revision, split checksum and protocol. A checkpoint that is not beside the
manifest any more cannot be hashed again: its revision, which for our own checkpoints is the hash of their weights, stands for it.
Afterwards: `avbench table --runs-dir runs/reference --write` (the id is a column of the .csv files).
"""

import argparse
import json
import math
import sys
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avbench.run import identity
from avbench.run.evaluate import evaluate
from avbench.types import RunSpec, Sampling

REFERENCE = Path("runs") / "reference"
TOLERANCE = 1e-6


def new_id(manifest: dict[str, Any], protocol: str) -> str:
    """The run_id of the run that the manifest describes."""
    kept = manifest["spec"]
    sampling = Sampling(**{field.name: kept[field.name] for field in fields(Sampling) if field.name in kept})
    names = {field.name for field in fields(RunSpec)} - {"sampling"}
    spec = RunSpec(**{**{key: value for key, value in kept.items() if key in names}, "metrics": tuple(kept["metrics"])}, sampling=sampling)
    revision = manifest["tokenizer"]["revision"]
    facts = identity.facts_of(
        spec,
        name=manifest["tokenizer"]["name"],
        revision=revision,
        checksum=manifest["split"]["checksum"],
        protocol=protocol,
        checkpoint=None if spec.checkpoint is None else f"revision {revision}",
        plugin=None,
    )
    return identity.run_id(facts)


def rekey(folder: Path, write: bool) -> Path:
    """The folder under its new name; only the text of the id changes in result.json."""
    text = (folder / "result.json").read_text()
    result, manifest = json.loads(text), json.loads((folder / "manifest.json").read_text())
    found = new_id(manifest, result["protocol"])
    changed = text.replace(json.dumps(result["run_id"]), json.dumps(found))
    assert json.loads(changed) == result | {"run_id": found}, folder
    target = folder.parent / found
    if write and target != folder:
        if target.exists():
            raise SystemExit(f"{target} is there already: {folder} would replace it")
        (folder / "result.json").write_text(changed)
        folder.rename(target)
    return target


def prove(tokenizer: str, metrics: tuple[str, ...]) -> list[str]:
    """Evaluate again on arcade-mini; lines that name each value that is not the kept one's to TOLERANCE."""
    kept = {}
    for file in REFERENCE.glob("*_arcade-mini_*/result.json"):
        result = json.loads(file.read_text())
        if result["spec"]["tokenizer"] == tokenizer and result["spec"]["checkpoint"] is None:
            kept = {value["name"]: value for value in result["values"]}
    with TemporaryDirectory() as folder:
        found = evaluate(RunSpec(tokenizer=tokenizer, split="arcade-mini", metrics=metrics), runs_dir=Path(folder)).result["values"]
    lines = []
    for value in found:
        before = kept.get(value["name"], {})
        same = all(_same(before.get(key), value[key]) for key in ("value", "ci_low", "ci_high", "num_clips", "protocol"))
        lines.append(f"{'same ' if same else 'OTHER'} {tokenizer} {value['name']}: {before.get('value')} before, {value['value']} now")
    return lines


def _same(a: Any, b: Any) -> bool:
    numbers = isinstance(a, float) and isinstance(b, float)
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) if numbers else bool(a == b)


def main() -> None:
    """Prove, or rename."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prove", nargs="+", metavar="TOKENIZER")
    parser.add_argument("--metrics", default="", help="for --prove; default: all")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.prove:
        metrics = tuple(name for name in options.metrics.split(",") if name)
        lines = [line for tokenizer in options.prove for line in prove(tokenizer, metrics)]
        print("\n".join(lines))
        sys.exit(any(line.startswith("OTHER") for line in lines))
    for file in sorted(REFERENCE.rglob("result.json")):
        target = rekey(file.parent, options.write)
        print(f"{file.parent.relative_to(REFERENCE)} -> {target.name}")


if __name__ == "__main__":
    main()
