"""Training runs as pages show them: loss curves by stage, held-out quality of all runs side by side, pictures over time.

Reads what `avbench train` writes: log.jsonl (lines of kind "train" with losses, of kind "eval" with held_out), pictures/<step>.png
and manifest.json. Logs may come from anybody: sizes are bounded, and what is not a number is left out.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avbench.board.results import MAX_NAME, clean, read_json
from avbench.errors import AvbenchError
from avbench.report.labels import Mark, place
from avbench.report.plot import Level, Line, Plot, path, x_axis, y_axis
from avbench.train.log import is_number, read_lines

MAX_RUNS = 50
MAX_TERMS = 24  # curves of one run that get a plot
CURVE_POINTS = 200  # of a curve; more are averaged in bins
LESS_IS_BETTER = re.compile(r"(mel_l1|mr_stft|lpips)(@.*)?|.*_bits|.*_perplexity")  # of held-out values
Curve = list[tuple[float, float]]  # (clips seen, value)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage and the number of clips seen when it began."""

    name: str
    start: float


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Held-out clips after `step`; target: where the file goes below the site's folder."""

    step: int
    file: Path
    target: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training run. losses and held_out: curves by name. schedule: of a tokenizer; learns: what a generator does, else "".

    problem: why it could not be read; it then has nothing but its name.
    """

    name: str
    anchor: str
    recipe: str = ""
    schedule: str = ""
    learns: str = ""
    minutes: float | None = None
    clips_seen: float = 0.0
    stages: tuple[Stage, ...] = ()
    losses: dict[str, Curve] = field(default_factory=dict)
    held_out: dict[str, Curve] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    plots: tuple[Plot, ...] = ()
    damaged_lines: int = 0
    problem: str = ""

    def last(self, name: str) -> float | None:
        """The last held-out value of that name."""
        curve = self.held_out.get(name)
        return curve[-1][1] if curve else None

    def picture_list(self) -> list[tuple[int, str]]:
        """(step, file) pairs for the page's script."""
        return [(picture.step, picture.target) for picture in self.pictures]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Training runs of one table: all of tokenizers, or all of generators. columns: held-out values, and whether more is better."""

    title: str
    remark: str
    generators: bool
    trainings: tuple[Training, ...]
    columns: tuple[tuple[str, bool], ...]
    plots: tuple[Plot, ...]


def read_trainings(root: Path, split_folder: str = "training") -> list[Training]:
    """The training runs in `root`, in its folders, and in theirs, by name."""
    if not root.is_dir():
        return []
    folders = sorted({log.parent for depth in ("", "*/", "*/*/") for log in root.glob(f"{depth}log.jsonl")})[:MAX_RUNS]
    names = [clean(folder.resolve().name, MAX_NAME) for folder in folders]
    full = [
        clean(str(folder.relative_to(root)), MAX_NAME) if names.count(name) > 1 else name
        for folder, name in zip(folders, names, strict=True)
    ]
    trainings = [_read_or_tell(folder, name, f"{split_folder}/{k}") for k, (folder, name) in enumerate(zip(folders, full, strict=True))]
    return [training for training in trainings if training.held_out or training.losses or training.problem]


def comparisons(trainings: Sequence[Training]) -> list[Comparison]:
    """Tokenizers, then generators, where there are any: a plot for each held-out value, with a line for every run that has it."""
    kinds = ((False, [t for t in trainings if not t.learns]), (True, [t for t in trainings if t.learns]))
    return [_comparison(generators, members) for generators, members in kinds if members]


def _comparison(generators: bool, trainings: Sequence[Training]) -> Comparison:
    names = list(dict.fromkeys(name for training in trainings for name in training.held_out))
    titles = ("Generator", "Generators compared") if generators else ("Held-out quality", "Schedules compared")
    return Comparison(
        title=titles[len(trainings) > 1],
        remark="Bits that a held-out clip's generated tokens cost under the model, and a token's perplexity; less is better."
        if generators
        else "",
        generators=generators,
        trainings=tuple(trainings),
        columns=tuple((name, LESS_IS_BETTER.fullmatch(name) is None) for name in names),
        plots=tuple(_held_out_plot(name, [t for t in trainings if t.held_out.get(name)]) for name in names[:MAX_TERMS]),
    )


def _read_or_tell(folder: Path, name: str, target: str) -> Training:
    try:
        return _read(folder, name, target)
    except Exception as error:  # a log may come from anybody: whatever is wrong with one, the others are shown
        return Training(name=name, anchor=target.replace("/", "-"), problem=clean(str(error), MAX_NAME * 4) or type(error).__name__)


def _read(folder: Path, name: str, target: str) -> Training:
    lines, damaged = read_lines(folder)
    provenance = _provenance(folder)
    config = provenance.get("config") if isinstance(provenance.get("config"), dict) else {}
    assert isinstance(config, dict)
    stages = tuple(_stages(lines))
    losses = _curves(lines, "train", "losses")
    minutes = provenance.get("minutes")
    return Training(
        name=name,
        anchor=target.replace("/", "-"),
        recipe=clean(str(provenance.get("recipe") or "not stated"), MAX_NAME),
        schedule=clean(str(config.get("schedule") or "not stated"), MAX_NAME),
        learns=_learns(config),
        minutes=float(minutes) if isinstance(minutes, int | float) and is_number(minutes) else None,
        clips_seen=max((line["clips_seen"] for line in lines), default=0.0),
        stages=stages,
        losses=losses,
        held_out=_curves(lines, "eval", "held_out"),
        pictures=tuple(_pictures(folder / "pictures", target)),
        plots=tuple(_loss_plot(term, curve, stages) for term, curve in list(losses.items())[:MAX_TERMS]),
        damaged_lines=damaged,
    )


def _provenance(folder: Path) -> dict[str, Any]:
    """What the checkpoint's manifest says of the training; of a dual run, the manifest of its video half."""
    paths = [path for path in (folder / "manifest.json", folder / "video" / "manifest.json") if path.is_file()]
    try:
        manifest = read_json(paths[0]) if paths else {}
    except AvbenchError:
        return {}
    provenance = manifest.get("provenance") if isinstance(manifest, dict) else None
    return provenance if isinstance(provenance, dict) else {}


