"""Which clips a run trains on, and which it holds out."""

from collections.abc import Iterator
from dataclasses import dataclass

from avbench.data import splits
from avbench.data.splits import Split
from avbench.errors import AvbenchError
from avbench.registry import plugins
from avbench.train.data import ClipReader


@dataclass(frozen=True, kw_only=True)
class Clips:
    """A split, and which of its good clips are used."""

    split: Split
    reader: ClipReader
    indices: range

    def chunks(self, size: int = 8) -> Iterator[list[int]]:
        """All of them, in parts."""
        for first in range(0, len(self.indices), size):
            yield list(self.indices[first : first + size])


def load_clips(split: str, limit: int | None, eval_clips: int) -> tuple[Clips, Clips]:
    """Training and held-out clips. Held out are the first of NAME-val where there is such a split, else the last of the split itself."""
    loaded = splits.load(split, limit=limit)
    reader = ClipReader(loaded)
    validation = split.removesuffix("-train") + "-val"
    if split.endswith("-train") and validation in plugins("split"):
        other = splits.load(validation, limit=eval_clips)
        other_reader = ClipReader(other)
        return Clips(split=loaded, reader=reader, indices=range(len(reader))), Clips(
            split=other, reader=other_reader, indices=range(len(other_reader))
        )
    kept = len(reader) - min(eval_clips, len(reader) // 5)
    if kept in (0, len(reader)):
        raise AvbenchError(f"{split} has {len(reader)} clips: too few to train on most and hold out some; at least 5 are needed")
    return Clips(split=loaded, reader=reader, indices=range(kept)), Clips(split=loaded, reader=reader, indices=range(kept, len(reader)))
