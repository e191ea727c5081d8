"""Metrics beside each other: none changes what the next one gets, and none takes the others down."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avbench import registry
from avbench.errors import AvbenchError
from avbench.metric import MetricInfo, MetricOptions, MetricUnavailable, PerClipMetric, check_info
from avbench.metrics.psnr import Psnr
from avbench.run.check import synthetic_clips
from avbench.run.measure import measure_batch
from avbench.run.passage import Reconstruction
from avbench.types import ClipBatch, Tokens


def reconstruction(num_clips: int = 3) -> Reconstruction:
    reference = synthetic_clips().select(list(range(num_clips)))
    assert reference.video is not None
    assert reference.audio is not None
    recon = ClipBatch(
        ids=reference.ids, labels=reference.labels, video=0.9 * reference.video, audio=0.8 * reference.audio, fps=reference.fps,
        sample_rate=reference.sample_rate,
    )  # fmt: skip
    codes = torch.arange(num_clips * 40).reshape(num_clips, 1, 40) % 16
    return Reconstruction(
        reference=reference, recon=recon, tokens=Tokens(codes={"joint": codes}, vocab_sizes={"joint": 16}, duration_s=4.096), seconds={}
    )


class Foreign(PerClipMetric):
    """A metric from outside: its module is not avbench's."""

    info = MetricInfo(name="foreign", unit="", higher_is_better=None, needs=frozenset(), protocol="", per_clip=True)

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return torch.zeros(len(reference))


class WritesIntoTheReference(Foreign):
    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert reference.video is not None
        reference.video.zero_()
        return torch.zeros(len(reference))


class WritesThroughNumpy(Foreign):
    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert recon.video is not None
        recon.video.numpy()[...] = 0
        return torch.zeros(len(reference))


class WritesIntoTheTokens(Foreign):
    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        tokens.codes["joint"] += 1
        tokens.codes["more"] = tokens.codes["joint"]
        return torch.zeros(len(reference))


class WritesAndRaises(Foreign):
    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert reference.video is not None
        reference.video.zero_()
        if len(reference) > 1:
            raise ValueError("one by one, please")
        return reference.video.sum()[None] + 1


class LeavesItsSwitches(Foreign):
    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        torch.set_default_dtype(torch.float64)
        torch.autocast("cpu", torch.bfloat16).__enter__()
        return torch.zeros(len(reference))


class Exits(Foreign):
    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        raise SystemExit(0)


def measure(*metrics: Any) -> list[dict[str, float | None]]:
    clips = reconstruction()
    named = {f"{number} {type(metric).__name__}": metric for number, metric in enumerate(metrics)}
    result = measure_batch(named, [clips], [], index=0, ids=clips.reference.ids, device=torch.device("cpu"))
    return [row.metrics for row in result.rows]


@pytest.mark.parametrize(
    "metric", [WritesIntoTheReference, WritesThroughNumpy, WritesIntoTheTokens, WritesAndRaises, LeavesItsSwitches, Exits]
)
def test_what_a_metric_writes_or_leaves_reaches_no_other(metric: type[Foreign]) -> None:
    rows = measure(Psnr(), metric(), Psnr())
    assert [row["2 Psnr"] for row in rows] == [row["0 Psnr"] for row in rows]
    assert torch.get_default_dtype() == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_a_metric_that_exits_is_told_on_its_clips() -> None:
    clips = reconstruction(1)
    (row,) = measure_batch({"foreign": Exits()}, [clips], [], index=0, ids=clips.reference.ids, device=torch.device("cpu")).rows
    assert (row.status, row.metrics, row.errors) == ("ok", {"foreign": None}, {"foreign": "SystemExit: 0"})


@pytest.mark.parametrize("name", registry.default_metrics())
def test_our_own_metrics_leave_their_clips_as_they_were(name: str) -> None:
    clips, kept = reconstruction(1), reconstruction(1)
    try:
        registry.load_metric(name, MetricOptions()).update(clips.reference, clips.recon, clips.tokens)
    except MetricUnavailable as missing:
        pytest.skip(str(missing))
    assert clips.same_as(kept)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"unit": None}, "info.unit is None"),
        ({"name": ""}, "info.name is ''"),
        ({"protocol": Path("weights.pt")}, "info.protocol is PosixPath"),
        ({"higher_is_better": float("nan")}, "info.higher_is_better is nan"),
        ({"min_clips": 2.5}, "info.min_clips is 2.5"),
        ({"version": "2"}, "info.version is '2'"),
        ({"needs": ["video"]}, r"info.needs is \['video'\]"),
    ],
)
def test_facts_of_a_metric_that_no_result_could_hold_are_told_before_any_clip(changes: dict[str, Any], says: str) -> None:
    check_info(Foreign.info)
    with pytest.raises(AvbenchError, match=says):
        check_info(replace(Foreign.info, **changes))
