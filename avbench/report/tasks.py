"""What pages say and show of each task: its title, what its rows are judged by, and which cards of a clip stand beside theirs."""

from dataclasses import dataclass
from typing import cast

from avbench.generate.tasks import CONDITION, TARGETS, GenerationTask

MODALITIES = frozenset({"video", "audio"})
WORDS = {"video": "picture", "audio": "sound"}
CONTROLS = {
    "real": "another real clip of the class",
    "shuffled": "real clips, paired across classes",
    "copy-train": "a training clip of the class",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """Something of the real clip that a gallery shows once, whatever the rows. says: a text of the clip instead of media ("label")."""

    key: str
    title: str
    shows: frozenset[str] = MODALITIES
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """title: of its group on the front page. remark: what is judged there. intro: of its gallery. shows: modalities that a row makes."""

    title: str
    remark: str
    intro: str
    cards: tuple[Card, ...]
    shows: frozenset[str] = MODALITIES


RECONSTRUCT = Task(
    title="Reconstruction",
    remark="",
    intro="The reference and what each tokenizer made of it, in step. The sound is what was measured, the picture H.264 of it.",
    cards=(Card(key="reference", title="reference"),),
)
TITLES: dict[GenerationTask, str] = {"a2v": "Audio to video", "v2a": "Video to audio", "av": "Class to both"}


def words_of(task: str) -> Task:
    """What pages say of `task`, a name of `avbench.types.Task`."""
    return RECONSTRUCT if task == "reconstruct" else _generation(cast(GenerationTask, task))


def shown_of(task: str, kind: str, modalities: frozenset[str]) -> frozenset[str]:
    """Modalities that a row shows: what it made, not its condition again. Controls that are whole real clips say so by their modalities."""
    made = words_of(task).shows
    return made | modalities if kind == "control" else made


def kind_of(task: str, kind: str, name: str) -> str:
    """The kind of a row, and of a control of real clips which clips they are."""
    told = CONTROLS.get(name) if task != "reconstruct" and kind == "control" else None
    return f"{kind}: {told}" if told else kind


def _generation(task: GenerationTask) -> Task:
    condition = CONDITION[task]
    made = " and ".join(WORDS[name] for name in TARGETS[task])
    given = f"each clip's {WORDS[condition]}" if condition else "each clip's class"
    return Task(
        title=TITLES[task],
        remark=f"Given {given}, a generator makes the {made}; judged against real clips, not against their reconstructions.",
        intro=f"Given is {given}; beside it is the real clip's {made} and what each row made, in step. "
        "The sound is what was measured, the picture H.264 of it.",
        cards=(_condition(condition), Card(key="reference", title="the real clip", shows=frozenset(TARGETS[task]))),
        shows=frozenset(TARGETS[task]),
    )


def _condition(modality: str | None) -> Card:
    if modality is None:
        return Card(key="condition", title="condition: the class", shows=frozenset(), says="label")
    return Card(key="condition", title=f"condition: the real {WORDS[modality]}", shows=frozenset({modality}))
