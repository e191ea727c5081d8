"""A board says which metrics are a table's columns; leaderboards/<board>.toml, and reported.toml for published numbers. Data, not code."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "leaderboards"
Direction = bool | None  # True: higher is better, False: lower is better, None: a fact that is not ranked


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric in a table. Values are shown as value x scale with `decimals` digits after the point."""

    metric: str
    title: str
    section: str
    higher_is_better: Direction = None
    best_is_reference: bool = False  # ranked by the distance to the value of the real clips
    decimals: int | None = None  # None: four significant digits
    scale: float = 1.0
    unit: str = ""

    @property
    def header(self) -> str:
        """`PSNR dB ↑`"""
        arrow = "≈" if self.best_is_reference else {True: "↑", False: "↓", None: ""}[self.higher_is_better]
        return " ".join(part for part in (self.title, self.unit, arrow) if part)


@dataclass(frozen=True, kw_only=True)
class ReportedRow:
    """A published row: numbers by the reporting board's metric names."""

    method: str
    kind: str
    note: str
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A published table with its source. Its rows are never ranked with measured ones."""

    task: str
    title: str
    source: str
    protocol: str
    columns: tuple[Column, ...]
    rows: tuple[ReportedRow, ...]


@dataclass(frozen=True, kw_only=True)
class Board:
    """tasks: whose runs it shows. floors: zero-skill tokenizers; a row that does not beat them is marked. references: rows of the real
    clips themselves. reported: published tables."""

    name: str
    title: str
    tasks: tuple[str, ...]
    floors: frozenset[str]
    references: frozenset[str]
    columns: tuple[Column, ...]
    reported: tuple[Reported, ...]


def load_board(name: str, folder: Path = FOLDER) -> Board:
    """The board leaderboards/<name>.toml with the published tables for its tasks."""
    content = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
    tasks = tuple(content["tasks"])
    reported = tuple(table for table in load_reported(folder) if table.task == name)
    return Board(
        name=name,
        title=content["title"],
        tasks=tasks,
        floors=frozenset(content.get("floors", ())),
        references=frozenset(content.get("references", ())),
        columns=_columns(content),
        reported=reported,
    )


def load_boards(folder: Path = FOLDER) -> tuple[Board, ...]:
    """Every board, reconstruction first."""
    return tuple(load_board(name, folder) for name in ("reconstruct", "generate"))


def load_reported(folder: Path = FOLDER) -> tuple[Reported, ...]:
    """The published tables of leaderboards/reported.toml."""
    content = tomllib.loads((folder / "reported.toml").read_text(encoding="utf-8"))
    return tuple(
        Reported(
            task=table["board"],
            title=table["title"],
            source=table["source"],
            protocol=table["protocol"],
            columns=_columns(table),
            rows=tuple(_reported_row(row) for row in table["rows"]),
        )
        for table in content["tables"]
    )


def _columns(content: dict[str, Any]) -> tuple[Column, ...]:
    return tuple(Column(**({"section": ""} | column)) for column in content["columns"])


def _reported_row(row: dict[str, Any]) -> ReportedRow:
    return ReportedRow(
        method=row["method"],
        kind=row["kind"],
        note=row.get("note", ""),
        values={key: float(value) for key, value in row.items() if key not in ("method", "kind", "note")},
    )
