"""A submission: the folder of one row, as `avbench submit` writes it and `avbench validate` reads it.

<tokenizer>/<revision>/<split>_<protocol>/
result.json     the values, as the run has them
clips.jsonl.gz  a row a clip
manifest.json   what made them, without paths and names of machines or users; `schema`, and `checksums` of the other files
card.yaml       who stands for it, and what it was trained on
features.npz    rows of the distribution metrics (FVD, FAD), up to MAX_FEATURES_BYTES; else left out
tokens/         the kept bytes, up to MAX_TOKENS_BYTES; else tokens.sha256, a digest a file

A row that was made before bytes were kept has no tokens; `kept` in its manifest says so.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from avbench.errors import AvbenchError
from avbench.files import read_bytes, slug
from avbench.protocol import NAMED
from avbench.types import DEFAULT_TASK

SCHEMA = 1  # of a submission's files; a reader refuses a larger one
MAX_FEATURES_BYTES = 4 * 2**20  # FVD and FAD of 101 clips have 2 MB
MAX_TOKENS_BYTES = 4 * 2**20  # 1 kbit/s of 1,010 clips has 0.6 MB
MAX_CARD_BYTES = 16_384
MAX_CARD_TEXT = 500  # characters
NEEDED = ("result.json", "clips.jsonl.gz", "manifest.json", "card.yaml")
OPTIONAL = ("features.npz", "tokens.sha256")
TOKEN_FILE = re.compile(r"[0-9]{6}\.avt|format")
FILL_IN = "FILL IN"
PLEDGE = "The tokenizer was not trained, fitted or chosen on the clips of this split."
TEMPLATE = f"""# Of whoever stands for these numbers. Every text is published.
who: {FILL_IN}                 # a name, or a group's
contact: {FILL_IN}             # a mail address, or a page
trained_on: {FILL_IN}          # the clips that the tokenizer saw, in words; "nothing" of a classical codec
training_split: ""            # the split of avbench that these are (avbench list splits), if one is: submit then looks for overlap
licence: {FILL_IN}             # of the tokenizer
link: {FILL_IN}                # its code or paper; "none" where there is no page yet
exception: ""                 # what was looked at on clips of this split all the same, e.g. a temperature; it is printed by validate
# Leave the next line as it is if it is true, but for the exception; the row is refused without it.
pledge: {PLEDGE}
"""
_UNSAFE = re.compile(r"[<>`\"{}\\]|\]\(|&#?\w+;|javascript:", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Card:
    """Who stands for a row. training_split: a split that avbench knows, or "". exception: what the pledge does not hold for, or ""."""

    who: str
    contact: str
    trained_on: str
    licence: str
    link: str
    pledge: str
    training_split: str = ""
    exception: str = ""


def read_card(path: Path) -> Card:
    """The card in a file. Raises AvbenchError that names every key that is missing, unknown or not filled in."""
    import yaml

    try:
        content = yaml.safe_load(read_bytes(path, MAX_CARD_BYTES))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AvbenchError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise AvbenchError(f"{path} is no card: keys {', '.join(field.name for field in fields(Card))} are needed")
    problems = list(_problems_of_card(content))
    if problems:
        raise AvbenchError(f"{path}: {'; '.join(problems)}")
    return Card(**{field.name: content.get(field.name) or "" for field in fields(Card)})


def _problems_of_card(content: Mapping[Any, Any]) -> Iterator[str]:
    known = [field.name for field in fields(Card)]
    unknown = sorted(str(key) for key in content if key not in known)
    if unknown:
        yield f"unknown keys {', '.join(unknown)}"
    for name in known:
        text = content.get(name)
        if text in (None, "") and name not in ("training_split", "exception"):
            yield f"{name} is missing"
        elif not isinstance(text, str | None) or len(text or "") > MAX_CARD_TEXT:
            yield f"{name} is not a text of at most {MAX_CARD_TEXT} characters"
        elif text and text.startswith(FILL_IN):
            yield f"{name} is not filled in"
        elif text and (problem := problem_of_name(text, name)):
            yield problem
    if isinstance(content.get("pledge"), str) and content["pledge"] != PLEDGE:
        yield f'pledge does not say "{PLEDGE}"'


def problem_of_name(text: str, what: str) -> str | None:
    """Why a text should not stand on a page (mark-up, control or bidirectional characters), or None."""
    if not text.isprintable():
        return f"{what} {ascii(text)[:120]} has control characters"
    if _UNSAFE.search(text):
        return f"{what} {text[:120]!r} has mark-up"
    return None


def problem_of_id(text: str) -> str | None:
    """Why a clip's id is none: it could be read as a way out of a folder, or cannot be printed."""
    if not text or not text.isprintable():
        return f"the clip id {ascii(text)[:120]} has control characters"
    if text.startswith(("/", "~")) or "\\" in text or re.match(r"[A-Za-z]:", text) or ".." in text.split("/"):
        return f"the clip id {text[:120]!r} is a path out of its folder"
    return problem_of_name(text, "the clip id")


def place_of(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> Path:
    """`<tokenizer>/<revision>/<split>_<protocol>`, of names made safe and bounded.

    A revision that does not tell a run's content alone (a checkpoint, a plugin's code, constructor arguments) gets a hash of it. Before
    the split stands the task, if it is not reconstruct; behind the protocol what is not the default: `first-N` clips, `seed-N`.
    """
    spec, tokenizer = result["spec"], result["tokenizer"]
    content = content_of(result, manifest)
    revision = slug(str(tokenizer.get("revision") or "1"))
    if any(part is not None for part in content):
        revision += f"-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]}"
    task = "" if spec["task"] == DEFAULT_TASK else f"{slug(spec['task'])}_"
    split, _, query = str(result["split"]["name"]).partition("?")
    parts = [slug(split), _protocol_word(str(result["protocol"]), query)]
    parts += [f"first-{int(spec['limit'])}"] if spec.get("limit") else []
    parts += [f"seed-{int(spec['seed'])}"] if spec.get("seed") else []
    return Path(slug(str(tokenizer["name"])), revision, task + "_".join(parts))


def content_of(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """What a tokenizer is beside its name and revision: sha256 of its checkpoint, sha256 of a plugin's code, constructor arguments."""
    identity = manifest.get("identity") or {}
    plugin = (identity.get("tokenizer") or {}).get("plugin") if isinstance(identity, Mapping) else None
    return result.get("checkpoint_sha256"), plugin, result["spec"].get("tokenizer_args") or None


def _protocol_word(protocol: str, query: str) -> str:
    named = [name for name, known in NAMED.items() if str(known) == protocol]
    return named[0] if named else slug(query) or hashlib.sha256(protocol.encode()).hexdigest()[:8]
