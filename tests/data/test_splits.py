"""Splits: what is prepared, what is read in which batch, and what the checksum is made of."""

import hashlib
from pathlib import Path

import pytest
import torch
from made_splits import Numbers, load, use, video_files

from avbench.data import decode, files, shards, splits
from avbench.errors import AvbenchError
from avbench.types import ClipRef

pytestmark = pytest.mark.usefixtures("cache")


def test_clips_come_back_as_they_were_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p"))
    split = load()
    for k, arrays in enumerate(split.arrays(range(10))):
        assert not isinstance(arrays, str)
        assert (arrays[0] == k).all()
        assert (arrays[1] == 100 * k).all()
    [batch] = splits.batches(split, 10)
    assert batch.clips is not None
    assert batch.clips.video is not None
    assert batch.clips.audio is not None
    assert batch.clips.video.shape == (10, 2, 3, 8, 8)
    assert batch.clips.audio.shape == (10, 1, 100)
    assert torch.equal(batch.clips.video[:, 0, 0, 0, 0], torch.arange(10) / 255)
    assert torch.equal(batch.clips.audio[:, 0, 0], torch.arange(10) * 100 / 32767)
    assert batch.clips.ids == tuple(clip.id for clip in split.clips)
    assert (batch.clips.fps, batch.clips.sample_rate) == (2.0, 100)


def test_batches_do_not_depend_on_which_are_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p", fails=[4]))
    split = load()
    every = {batch.index: batch for batch in splits.batches(split, 3)}
    assert list(every) == [0, 1, 2, 3]
    assert [batch.index for batch in splits.batches(split, 3, [3, 1])] == [3, 1]
    for batch in splits.batches(split, 3, [3, 1]):
        assert batch.clips is not None
        whole = every[batch.index].clips
        assert whole is not None
        assert batch.clips.ids == whole.ids
        assert batch.clips.video is not None
        assert whole.video is not None
        assert torch.equal(batch.clips.video, whole.video)
    assert every[1].clips is not None
    assert every[1].clips.ids == ("n/3", "n/5")
    assert [(failure.id, failure.label, failure.reason) for failure in every[1].failures] == [("n/4", "0", "is broken")]
    assert list(splits.batches(split, 3, [])) == []


def test_a_batch_of_failures_has_no_clips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p", count=4, fails=[0, 1]))
    first, second = splits.batches(load(), 2)
    assert first.clips is None
    assert len(first.failures) == 2
    assert second.failures == ()


def test_leaving_the_batches_early_ends_the_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p"))
    reading = splits.batches(load(), 1)
    next(reading)
    reading.close()


def test_only_what_is_missing_is_made_and_failures_are_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = use(monkeypatch, Numbers(tmp_path / "p", fails=[2]))
    load(limit=4)
    assert source.made == [0, 1, 2, 3]
    source.fails, source.made = (), []
    assert all(entry.failure is None for entry in load().entries)
    assert source.made == [2, 4, 5, 6, 7, 8, 9]


def test_a_clip_of_another_content_than_it_must_have_fails_and_the_checksum_says_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = use(monkeypatch, Numbers(tmp_path / "p", count=3))
    before = load()
    source.wanted = {0: "pin0", 1: "another"}
    after = load()
    assert [entry.failure for entry in after.entries] == [None, "is another file than the list's (sha256 pin1..., not another...)", None]
    assert after.checksum == before.checksum


def test_a_split_that_is_no_source_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        distribution = "theirs"

        def load(self) -> object:
            return object

    monkeypatch.setattr(splits, "plugins", lambda kind: {"odd": Found()})
    with pytest.raises(AvbenchError, match="split odd of distribution theirs is no"):
        splits.find("odd")


def test_the_checksum_is_that_of_the_clips_their_labels_and_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p"))
    whole, part = load().checksum, load(limit=5).checksum
    assert whole != part
    assert load(limit=100).checksum == whole
    use(monkeypatch, Numbers(tmp_path / "elsewhere"))
    assert load().checksum == whole
    other = use(monkeypatch, Numbers(tmp_path / "third"))
    other.clips = (ClipRef(id="n/0", label="another"), *other.clips[1:])
    assert load().checksum != whole


def test_the_decoder_is_part_of_the_checksum_and_of_the_stamp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"folder:{video_files(tmp_path / 'v', ['a.mp4'])}"
    before = splits.load(name, progress=False)
    monkeypatch.setattr(decode, "identity", lambda: "another decoder")
    after = splits.load(name, progress=False)
    assert after.checksum != before.checksum
    assert after.entries[0].row == 1  # made anew
    assert after.entries[0].sha256 == before.entries[0].sha256


def test_emulated_clips_have_no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksum of arcade-mini, as on the boards: it does not depend on PyAV."""
    source = splits.find("arcade-mini")
    entries = [shards.Entry(id=clip.id, stamp="", pin=pin, row=0) for clip, pin in zip(source.clips, source.pins, strict=True)]  # type: ignore[attr-defined]
    wanted = splits._checksum(source, source.clips, entries)
    monkeypatch.setattr(decode, "identity", lambda: "another decoder")
    assert splits._checksum(source, source.clips, entries) == wanted
    assert wanted[:16] == "38fddc3451da9a3b"


def test_a_file_that_ends_its_worker_keeps_its_pin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The pin is what the worker said before; the main process does not read a file that was too much for a worker."""
    folder = video_files(tmp_path / "v", ["a.mp4"])
    wanted = hashlib.sha256((folder / "a.mp4").read_bytes()).hexdigest()
    (tmp_path / "doomed_worker.py").write_text(
        "import os, av\nfrom avbench.data import media_worker, wire\n"
        "media_worker.read_protocol = lambda *_, **__: os._exit(9)\nwire.serve(media_worker.decode)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(files, "WORKER", "doomed_worker")
    split = splits.load(f"folder:{folder}", progress=False)
    assert "exit code 9" in str(split.entries[0].failure)
    assert split.entries[0].pin == wanted
