"""A zero-skill row that knows what a clip shows and nothing of how: the mean picture of the clip's class over training clips.

One token a clip names the class. It is given the label, which no tokenizer is: a control, never ranked.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from avbench.artifact import read_file, write_file
from avbench.errors import AvbenchError
from avbench.paths import cache_root
from avbench.protocol import require
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.edges import need_video, video_duration
from avbench.types import ClipBatch, Tokens
from avbench.weights import sha256_of

TRAIN_SPLIT = "arcade-train"
TRAIN_CLIPS = 2020  # twenty of each of its 101 games
FIT_BATCH = 8
FRAMES = 16


class ClassMean:
    """The mean frame of the class over the first 2,020 clips of arcade-train; over all of them for a class that they lack."""

    def __init__(self, options: TokenizerOptions) -> None:
        """Raises AvbenchError where the fitted file in the cache is damaged."""
        file = options.checkpoint or fitted_file()
        self.labels, self.pictures = load(file)
        self.pictures = self.pictures.to(options.device)
        require(options.protocol, "class-mean", num_frames=FRAMES, resolution=self.pictures.shape[2])
        self.position = {label: index + 1 for index, label in enumerate(self.labels)}  # entry 0: of all classes
        self.info = TokenizerInfo(
            name="class-mean",
            revision=sha256_of(file)[:16],
            modalities=frozenset({"video"}),
            resolution=self.pictures.shape[2],
            parameters=self.pictures.numel(),
            trained_on=f"{TRAIN_SPLIT} ({TRAIN_CLIPS} clips)",
            kind="control",
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Stream "video" (B, 1, 1). Raises AvbenchError for clips of another size."""
        video = need_video(batch, "class-mean")
        if video.shape[1] != FRAMES or video.shape[2:] != self.pictures.shape[1:]:
            raise AvbenchError(f"class-mean: video of shape {tuple(video.shape[1:])}; it has pictures for {FRAMES} frames of 128x128")
        labels = batch.labels or (None,) * len(batch)
        codes = torch.tensor([self.position.get(label or "", 0) for label in labels])
        return Tokens(
            codes={"video": codes[:, None, None]}, vocab_sizes={"video": len(self.pictures)}, duration_s=video_duration(batch, video)
        )

    def decode(self, tokens: Tokens) -> ClipBatch:
        """Video (B, 16, 3, H, W)."""
        pictures = self.pictures[tokens.codes["video"][:, 0, 0].to(self.pictures.device)]
        return ClipBatch(video=pictures[:, None].repeat(1, FRAMES, 1, 1, 1), fps=FRAMES / tokens.duration_s, sample_rate=0)


def fitted_file() -> Path:
    """The file of mean pictures; makes it where it is not in the cache."""
    from avbench.data import splits

    split = splits.load(TRAIN_SPLIT, limit=TRAIN_CLIPS)
    file = cache_root() / "fitted" / f"class-mean-{split.checksum[:12]}.safetensors"
    if not file.exists():
        print(f"class-mean: averaging {len(split.clips)} clips of {TRAIN_SPLIT}, once", file=sys.stderr)
        save(*class_means(batch.clips for batch in splits.batches(split, FIT_BATCH) if batch.clips is not None), file)
    return file


def class_means(batches: Iterable[ClipBatch]) -> tuple[list[str], Tensor]:
    """Labels in alphabetical order, and pictures (1 + labels, 3, H, W) in [0, 1]: the mean of all classes, then each class's."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for batch in batches:
        frames = need_video(batch, "class-mean").float().mean(1).double()
        for label, frame in zip((label or "" for label in batch.labels), frames, strict=True):
            sums[label] = sums[label] + frame if label in sums else frame
            counts[label] = counts.get(label, 0) + 1
    labels = sorted(label for label in sums if label)
    means = [sums[label] / counts[label] for label in labels]
    everything = torch.stack(list(sums.values())).sum(0) / sum(counts.values())
    return labels, torch.stack([everything, *means]).float()


def save(labels: list[str], pictures: Tensor, file: Path) -> None:
    """Write the fitted file, all of it or nothing."""
    write_file(file, {"pictures": pictures}, labels, key="labels")


def load(file: Path) -> tuple[list[str], Tensor]:
    """Labels and pictures. Raises AvbenchError where the file is damaged or of another kind."""
    try:
        labels, tensors = read_file(file, key="labels")
        pictures = tensors["pictures"]
        if not isinstance(labels, list) or pictures.ndim != 4 or len(pictures) != len(labels) + 1 or pictures.dtype != torch.float32:
            raise ValueError("its pictures do not belong to its labels")
    except (AvbenchError, ValueError, KeyError) as error:
        raise AvbenchError(f"{file} holds no mean pictures: {error}; remove it and it is made again") from error
    return labels, pictures
