"""`avbench validate results/`: everything that can be checked of submissions without decoding a clip. No plugin is imported.

Each folder by itself (avbench/board/checks.py): files, schema, checksums, names, card, counts, values anew, bits of the bytes. Then
together: one board has one protocol, and no row is there twice. What only the clips can tell is for `avbench verify`.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from avbench.board.checks import Folder, problems, remarks
from avbench.board.results import PUBLISHED, collect
from avbench.errors import AvbenchError, UsageError
from avbench.files import read_bytes

MAX_MANIFEST_BYTES = 2**23
LOOSE = ("README.md",)  # may lie at the top


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong with a folder, or (is_error False) what could not be checked."""

    folder: str
    text: str
    is_error: bool = True


@dataclass(frozen=True, kw_only=True)
class Validation:
    """num_rows: folders that were looked at."""

    num_rows: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What is wrong."""
        return tuple(finding for finding in self.findings if finding.is_error)


def validate(root: Path, *, base: Path | None = None, published: Path = PUBLISHED) -> Validation:
    """Check every submission below `root`, a results folder, or `root` itself, one submission.

    base: the results folder as it was before (of a pull request): then "verified" may not be added, and no verified row be changed.
    published: rows whose protocols hold for their splits. Raises UsageError where `root` holds no submission.
    """
    one = (root / "result.json").exists() or (root / "manifest.json").exists()
    paths = [root.resolve()] if one else sorted(path for path in root.glob("*/*/*") if path.is_dir() and not path.is_symlink())
    if not paths:
        raise UsageError(f"{root} holds no submission (TOKENIZER/REVISION/SPLIT_PROTOCOL/result.json); avbench submit RUN --to {root}")
    folders = [Folder(path) for path in paths]
    findings = [] if one else [Finding(folder=name, text="belongs to no submission") for name in _strays(root)]
    sound = []
    for folder in folders:
        wrong = [*problems(folder), *(_verified(folder, base / folder.name) if base else ())]
        findings += [Finding(folder=folder.name, text=text) for text in wrong]
        sound += [] if wrong else [folder]
    findings += [Finding(folder=folder.name, text=text, is_error=False) for folder in sound for text in remarks(folder)]
    findings += [*_protocols(sound, published), *_twice(sound)]
    return Validation(num_rows=len(folders), findings=tuple(sorted(findings, key=lambda found: (not found.is_error, found.folder))))


def _strays(root: Path) -> Iterator[str]:
    """What lies outside the folders of submissions: files above them, and links."""
    for pattern in ("*", "*/*", "*/*/*"):
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root).as_posix()
            if (path.is_symlink() or not path.is_dir()) and name not in LOOSE:
                yield ascii(name)


def _verified(folder: Folder, before: Path) -> Iterator[str]:
    """A row that says it is verified is the one that was there."""
    if "verified" not in folder.manifest:
        return
    path, earlier = folder.path / "manifest.json", before / "manifest.json"
    if not earlier.is_file() or read_bytes(earlier, MAX_MANIFEST_BYTES) != read_bytes(path, MAX_MANIFEST_BYTES):
        yield '"verified" is added, or a verified row is changed: a maintainer does that, by avbench verify on a branch of the repository'


def _protocols(folders: Sequence[Folder], published: Path) -> Iterator[Finding]:
    """One split has one protocol: that of the published rows, else the most common one here."""
    known = {run.split: run.protocol for run in collect(published).results}
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for folder in folders:
        told[folder.result.split][folder.result.protocol] += 1
    for folder in folders:
        split = folder.result.split
        expected = known.get(split) or told[split].most_common(1)[0][0]
        if folder.result.protocol != expected:
            text = f"another protocol than the other rows of {split}: {folder.result.protocol[:200]}, theirs is {expected[:200]}"
            yield Finding(folder=folder.name, text=text)


def _twice(folders: Sequence[Folder]) -> Iterator[Finding]:
    """The same bytes, or the same numbers of every clip, under two names. Controls may agree: some show the same clips."""
    for what, digest in (("kept bytes", _digest_of_tokens), ("numbers of every clip", _digest_of_rows)):
        first: dict[str, Folder] = {}
        for folder in folders:
            key = digest(folder) if folder.result.kind != "control" else None
            if key is None:
                continue
            other = first.setdefault(key, folder)
            if other is not folder:
                yield Finding(folder=folder.name, text=f"is there twice: it has the {what} of {other.name}")


def _digest_of_tokens(folder: Folder) -> str | None:
    try:
        tokens = folder.tokens
    except AvbenchError:
        return None
    content = [(clip, hashlib.sha256(data).hexdigest()) for clip, data in sorted(tokens.items())]
    return hashlib.sha256(json.dumps([folder.result.task, content]).encode()).hexdigest() if content else None


def _digest_of_rows(folder: Folder) -> str | None:
    content = [(row["id"], sorted(row["metrics"].items())) for row in folder.rows if row["metrics"]]
    return hashlib.sha256(json.dumps([folder.result.task, content]).encode()).hexdigest() if content else None
