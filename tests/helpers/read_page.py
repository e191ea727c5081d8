"""A page as a browser would take it apart."""

from html.parser import HTMLParser
from pathlib import Path


class Reader(HTMLParser):
    """An independent reading of a page: its tags with attributes, its text outside scripts, its JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.texts).append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))
