"""Outputs that stand for no reference each: a generated set against the set of the references, of whatever size.

The run's clips are both: every reference, then every output, each under its side's name. A clip goes through the line as it is, and a
distribution metric keeps its features on its own side of the row.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avbench.data import splits
from avbench.data.batches import Joined, Split
from avbench.data.outputs import Outputs, Pairing, alone, kinds_of
from avbench.errors import UsageError
from avbench.metric import DistributionMetric, Metric, MetricInfo, of_sets
from avbench.run.score import Scored
from avbench.types import SIDES, ClipBatch, Tokens


class Unpaired(Scored):
    """Every output and every reference, as two sets."""

    def begin(self, split: Split) -> None:
        """All outputs prepared. Raises UsageError where a folder of PNGs lacks its frame rate."""
        clips, paths = alone(Path(self.asked.folder).expanduser())
        if self.asked.fps is None and any(path.is_dir() for path in paths):
            raise UsageError("folders of PNGs do not say how fast they are shown: give --fps")
        kinds = kinds_of(paths)
        if split.protocol.modalities - kinds:
            (only,) = kinds
            raise UsageError(f"the outputs are {only} alone: give the references as REFERENCE?only={only}, or with &only={only}")
        source = Outputs(
            name=f"{self.info.name} beside {split.name}",
            clips=clips,
            paths=paths,
            like=(None,) * len(paths),
            protocol=split.protocol,
            fps=self.asked.fps,
            paired=False,
        )
        made = splits.prepare_source(source)
        self.sizes = len(split.clips), len(made.clips)
        self.info = replace(self.info, revision=f"scored-{made.checksum[:16]}", modalities=split.protocol.modalities)
        both = [replace(clip, id=f"{side}{clip.id}") for side, part in zip(SIDES, (split, made), strict=True) for clip in part.clips]
        sets = f"{self.sizes[0]:,} references and {self.sizes[1]:,} outputs, unpaired"
        self.outputs = Joined(
            name=split.name,
            clips=tuple(both),
            protocol=split.protocol,
            checksum=split.checksum,
            num_official=split.num_official,
            note=f"{sets}; {split.note}" if split.note else sets,
            train_split=split.train_split,
            root=split.root,
            entries=(*split.entries, *made.entries),
            first=split,
            second=made,
        )
        self.pairing = Pairing(paths={}, sizes={})
        self.number = {clip.id: number for number, clip in enumerate(both)}

    def clips(self, split: Split) -> Split:
        """References and outputs."""
        return self.outputs

    def measured_by(self, metric: Metric) -> Metric:
        """On the side that a clip stands on."""
        assert isinstance(metric, DistributionMetric)  # `missing` lets no other through
        return OneSided(metric, self.sizes)

    def finish(self, reference: ClipBatch, recon: ClipBatch) -> ClipBatch:
        """Each clip as it is."""
        return recon

    def missing(self, metric: MetricInfo) -> str | None:
        """Whatever is measured pair by pair."""
        if not metric.distribution:
            return "unpaired: no output stands for a reference, and this is measured clip by clip"
        return self.like.missing(metric) if self.words.generates else super().missing(metric)


class OneSided(DistributionMetric):
    """A distribution metric over clips of which each stands on the side that its id begins with."""

    def __init__(self, metric: DistributionMetric, sizes: tuple[int, int]) -> None:
        self.metric, self.info = metric, of_sets(metric.info, *sizes)

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows (B, 2, ...), NaN on the other side."""
        rows: Tensor | None = None
        for number, side in enumerate(SIDES):
            here = [clip for clip, name in enumerate(reference.ids) if name.startswith(side)]
            if here:
                names = tuple(reference.ids[clip].removeprefix(side) for clip in here)
                found = self.metric.features(replace(recon.select(here), ids=names), reference=number == 0)
                rows = torch.full((len(reference), 2, *found.shape[1:]), torch.nan) if rows is None else rows
                rows[here, number] = found.float()
        assert rows is not None
        return rows

    def distance(self, reference: np.ndarray, recon: np.ndarray) -> float:
        return self.metric.distance(reference, recon)
