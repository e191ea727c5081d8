"""Clips that were made elsewhere, measured as a run measures its own: `avbench score REFERENCE OUTPUTS`.

It wraps the task whose place it takes: what is measured, and how pages speak of it, is that task's. Nothing
was encoded here. The "payload" of a clip is its number, filled up to the bytes that its maker states; without such a statement every
metric of tokens is n/a.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from avbench.data import splits
from avbench.data.files import SOUND_EXTENSIONS, find_videos
from avbench.data.outputs import Outputs, kinds_of, named, pair_by_list, pair_by_name
from avbench.data.splits import Split
from avbench.errors import AvbenchError, UsageError
from avbench.metric import MetricInfo
from avbench.protocol import Protocol
from avbench.task import MODALITIES, Task
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, RunSpec, Tokens

NUMBER_BYTES = 4  # of a clip's payload that say which clip it is
LENGTH_BYTES = 4  # that a length of its own counts for (metrics/tokens.py)


class Scored(Task):
    """Outputs in place of what the task `like` would make."""

    def __init__(self, like: Task) -> None:
        self.like, self.name, self.words = like, like.name, like.words  # type: ignore[misc]  # of this object, not of its class

    def load(self, spec: RunSpec, device: torch.device) -> None:
        """What can be known before the clips are."""
        assert spec.outputs is not None
        if spec.checkpoint is not None or spec.generator is not None:
            raise UsageError("a score has neither checkpoint nor generator: nothing is made here")
        self.asked, self.code = spec.outputs, "none: the files are in the revision"
        self.info = TokenizerInfo(
            name=spec.tokenizer, revision="scored", modalities=MODALITIES, kind="scored", trained_on="not known: made elsewhere"
        )  # fmt: skip

    def begin(self, split: Split) -> None:
        """Which output is whose, and all of them prepared. Raises UsageError where nothing belongs together, or files lack a frame rate."""
        folder = Path(self.asked.folder).expanduser()
        if self.asked.pairs is None:
            self.pairing = pair_by_name(split.clips, folder)
        else:
            self.pairing = pair_by_list(split.clips, folder, Path(self.asked.pairs).expanduser())
        paths = self.pairing.paths
        if self.asked.fps is None and any(path.is_dir() for path in paths.values()):
            raise UsageError("folders of PNGs do not say how fast they are shown: give --fps")
        protocol = _restricted(split.protocol, frozenset([self.asked.only]) if self.asked.only else kinds_of(list(paths.values())))
        references = splits.find(split.name)
        source = Outputs(
            name=f"{self.info.name} for {split.name}",
            clips=split.clips,
            paths=tuple(paths.get(clip.id) for clip in split.clips),
            like=tuple(references.file(index) for index in range(len(split.clips))),
            like_kinds=tuple(sorted(split.protocol.modalities)),
            protocol=protocol,
            fps=self.asked.fps,
        )
        self.outputs = splits.prepare_source(source)
        self.number = {clip.id: number for number, clip in enumerate(split.clips)}
        self.info = replace(self.info, revision=f"scored-{self.outputs.checksum[:16]}", modalities=protocol.modalities)
        self._say(split)

    def produce(self, reference: ClipBatch) -> Tokens:
        """Stream "file" of bytes: the clip's number, and zeros up to the size that is stated. Raises AvbenchError for too small a size."""
        numbers = [self.number[clip_id] for clip_id in reference.ids]
        sizes = [self._size(clip_id) for clip_id in reference.ids]
        codes = torch.zeros(len(numbers), 1, max(sizes), dtype=torch.int64)
        for row, number in zip(codes, numbers, strict=True):
            row[0, :NUMBER_BYTES] = torch.tensor(list(number.to_bytes(NUMBER_BYTES, "big")))
        return Tokens(
            codes={"file": codes}, vocab_sizes={"file": 256}, duration_s=self.outputs.protocol.duration_s,
            lengths={"file": torch.tensor(sizes)},
        )  # fmt: skip

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The outputs. Raises AvbenchError for one that is missing, cannot be read, or does not fit its reference."""
        batches = [_read(self.outputs, _number(codes)) for codes in tokens.codes["file"]]
        video, audio = (_joined([getattr(batch, name) for batch in batches]) for name in ("video", "audio"))
        return ClipBatch(video=video, audio=audio, fps=batches[0].fps, sample_rate=batches[0].sample_rate)

    def finish(self, reference: ClipBatch, recon: ClipBatch) -> ClipBatch:
        """What was not made is the condition: the reference's own."""
        if not self.words.generates:
            return recon
        video = reference.video if recon.video is None else recon.video
        return replace(recon, video=video, audio=reference.audio if recon.audio is None else recon.audio)

    def missing(self, metric: MetricInfo) -> str | None:
        """Of tokens, only a rate that is stated; for the rest as the task says of what is there."""
        if "tokens" in metric.needs:
            if metric.name == "bits_per_s" and (self.asked.bits_per_s is not None or self.pairing.sizes):
                return None
            return "made elsewhere: its tokens were not seen" + (" (--bits-per-s states a rate)" if metric.name == "bits_per_s" else "")
        if self.words.generates:
            lacking = (metric.needs & self.words.shows) - self.info.modalities
            if lacking:
                return f"{self.info.name} has no {' and no '.join(sorted(lacking))}"
            return self.like.missing(metric)
        return super().missing(metric)

    def write_sample(self, samples: Path, reference: ClipBatch, recon: ClipBatch) -> None:
        """As the task shows its own."""
        self.like.write_sample(samples, reference, recon)

    def _size(self, clip_id: str) -> int:
        duration_s = self.outputs.protocol.duration_s
        if clip_id in self.pairing.sizes:
            size = self.pairing.sizes[clip_id]
        elif self.asked.bits_per_s is not None:
            size = round(self.asked.bits_per_s * duration_s / 8)
        else:
            return NUMBER_BYTES
        if size < NUMBER_BYTES + LENGTH_BYTES:
            raise AvbenchError(f"{size} bytes for {duration_s:g} s are stated: too few to tell clips apart")
        return size - LENGTH_BYTES

    def _say(self, split: Split) -> None:
        absent = [clip.id for clip in split.clips if clip.id not in self.pairing.paths]
        if absent:
            print(f"{len(absent)} of {len(split.clips)} references have no output: {named(absent)}", file=sys.stderr)
        if self.pairing.left:
            print(f"{len(self.pairing.left)} outputs belong to no reference: {named(self.pairing.left)}", file=sys.stderr)


