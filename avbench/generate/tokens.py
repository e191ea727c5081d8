"""The tokens of a split, encoded once for each tokenizer revision and kept in the cache.

A folder of parts, each the tokens of PART clips in a safetensors file that appears whole (rename): a kill costs one part, the next call
goes on. The folder's name follows from the split's checksum, the tokenizer's revision and a plugin's code.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from avbench import locks
from avbench.data import splits
from avbench.data.splits import Split
from avbench.errors import AvbenchError, UsageError
from avbench.files import atomic, parse_json, regular, slug
from avbench.generate.space import JOINT, MODALITIES, TokenSpace, space_from_dict, token_space
from avbench.paths import cache_root
from avbench.run.identity import code_of
from avbench.tokenizer import Tokenizer
from avbench.types import ClipBatch, Tokens

FORMAT = 1
BATCH = 8  # clips a call of encode
PART = 128  # clips a file


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """The good clips of a split in its order. ids: modality -> int32 (N, positions), in the ids of `space`.

    independent: a modality's tokens do not change with the other one (else they would tell a condition what is to be generated).
    """

    space: TokenSpace
    independent: bool
    clip_ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    ids: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.clip_ids)


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Raises UsageError for a tokenizer without both modalities: nothing can be generated from or into the missing one."""
    missing = {"video", "audio"} - tokenizer.info.modalities
    if missing:
        raise UsageError(
            f"{tokenizer.info.name} has no {' and no '.join(sorted(missing))}: generation needs video and audio tokens; "
            'join two tokenizers with "+", for example larp+wavtokenizer'
        )


def blanked(clips: ClipBatch, keep: str) -> ClipBatch:
    """The same clips with nothing in the other modality: black frames, or silence. What a condition is encoded from."""
    assert clips.video is not None
    assert clips.audio is not None
    if keep == "video":
        return replace(clips, audio=torch.zeros_like(clips.audio))
    return replace(clips, video=torch.zeros_like(clips.video))


def space_of(tokenizer: Tokenizer, tokens: Tokens) -> TokenSpace:
    """`space.token_space`, cut as the tokenizer says. Raises UsageError for tokens that no generator can learn."""
    return token_space(tokens, tokenizer.info.stream_lengths)


