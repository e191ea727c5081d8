"""What the files of a run tell beside its values: its track, its provenance, and the commands that repeat it; and what pages
say and show of its task, in the task's own words (avbench/task.py).
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from avbench import registry
from avbench.board.results import MAX_TEXT, RunResult, clean, read_json
from avbench.errors import AvbenchError
from avbench.task import MODALITIES, Words
from avbench.types import RunSpec

TRACKS = ("video", "audio", "audio-video")
SAMPLED = {"temperature": "temperature", "guidance": "guidance", "top_k": "top-k", "top_p": "top-p", "chain": "chain", "seed": "seed"}
MAX_FACTS = 200  # of one section of the provenance page
MAX_LIST = 12  # items of a list that are shown
MAX_DEPTH = 4
MAX_OPTION = 300
SECTIONS = {
    "spec": "Spec",
    "tokenizer": "Tokenizer",
    "split": "Split",
    "hardware": "Hardware",
    "versions": "Versions",
    "unavailable": "Metrics that could not be computed",
    "seconds": "Seconds by stage",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """Titled pairs of a provenance page; texts are of one line and bounded."""

    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """track: one of TRACKS, or "" where the run does not say. problem: why its manifest could not be read, "" if it could."""

    task: str
    modalities: frozenset[str]
    command: str
    sections: tuple[Section, ...]
    failures: tuple[tuple[str, str], ...]  # (reason, number of clips)
    problem: str = ""

    @property
    def track(self) -> str:
        """ "video", "audio", "audio-video", or "" where the run does not say. Generation is about both: one is given, or both are made."""
        return "audio-video" if words_of(self.task).generates else track_of(self.modalities)

    def sample_command(self, num_clips: int) -> str:
        """The command that also saves the first `num_clips` clips for the gallery."""
        return f"{self.command} --save-samples {num_clips}"


def track_of(modalities: frozenset[str]) -> str:
    """Name of the track of a tokenizer with these modalities."""
    return {frozenset(["video"]): "video", frozenset(["audio"]): "audio", frozenset(["video", "audio"]): "audio-video"}.get(modalities, "")


def read_facts(run: RunResult) -> RunFacts:
    """The facts of a run whose result.json has been read once. Files that are missing or damaged are a problem to show, not an error."""
    read, problems = {}, []
    for name in ("result.json", "manifest.json"):
        try:
            read[name] = _mapping(read_json(run.folder / name))
        except AvbenchError as error:
            problems.append(clean(str(error), MAX_TEXT))
    result = read.get("result.json", {})
    content = {**result, **read.get("manifest.json", {})}
    modalities = _mapping(content.get("tokenizer")).get("modalities")
    names = {name for name in modalities if isinstance(name, str)} if isinstance(modalities, list) else set()
    return RunFacts(
        task=run.task,
        modalities=frozenset(names) & MODALITIES,
        command=_command(_mapping(result.get("spec"))),
        sections=(*_generation(run, _mapping(result.get("spec"))), *_sections(content), _protocols(run)),
        failures=tuple(_pairs(_mapping(result.get("failures")))),
        problem="; ".join(problems),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _command(spec: Mapping[str, Any]) -> str:
    """`avbench run` with the spec's options; those at their defaults are left out."""
    words = ["avbench", "run", "--tokenizer", _text(spec.get("tokenizer")), "--split", _text(spec.get("split"))]
    defaults = RunSpec(tokenizer="", split="").facts() | {"metrics": []}
    for name, default in defaults.items():
        value = spec.get(name, default)
        if value != default and name not in ("tokenizer", "split"):
            text = ",".join(map(_text, value)) if name == "metrics" and isinstance(value, list) else _text(value)
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def _generation(run: RunResult, spec: Mapping[str, Any]) -> Iterator[Section]:
    """What generated a row, and how its tokens were sampled; nothing for a reconstruction."""
    if not words_of(run.task).generates:
        return
    if run.kind == "control":
        facts = [("task", run.task), ("generator", "none: real clips"), ("seed", _text(spec.get("seed", "not stated")))]
    else:
        found = "not named: the one in out/ that fits the tokenizer, or that came with it; the revision says which"
        facts = [
            ("task", run.task),
            ("row", run.tokenizer),
            ("revision", run.revision),
            ("generator", _text(spec.get("generator") or found)),
        ]
        facts += [(title, _text(spec.get(key, "not stated"))) for key, title in SAMPLED.items()]
    yield Section(title="Generation", facts=tuple(facts))


def _sections(content: Mapping[str, Any]) -> Iterator[Section]:
    code = {key: content[key] for key in ("git_commit", "processes", "finished") if key in content}
    yield Section(title="Code", facts=tuple(_pairs(code)))
    for key, title in SECTIONS.items():
        facts = tuple(_pairs(_mapping(content.get(key))))
        if facts:
            yield Section(title=title, facts=facts)


def _protocols(run: RunResult) -> Section:
    """Each metric's protocol: it names the weights, by hash, that the number was made with."""
    facts = [(name, value.protocol) for name, value in run.values.items() if value.protocol]
    return Section(title="Protocol and weights of each metric", facts=(("clips", run.protocol), *facts[:MAX_FACTS]))


def _pairs(content: Mapping[str, Any], prefix: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """Nested objects flattened: {"a": {"b": 1}} -> [("a.b", "1")]."""
    pairs: list[tuple[str, str]] = []
    for key, value in list(content.items())[:MAX_FACTS]:
        name = clean(f"{prefix}{key}", MAX_OPTION)
        if isinstance(value, dict) and depth < MAX_DEPTH:
            pairs += _pairs(value, f"{name}.", depth + 1)
        else:
            pairs.append((name, _text(value)))
    return pairs[:MAX_FACTS]


def _text(value: Any) -> str:
    if isinstance(value, list):
        more = ", …" if len(value) > MAX_LIST else ""
        return clean(", ".join(_text(item) for item in value[:MAX_LIST]) + more, MAX_TEXT) if not _nested(value) else "…"
    return "none" if value is None else clean(str(value)[: 4 * MAX_TEXT], MAX_TEXT)


def _nested(value: list[Any]) -> bool:
    return any(isinstance(item, list | dict) for item in value)


def words_of(task: str) -> Words:
    """What pages say of `task`."""
    return registry.load_task(task).words


def shown_of(task: str, kind: str, modalities: frozenset[str]) -> frozenset[str]:
    """Modalities that a row shows: what it made, not its condition again. Controls that are whole real clips say so by their modalities."""
    made = words_of(task).shows
    return made | modalities if kind == "control" else made


def kind_of(task: str, kind: str, name: str) -> str:
    """The kind of a row, and of a control of real clips which clips they are."""
    control = words_of(task).controls.get(name) if kind == "control" else None
    return f"{kind}: {control}" if control else kind