def _restricted(protocol: Protocol, kinds: frozenset[str]) -> Protocol:
    """The protocol without what is not scored. Raises UsageError where nothing is left."""
    left = protocol.modalities & kinds
    if not left:
        theirs, ours = " and ".join(sorted(protocol.modalities)), " and ".join(sorted(kinds))
        raise UsageError(f"outputs of {ours} cannot be compared with references of {theirs}")
    protocol = protocol if "video" in left else replace(protocol, num_frames=0)
    return protocol if "audio" in left else replace(protocol, sample_rate=0, channels=1)


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def _number(codes: Tensor) -> int:
    return int.from_bytes(bytes(codes[0, :NUMBER_BYTES].tolist()), "big")


def _read(outputs: Split, number: int) -> ClipBatch:
    batch = splits.read_batch(outputs, number, [number])
    if batch.clips is None:
        raise AvbenchError(batch.failures[0].reason)
    return batch.clips


def split_of(reference: str) -> str:
    """The split that a folder (or a split's name, either with "?res=256...") is: sound alone where there are sound files and no videos.

    Raises UsageError for what is neither a folder nor a split.
    """
    base, _, query = reference.rpartition("?") if "?" in reference and not Path(reference).expanduser().is_dir() else (reference, "", "")
    folder = Path(base.removeprefix("folder:")).expanduser()
    if not folder.is_dir():
        splits.protocol_of(reference)  # says what is wrong with it
        return reference
    name = f"folder:{base.removeprefix('folder:')}"
    if query or find_videos(folder)[0] or not find_videos(folder, SOUND_EXTENSIONS)[0]:
        return f"{name}?{query}" if query else name
    print("sound alone is scored: the references are sound files", file=sys.stderr)
    return f"{name}?only=audio"