def _learns(config: dict[str, Any]) -> str:
    """`a2v, v2a, av of the tokens of avtok`, or "" where the run is no generator's: it has no tasks."""
    tasks = config.get("tasks")
    if not isinstance(tasks, list) or not tasks:
        return ""
    return clean(f"{', '.join(str(task) for task in tasks[:8])} of the tokens of {config.get('tokenizer')}", 2 * MAX_NAME)


def _stages(lines: Sequence[dict[str, Any]]) -> Iterator[Stage]:
    before, seen = None, 0.0
    for line in lines:
        if line["stage"] != before:
            before = line["stage"]
            yield Stage(name=clean(before, MAX_NAME), start=seen)
        seen = float(line["clips_seen"])


def _curves(lines: Sequence[dict[str, Any]], kind: str, key: str) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for line in lines:
        values = line.get(key) if line.get("kind") == kind else None
        for name, value in values.items() if isinstance(values, dict) else ():
            if is_number(value):
                curves.setdefault(clean(str(name), MAX_NAME), []).append((float(line["clips_seen"]), float(value)))
    return curves


def _pictures(folder: Path, target: str) -> Iterator[Picture]:
    for file in sorted(folder.glob("*.png")) if folder.is_dir() and not folder.is_symlink() else ():
        if re.fullmatch(r"\d{1,12}", file.stem) and file.is_file() and not file.is_symlink():
            yield Picture(step=int(file.stem), file=file, target=f"{target}/{file.stem}.png")


def _binned(curve: Curve) -> Curve:
    """At most CURVE_POINTS points: means of neighbours."""
    size = -(-len(curve) // CURVE_POINTS)
    bins = [curve[k : k + size] for k in range(0, len(curve), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in bins]


def _loss_plot(term: str, curve: Curve, stages: Sequence[Stage]) -> Plot:
    points = _binned(curve)
    xs, ys = x_axis([x for x, _ in points]), y_axis([y for _, y in points])
    begun = [stage for stage in stages if xs.low <= stage.start <= xs.high]
    labels, _ = place([Mark(name=stage.name, x=xs.at(stage.start), y=ys.end + 8, upright=True) for stage in begun])
    return Plot(
        title=term,
        summary=f"{term} from {points[0][1]:.4g} to {points[-1][1]:.4g} over {points[-1][0]:.0f} clips",
        x_title="clips seen",
        y_title=term,
        x_axis=xs,
        y_axis=ys,
        lines=(Line(name=term, path=path([(xs.at(x), ys.at(y)) for x, y in points]), style=0),),
        levels=tuple(Level(at=xs.at(stage.start), title=f"stage {stage.name}", upright=True) for stage in begun),
        labels=tuple(labels),
    )


def _held_out_plot(name: str, trainings: Sequence[Training]) -> Plot:
    curves = [_binned(training.held_out[name]) for training in trainings]
    xs = x_axis([x for curve in curves for x, _ in curve])
    ys = y_axis([y for curve in curves for _, y in curve])
    lines = [
        Line(name=training.name, path=path([(xs.at(x), ys.at(y)) for x, y in curve]), style=k % 4)
        for k, (training, curve) in enumerate(zip(trainings, curves, strict=True))
    ]
    ends = [Mark(name=t.name, x=xs.at(curve[-1][0]), y=ys.at(curve[-1][1])) for t, curve in zip(trainings, curves, strict=True)]
    labels, left_out = place(ends)
    said = "; ".join(f"{training.name} ends at {training.last(name):.4g}" for training in trainings)
    return Plot(
        title=f"held-out {name}",
        summary=f"Held-out {name} against clips seen: {said}",
        x_title="clips seen",
        y_title=name,
        x_axis=xs,
        y_axis=ys,
        lines=tuple(lines),
        labels=tuple(labels),
        remarks=(f"No room for the names of {', '.join(left_out)}",) if left_out else (),
    )
