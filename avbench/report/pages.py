"""Templates, style and scripts of the site, and the policy that keeps anything else from running.

Whatever comes from data reaches a page through Jinja's autoescape or as JSON in a script block that is no script, with every `<`,
`>` and `&` as \\u00..; scripts put it on the page as text. The Content-Security-Policy allows the page's own style and
scripts by their hashes, media beside the page, and nothing from the network.
"""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from avbench.board.columns import Column
from avbench.board.table import BELOW_FLOOR, VERIFIED, VERIFIED_KEY, Cell
from avbench.board.text import format_spread, format_value

TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, *, scripts: tuple[str, ...] = (), **values: Any) -> str:
    """The page templates/<name>.html.j2 with `scripts` (templates/<script>.js) allowed to run."""
    style = _source("report.css")
    sources = tuple(_source(f"{script}.js") for script in scripts)
    return _environment().get_template(f"{name}.html.j2").render(style=style, scripts=sources, policy=policy(style, sources), **values)


def policy(style: str, scripts: tuple[str, ...]) -> str:
    """The Content-Security-Policy of a page with this style and these scripts in it. `file:` is the page's own folder off a disk."""
    allowed = " ".join(_hash(script) for script in scripts) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src 'self' file: data:; media-src 'self' file:; "
        "base-uri 'none'; form-action 'none'"
    )


def to_json(value: Any) -> Markup:
    """JSON that may stand in a script block: nothing in it ends the block or starts a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _source(name: str) -> Markup:
    """A file of the package: ours, not data, so it is put on the page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(TEMPLATES)
    )
    environment.globals |= {"below_floor": BELOW_FLOOR, "verified": VERIFIED, "verified_key": VERIFIED_KEY, "empty": Cell(value=None)}
    environment.filters |= {"to_json": to_json, "interval": _interval}
    environment.globals |= {"format_value": format_value, "format_spread": format_spread}
    return environment


def _interval(cell: Cell, column: Column) -> str:
    """`95 % interval 26.2 to 27.9, 101 clips`, and why the value is as it is."""
    parts = [cell.reason] if cell.reason else []
    if cell.ci_low is not None and cell.ci_high is not None:
        parts.append(f"95 % interval {cell.ci_low * column.scale:.6g} to {cell.ci_high * column.scale:.6g}")
    if cell.value is not None and cell.num_clips:
        parts.append(f"{cell.num_clips} clips")
    return ", ".join(parts)
