"""Sanity rows of a generation table, made of real clips: `avbench run --tokenizer real|shuffled|copy-train --task a2v|v2a|av`.

real        other clips of the same split, one of the same class for each: what a perfect generator would score
shuffled    clips of the split whose sound is another class's: real pictures and sounds, nothing together
copy-train  training clips of the same class: a generator that has learned them by heart

Their "tokens" are the numbers of the clips. real and copy-train show whole clips in every task; shuffled keeps the condition.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avbench.data import splits
from avbench.data.splits import Split
from avbench.errors import AvbenchError, UsageError
from avbench.generate.tasks import TARGETS, GenerationTask
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

CONTROLS = ("real", "shuffled", "copy-train")
TRAIN_A_CLASS = 20  # training clips of each class among which copy-train chooses


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which clips of `pool` are shown: modality -> number in the pool, in the order of the split's clips."""

    pool: Split
    numbers: dict[str, tuple[int, ...]]


class Control:
    """A row of real clips."""

    def __init__(self, name: str, task: GenerationTask) -> None:
        self.name, self.task = name, task
        shown = TARGETS[task] if name == "shuffled" else ("video", "audio")
        self.info = TokenizerInfo(
            name=name, revision=f"1-{task}", modalities=frozenset(shown), kind="control", trained_on="nothing: real clips"
        )  # fmt: skip

    def begin(self, split: Split) -> None:
        """See `interface.ClipGenerator`: chooses every clip. Raises UsageError where the split has too few, or no training split."""
        choose = {"real": _others, "shuffled": _mismatched, "copy-train": _training}[self.name]
        self.choice = choose(split, self.task)
        self.position = {clip.id: number for number, clip in enumerate(split.clips)}
        self.protocol = split.protocol

    def encode(self, batch: ClipBatch) -> Tokens:
        """A stream of one token for each modality shown: the number of a real clip."""
        positions = [self.position[clip_id] for clip_id in batch.ids]
        codes = {name: torch.tensor([[[numbers[position]]] for position in positions]) for name, numbers in self.choice.numbers.items()}
        sizes = dict.fromkeys(codes, len(self.choice.pool.clips))
        return Tokens(codes=codes, vocab_sizes=sizes, duration_s=self.protocol.duration_s)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The real clips. Raises AvbenchError where one could not be prepared."""
        shown = {name: _read(self.choice.pool, codes[:, 0, 0].tolist(), name) for name, codes in tokens.codes.items()}
        protocol = self.protocol
        return ClipBatch(video=shown.get("video"), audio=shown.get("audio"), fps=protocol.fps, sample_rate=protocol.sample_rate)

    def paired(self, reference: ClipBatch, generated: ClipBatch) -> ClipBatch:
        """What the control does not show is the condition."""
        video = reference.video if generated.video is None else generated.video
        audio = reference.audio if generated.audio is None else generated.audio
        return replace(generated, video=video, audio=audio)


def _others(split: Split, task: GenerationTask) -> Choice:
    """As many clips of the same split that are not evaluated, each of the class that it stands for."""
    count, whole = len(split.clips), splits.load(split.name)
    if len(whole.clips) < 2 * count:
        raise UsageError(
            f"real shows {count} other clips of {split.name}, which has {len(whole.clips)} in all: use --limit {len(whole.clips) // 2}"
        )
    numbers = matched([clip.label for clip in split.clips], [clip.label for clip in whole.clips], range(count, len(whole.clips)))
    return Choice(pool=whole, numbers={"video": numbers, "audio": numbers})


def _training(split: Split, task: GenerationTask) -> Choice:
    """Training clips, another one for each clip of a class until they are used up."""
    if split.train_split is None:
        raise UsageError(f"{split.name} names no training split to copy from")
    labels = [clip.label for clip in split.clips]
    pool = splits.load(split.train_split, limit=TRAIN_A_CLASS * len(set(labels)))
    kinds = [clip.label for clip in pool.clips]
    numbers = matched(labels, kinds, (number for number, entry in enumerate(pool.entries) if entry.row is not None))
    return Choice(pool=pool, numbers={"video": numbers, "audio": numbers})


def _mismatched(split: Split, task: GenerationTask) -> Choice:
    """The split's own clips; the generated modality (for av the sound) from a clip of another class."""
    wrong = mismatched([clip.label for clip in split.clips])
    numbers = dict.fromkeys(TARGETS[task], wrong)
    if task == "av":
        numbers["video"] = tuple(range(len(wrong)))
    return Choice(pool=split, numbers=numbers)


def matched(labels: Sequence[str | None], pool: Sequence[str | None], usable: Iterable[int]) -> tuple[int, ...]:
    """For each label a number of `usable` whose position in `pool` has that label: in order, and again from the start when used up.

    Raises UsageError for a label that the pool lacks.
    """
    waiting: dict[str | None, deque[int]] = {}
    for number in usable:
        waiting.setdefault(pool[number], deque()).append(number)
    missing = sorted({str(label) for label in labels} - {str(label) for label in waiting})
    if missing:
        raise UsageError(f"no other real clip of class {', '.join(missing[:3])}; take more clips (--limit) or another split")
    chosen = []
    for label in labels:
        chosen.append(waiting[label][0])
        waiting[label].rotate(-1)
    return tuple(chosen)


def mismatched(labels: Sequence[str | None]) -> tuple[int, ...]:
    """A permutation of the clips such that none meets its own class: clips sorted by class, shifted by the largest class.

    Raises UsageError where that is impossible: one class has more than half of the clips, or there are no labels.
    """
    if None in labels:
        raise UsageError("shuffled pairs clips of different classes: it needs clips with labels")
    order = sorted(range(len(labels)), key=lambda clip: (str(labels[clip]), clip))
    largest = max(labels.count(label) for label in set(labels))
    if 2 * largest > len(labels):
        raise UsageError(f"shuffled pairs clips of different classes, but {largest} of {len(labels)} clips are of one")
    partner = dict(zip(order, order[largest:] + order[:largest], strict=True))
    return tuple(partner[clip] for clip in range(len(labels)))


def _read(pool: Split, numbers: list[int], modality: str) -> Tensor:
    """The modality of the pool's clips with these numbers, (B, ...)."""
    found = []
    for number in numbers:
        batch = next(iter(splits.batches(pool, 1, [number])))
        if batch.clips is None:
            raise AvbenchError(f"{pool.clips[number].id}, which stands for a generated clip: {batch.failures[0].reason}")
        part = batch.clips.video if modality == "video" else batch.clips.audio
        assert part is not None
        found.append(part)
    return torch.cat(found)