@torch.inference_mode()
def load_tokens(tokenizer: Tokenizer, split: Split, device: torch.device, *, progress: bool = True) -> TokenTable:
    """All tokens of `split`; what is not in the cache yet is encoded, under a progress bar on stderr.

    Raises UsageError for a tokenizer that no generator can be trained on, AvbenchError where a good clip cannot be encoded.
    """
    check_tokenizer(tokenizer)
    folder = cache_root() / "tokens" / _name(tokenizer, split)
    folder.mkdir(parents=True, exist_ok=True)
    with locks.alone(folder / ".lock", f"waiting for another process that encodes {split.name} ..."):
        parts = {number: part for number in range(-(-len(split.clips) // PART)) if (part := _read(folder, number)) is not None}
        for number, part in _encode(tokenizer, split, device, [n for n in range(-(-len(split.clips) // PART)) if n not in parts], progress):
            _write(folder, number, part)
            parts[number] = part
    return _joined(split, [parts[number] for number in sorted(parts)])


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some clips' codes by stream, int32 (n, K, L), and what the table says of them."""

    space: TokenSpace
    independent: bool
    clip_ids: list[str]
    labels: list[str | None]
    codes: dict[str, Tensor]


def _name(tokenizer: Tokenizer, split: Split) -> str:
    info = tokenizer.info
    facts = [FORMAT, split.checksum, info.name, info.revision, code_of([type(tokenizer).__module__])]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return f"{slug(info.name)}_{slug(split.name)}_{digest}"


def _encode(tokenizer: Tokenizer, split: Split, device: torch.device, wanted: list[int], progress: bool) -> Iterator[tuple[int, _Part]]:
    """The parts numbered `wanted`, one after the other."""
    batches = [k for number in wanted for k in range(number * PART // BATCH, (number + 1) * PART // BATCH) if k * BATCH < len(split.clips)]
    held: list[tuple[ClipBatch, Tokens]] = []
    independent: bool | None = None
    with _bar(f"{tokenizer.info.name}: tokens of {split.name}", len(batches) * BATCH, progress) as bar:
        for position, batch in enumerate(splits.batches(split, BATCH, batches)):
            if batch.clips is not None:
                clips = batch.clips.to(device)
                held.append((batch.clips, _tokens(tokenizer, clips)))
                if independent is None:
                    independent = _independent(tokenizer, clips.select([0]), held[-1][1])
            bar.advance(bar.task_ids[0], BATCH)
            number = batch.index * BATCH // PART
            if held and (position + 1 == len(batches) or batches[position + 1] * BATCH // PART != number):
                assert independent is not None
                yield number, _part(tokenizer, held, independent)
                held = []


def _tokens(tokenizer: Tokenizer, clips: ClipBatch) -> Tokens:
    try:
        tokens = tokenizer.encode(clips)
    except Exception as error:
        raise AvbenchError(f"{tokenizer.info.name} cannot encode {', '.join(clips.ids)}: {type(error).__name__}: {error}") from error
    space_of(tokenizer, tokens).to_ids(tokens.codes)  # the checks
    return replace(tokens, codes={name: codes.to("cpu", torch.int32) for name, codes in tokens.codes.items()})


def _independent(tokenizer: Tokenizer, clip: ClipBatch, tokens: Tokens) -> bool:
    """Whether a clip's video tokens stay when its sound is taken away, and the other way round."""
    whole = space_of(tokenizer, tokens).to_ids(tokens.codes)
    for modality in MODALITIES:
        alone = _tokens(tokenizer, blanked(clip, modality))
        if not torch.equal(space_of(tokenizer, alone).to_ids(alone.codes)[modality][0], whole[modality][0]):
            return False
    return True


def _part(tokenizer: Tokenizer, held: list[tuple[ClipBatch, Tokens]], independent: bool) -> _Part:
    return _Part(
        space=space_of(tokenizer, held[0][1]),
        independent=independent,
        clip_ids=[clip_id for clips, _ in held for clip_id in clips.ids],
        labels=[label for clips, _ in held for label in clips.labels],
        codes={name: torch.cat([tokens.codes[name] for _, tokens in held]) for name in held[0][1].codes},
    )


def _write(folder: Path, number: int, part: _Part) -> None:
    facts = {"space": asdict(part.space), "independent": part.independent, "clip_ids": part.clip_ids, "labels": part.labels}
    try:
        with atomic(_path(folder, number)) as file:
            file.write(save({name: codes.contiguous() for name, codes in part.codes.items()}, {"facts": json.dumps(facts)}))
    except OSError as error:
        raise AvbenchError(f"tokens cannot be kept in {folder} ({error}); free some space and repeat the command") from error


def _read(folder: Path, number: int) -> _Part | None:
    """A part on disk; None where there is none or it is damaged: it is then encoded again."""
    try:
        with safe_open(regular(_path(folder, number)), framework="pt") as file:
            facts: dict[str, Any] = parse_json(file.metadata()["facts"])
            codes = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        space = space_from_dict(facts.pop("space"))
        space.to_ids(codes)
        part = _Part(space=space, codes=codes, **facts)
        return part if {len(values) for values in codes.values()} == {len(part.clip_ids)} else None
    except (OSError, SafetensorError, AvbenchError, KeyError, TypeError, ValueError):
        return None


def _joined(split: Split, parts: list[_Part]) -> TokenTable:
    good = [clip for clip, entry in zip(split.clips, split.entries, strict=True) if entry.row is not None]
    clip_ids = tuple(clip_id for part in parts for clip_id in part.clip_ids)
    if not good or clip_ids != tuple(clip.id for clip in good):
        raise AvbenchError(f"{len(clip_ids)} of the {len(good)} good clips of {split.name} could be read; avbench data verify {split.name}")
    space = parts[0].space
    codes = {name: torch.cat([part.codes[name] for part in parts]) for name in ([JOINT] if space.unified else MODALITIES)}
    return TokenTable(
        space=space,
        independent=all(part.independent for part in parts),
        clip_ids=clip_ids,
        labels=tuple(label for part in parts for label in part.labels),
        ids={modality: ids.to(torch.int32) for modality, ids in space.to_ids(codes).items()},
    )


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.safetensors"


def _bar(title: str, total: int, shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=not (shown and total))
    bar.add_task(title, total=total)
    return bar
