"""The one exception that users see as a message instead of a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class AvbenchError(Exception):
    """Something the user can mend. The message says what, where and what next; the CLI prints it and exits 1.

    Messages quote files and names of anybody's: what would steer a terminal is spelt out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if text.isprintable() else "".join(map(_spelt, text))


def _spelt(letter: str) -> str:
    return letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1]


class UsageError(AvbenchError):
    """A wrong name or argument on the command line (exit 2)."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, also: tuple[str, Iterable[str]] | None = None) -> UsageError:
    """`unknown tokenizer "avtk"; did you mean "avtok"?` plus the command that lists what there is.

    also: what a name may be instead, and the names of that kind.
    """
    names, others = sorted(known), sorted(also[1]) if also else []
    close = get_close_matches(name, [*names, *others], n=1, cutoff=0.5)
    listed = f"known: {', '.join(names)}" + (f"; or {also[0]}: {', '.join(others)}" if also else "")
    hint = f'did you mean "{close[0]}"?' if close else listed
    return UsageError(f'unknown {kind} "{name}"; {hint}  (avbench list {kind}s)')
