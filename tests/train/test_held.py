"""avbench.train.held: the same batches as those that are read from shards."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avbench.train.data import Clips, load_clips
from avbench.train.held import HeldClips, HeldSound, ReadBack

CPU = torch.device("cpu")


@pytest.fixture
def clips(clip_folder: Path, test_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Clips:
    """Four of the five; the first is left out, so that a clip's number and its place in the split differ."""
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    return replace(load_clips(f"folder:{clip_folder}", None, 1)[0], indices=range(1, 5))


def test_a_batch_is_that_of_the_reader(clips: Clips) -> None:
    held = HeldClips(clips, CPU)
    assert len(held) == 4
    ours, theirs = held.batch([3, 0], with_audio=True), clips.reader.batch([4, 1], with_audio=True)
    for name in ("video", "audio"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert torch.allclose(ours.mel.float(), theirs.mel.float(), atol=0.01)
    assert ours.video is not None
    assert theirs.video is not None
    assert ours.video.stride() == theirs.video.stride()
    back = ReadBack(held)
    assert len(back) == 4
    assert torch.equal(back.batch([3]).mel, held.batch([3]).mel)
    without = held.batch([2], with_video=False)
    assert without.video is None
    assert without.audio is None


def test_crops_are_cut_where_they_are_asked_for(clips: Clips) -> None:
    crops = HeldSound(clips, CPU).crops([2, 0], [7, 1000], 50)
    assert torch.equal(crops[0], torch.from_numpy(clips.reader.samples(3)[7:57].copy()))
    assert torch.equal(crops[1], torch.from_numpy(clips.reader.samples(1)[1000:1050].copy()))
