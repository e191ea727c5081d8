"""Banks of training clips for controls: mean frames and mels of arcade-train, made on first use and kept in the cache."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from avbench.artifact import read_file, write_file
from avbench.errors import AvbenchError
from avbench.nn.scenes import Bank, mean_frames, to_bytes
from avbench.paths import cache_root

Kind = Literal["scenes", "mels"]
TRAIN_SPLIT = "arcade-train"
TRAIN_CLIPS = 7_070  # seven episodes of ten clips of each of its 101 games: all
READ_BATCH = 8
FORMAT = "bank 1"
FIT_VERSION = 1  # raise it when what is kept changes


def bank_file(kind: Kind, clips: int = TRAIN_CLIPS) -> Path:
    """The bank of the first `clips` clips of arcade-train; makes it where it is not in the cache (a minute or two)."""
    from avbench.data import splits

    split = splits.load(TRAIN_SPLIT, limit=clips)
    file = cache_root() / "fitted" / f"{kind}-{clips}-fit{FIT_VERSION}-{split.checksum[:12]}.safetensors"
    if not file.exists():
        print(f"keeping the {kind} of {len(split.clips)} clips of {TRAIN_SPLIT}, once (a minute or two)", file=sys.stderr)
        if kind == "scenes":
            items = [to_bytes(mean_frames(video)) for video, _ in training_clips(0, clips)]
        else:
            items = [mel[:, None] for _, mel in training_clips(0, clips, with_video=False)]
        save_bank(Bank(items=torch.cat(items)), kind, file)
    return file


def source(clips: int = TRAIN_CLIPS) -> str:
    """Whose clips they are, for `TokenizerInfo.trained_on`."""
    from avbench.data import splits

    return f"{TRAIN_SPLIT} {splits.load(TRAIN_SPLIT, limit=clips).checksum[:12]} ({clips} clips)"


def training_clips(first: int, last: int, *, with_video: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
    """Clips first to last - 1 of arcade-train, a few at a time: uint8 (B, T, 3, H, W), or (B, 0), and log-mels, float16 (B, 80, F)."""
    from avbench.data import splits
    from avbench.train.data import ClipReader

    reader = ClipReader(splits.load(TRAIN_SPLIT, limit=last))
    for start in range(first, len(reader), READ_BATCH):
        batch = reader.batch(list(range(start, min(start + READ_BATCH, len(reader)))), with_video=with_video)
        yield (torch.empty(len(batch), 0) if batch.video is None else batch.video), batch.mel


def save_bank(bank: Bank, kind: Kind, file: Path) -> None:
    """Write a bank, all of it or nothing."""
    write_file(file, {"items": bank.items}, {"format": FORMAT, "kind": kind})


def load_bank(file: Path, kind: Kind) -> Bank:
    """Read a bank. Raises AvbenchError where it is damaged or of another kind."""
    channels, dtype = (3, torch.uint8) if kind == "scenes" else (1, torch.float16)
    try:
        about, tensors = read_file(file)
        items = tensors["items"]
        if about != {"format": FORMAT, "kind": kind}:
            raise ValueError(f"it does not say that it is {FORMAT!r} of {kind}")
        if items.ndim != 4 or items.shape[1] != channels or items.dtype != dtype or not len(items):
            raise ValueError(f"it has {items.dtype} {tuple(items.shape)}")
    except (AvbenchError, ValueError, KeyError) as error:
        raise AvbenchError(f"{file} holds no bank of {kind}: {error}; remove it and it is made again") from error
    return Bank(items=items)
