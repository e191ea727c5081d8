"""Splits: preparing, resuming, sharing a folder, reading in batches; folder: and VGGSound lists."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench import locks
from avbench.data import decode, files, shards, splits, vggsound
from avbench.data.media import write_mp4
from avbench.data.source import Made
from avbench.errors import AvbenchError, UsageError
from avbench.paths import cache_root, data_root
from avbench.types import ClipRef, Protocol

SMALL = Protocol(num_frames=2, duration_s=1.0, resolution=8, sample_rate=100)


class Numbers:
    """A split of made-up clips: clip k is filled with k. `fails` lists the ones that fail."""

    name, num_official, note, train_split, protocol, decoder = "numbers", 10, "", None, SMALL, ""

    def __init__(self, root: Path, count: int = 10, fails: Sequence[int] = ()) -> None:
        self.root = root
        self.fails = fails
        self.clips = tuple(ClipRef(id=f"n/{k}", label=str(k % 2)) for k in range(count))
        self.made: list[int] = []
        self.wanted: dict[int, str] = {}

    def at(self, protocol: Protocol) -> "Numbers":
        return self

    def file(self, index: int) -> None:
        return None

    def expected(self, index: int) -> str:
        return self.wanted.get(index, "")

    def stamp(self, index: int) -> str:
        return "1"

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        for k in indices:
            self.made.append(k)
            if k in self.fails:
                yield Made(index=k, pin=f"pin{k}", failure="is broken")
            else:
                audio = np.full(100, 100 * k, dtype="<i2").tobytes()
                yield Made(index=k, pin=f"pin{k}", video=bytes([k]) * (2 * 8 * 8 * 3), audio=audio)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def use(monkeypatch: pytest.MonkeyPatch, source: Numbers) -> Numbers:
    monkeypatch.setattr(splits, "find", lambda name: source)
    return source


def load(limit: int | None = None) -> splits.Split:
    return splits.load("numbers", limit=limit, progress=False)


def video_files(folder: Path, names: Sequence[str]) -> Path:
    """Up to two different one-second videos under those names."""
    generator = torch.Generator().manual_seed(0)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if number < 2:
            sound = 0.2 * torch.rand(1, 24_000, generator=generator)
            write_mp4(folder / name, torch.rand(10, 3, 32, 32, generator=generator), 10.0, sound, 24_000)
        else:
            shutil.copy(folder / names[0], folder / name)
    return folder


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


def test_verify_finds_damage_and_the_next_prepare_mends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = use(monkeypatch, Numbers(tmp_path / "p", fails=[7]))
    assert [failure.id for failure in splits.verify("numbers", limit=2, progress=False)] == ["n/0", "n/1"]
    split = load()
    path = shards.shard_path(split.root, 0, "video")
    with path.open("r+b") as file:
        file.seek(128 + 3 * 2 * 8 * 8 * 3)  # .npy headers of this size have 128 bytes
        file.write(b"\xff")
    damaged = splits.verify("numbers", progress=False)
    assert [(failure.id, "differ" in failure.reason) for failure in damaged] == [("n/3", True), ("n/7", False)]
    source.made = []
    load()
    assert source.made == [3, 7]
    assert [failure.id for failure in splits.verify("numbers", progress=False)] == ["n/7"]


def test_a_missing_shard_fails_its_clips_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p", count=2))
    split = load()
    shards.shard_path(split.root, 0, "audio").unlink()
    [batch] = splits.batches(split, 2)
    assert batch.clips is None
    assert all("avbench data verify numbers" in failure.reason for failure in batch.failures)


def test_clips_beyond_one_shard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shards, "CLIPS_PER_SHARD", 4)
    use(monkeypatch, Numbers(tmp_path / "p"))
    split = load()
    assert len(list(split.root.glob("*.video.npy"))) == 3
    assert [int(arrays[0].flat[0]) for arrays in split.arrays([9, 0, 5])] == [9, 0, 5]
    assert np.load(shards.shard_path(split.root, 4, "audio"), mmap_mode="r")[1, 0] == 500


def test_a_full_disk_is_an_error_that_says_so_and_what_was_prepared_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shards, "COMMIT_EVERY", 2)
    source = use(monkeypatch, Numbers(tmp_path / "p"))
    write = os.pwrite
    calls = []

    def full(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(AvbenchError, match=r"No space left on device.*AVBENCH_CACHE"):
        load()
    monkeypatch.setattr(os, "pwrite", write)
    source.made = []
    split = load()
    assert source.made == [6, 7, 8, 9]
    assert [int(arrays[0].flat[0]) for arrays in split.arrays(range(10))] == list(range(10))


def test_a_torn_index_line_is_dropped_and_other_damage_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = use(monkeypatch, Numbers(tmp_path / "p"))
    split = load()
    index = split.root / "index.jsonl"
    index.write_bytes(index.read_bytes()[:-20])
    source.made = []
    load()
    assert source.made == [9]
    assert len(index.read_text().splitlines()) == 10
    index.write_text("{}\n" + index.read_text())
    with pytest.raises(AvbenchError, match="line 1 is damaged"):
        load()


PREPARE = "import sys; from avbench.data import splits; print(len(splits.prepare(sys.argv[1], jobs=1, progress=False).clips))"


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PREPARE, f"folder:{folder}"], stdout=subprocess.PIPE)


@pytest.mark.slow
def test_a_killed_prepare_is_resumed(tmp_path: Path, cache: Path) -> None:
    folder = video_files(tmp_path / "v", [f"{k:03d}.mp4" for k in range(70)])
    process = start(folder)
    deadline = time.monotonic() + 120
    while not any(b"\n" in index.read_bytes() for index in cache.glob("prepared/*/index.jsonl")):
        assert time.monotonic() < deadline, "nothing was prepared in two minutes"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [index] = cache.glob("prepared/*/index.jsonl")
    before = index.read_bytes()
    split = splits.load(f"folder:{folder}", progress=False)
    assert index.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert 0 < before.count(b"\n") < 70
    assert len(split.clips) == 70
    assert splits.verify(f"folder:{folder}", progress=False) == []


@pytest.mark.slow
def test_two_prepares_at_once_share_the_work(tmp_path: Path, cache: Path) -> None:
    folder = video_files(tmp_path / "v", [f"{k}.mp4" for k in range(8)])
    both = [start(folder), start(folder)]
    assert [process.communicate(timeout=120)[0] for process in both] == [b"8\n", b"8\n"]
    [index] = cache.glob("prepared/*/index.jsonl")
    assert len(index.read_text().splitlines()) == 8
    assert splits.verify(f"folder:{folder}", progress=False) == []


def test_a_folder_has_its_subfolders_as_labels_and_bad_files_as_failures(tmp_path: Path) -> None:
    folder = video_files(tmp_path / "v", ["cat/one.mp4", "dog/deep/two.mp4", "-three_x.MP4"])
    (folder / "cat" / "text.mp4").write_text("not a video " * 500)
    (folder / "cat" / "notes.txt").write_text("not looked at")
    (folder / "empty.webm").touch()
    outside = video_files(tmp_path / "outside", ["elsewhere.mp4"])
    (folder / "link.mp4").symlink_to(outside / "elsewhere.mp4")
    (folder / "linked").symlink_to(outside)
    (folder / "linked again").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "up").symlink_to(tmp_path)
    (folder / "nowhere.mp4").symlink_to("gone.mp4")
    (folder / "itself.mp4").symlink_to("itself.mp4")
    os.mkfifo(folder / "fifo.mp4")
    split = splits.load(f"folder:{folder}", progress=False)
    assert [(clip.id, clip.label) for clip in split.clips] == [
        ("-three_x.MP4", None), ("cat/one.mp4", "cat"), ("cat/text.mp4", "cat"), ("dog/deep/two.mp4", "dog/deep"), ("empty.webm", None),
        ("fifo.mp4", None), ("itself.mp4", None), ("link.mp4", None), ("linked/elsewhere.mp4", "linked"), ("nowhere.mp4", None),
    ]  # fmt: skip
    [batch] = splits.batches(split, 16)
    reasons = {failure.id: failure.reason for failure in batch.failures}
    assert list(reasons) == ["cat/text.mp4", "empty.webm", "fifo.mp4", "itself.mp4", "nowhere.mp4"]
    assert "decoded" in reasons["cat/text.mp4"]
    assert "empty" in reasons["empty.webm"]
    assert reasons["fifo.mp4"] == "is a fifo, not a file"
    assert "symbolic links" in reasons["itself.mp4"]
    assert reasons["nowhere.mp4"] == "is a link to nowhere"
    assert batch.clips is not None
    assert len(batch.clips) == 5
    assert split.num_official == 10
    assert split.note == "links to folders that are read already, not followed: linked again, loop, up"


def test_names_that_are_not_utf8_have_ids_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    names = [b"\xff.mp4", rb"\xff.mp4", rb"\\xff.mp4", "é.mp4".encode()]
    for name in names:
        (tmp_path / "v" / os.fsdecode(name)).touch()
    source = splits.find(f"folder:{tmp_path / 'v'}")
    ids = {os.fsencode(path.name): clip.id for path, clip in zip(source.paths, source.clips, strict=True)}  # type: ignore[attr-defined]
    assert ids == {names[0]: r"\xff.mp4", names[1]: r"\\xff.mp4", names[2]: r"\\\\xff.mp4", names[3]: "é.mp4"}


def test_a_folder_without_the_word_is_told_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"is a folder; as a split it is called folder:{tmp_path}"):
        splits.find(str(tmp_path))


def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AVBENCH_CACHE", "~/cache of mine")
    monkeypatch.setenv("AVBENCH_DATA", "~/data")
    assert (cache_root(), data_root()) == (tmp_path / "cache of mine", tmp_path / "data")


def test_bytes_that_differ_from_their_checksum_are_no_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p"))
    split = load()
    for kind, clip in (("video", 3), ("audio", 5)):
        with shards.shard_path(split.root, 0, kind).open("r+b") as file:
            file.seek(-(256 - clip) * (384 if kind == "video" else 200), os.SEEK_END)
            file.write(b"\xff")
    [batch] = splits.batches(split, 10)
    assert [failure.id for failure in batch.failures] == ["n/3", "n/5"]
    assert all("differs from its checksum" in failure.reason for failure in batch.failures)


def test_a_changed_index_line_is_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p"))
    index = load().root / "index.jsonl"
    whole = index.read_text()
    index.write_text(whole.replace('"pin4"', '"pin5"'))
    with pytest.raises(AvbenchError, match="line 5 is damaged"):
        load()
    lines = [json.loads(line) for line in whole.splitlines()]
    index.write_text("".join(json.dumps({key: value for key, value in line.items() if key != "check"}) + "\n" for line in lines))
    assert len(load().entries) == 10  # written before there were checks
    index.write_text("[" * 100_000 + "\n")
    with pytest.raises(AvbenchError, match="line 1 is damaged"):
        load()
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(AvbenchError, match="is a fifo"):
        load()


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


def test_other_content_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    folder = video_files(tmp_path / "v", ["a.mp4", "b.mp4"])
    size = max((folder / name).stat().st_size for name in ("a.mp4", "b.mp4"))
    for name in ("a.mp4", "b.mp4"):
        with (folder / name).open("ab") as file:
            file.truncate(size)
        os.utime(folder / name, ns=(10**18, 10**18))
    before = splits.load(f"folder:{folder}", progress=False)
    (folder / "a.mp4").write_bytes((folder / "b.mp4").read_bytes())
    os.utime(folder / "a.mp4", ns=(10**18, 10**18))
    after = splits.load(f"folder:{folder}", progress=False)
    assert after.checksum != before.checksum
    assert after.entries[0].sha256 == before.entries[1].sha256


def test_a_read_only_cache_with_a_known_bad_clip_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, Numbers(tmp_path / "p", fails=[2]))
    wanted = load()

    def refuse(path: Path, waiting: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(locks, "alone", refuse)
    assert load() == wanted
    assert "1 clips failed before and are not tried again" in capfd.readouterr().err
    use(monkeypatch, Numbers(tmp_path / "q"))
    with pytest.raises(AvbenchError, match=r"Read-only file system.*AVBENCH_CACHE to a folder that can be written") as caught:
        load()
    assert "Free some space" not in str(caught.value)


def test_verify_tells_of_damage_in_a_read_only_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p"))
    path = shards.shard_path(load().root, 0, "audio")
    path.write_bytes(path.read_bytes()[:128] + bytes(256 * 200))

    def refuse(path: Path, waiting: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(locks, "alone", refuse)
    problems = splits.verify("numbers", progress=False)
    assert [problem.id for problem in problems] == [f"n/{k}" for k in range(1, 10)]  # clip 0 is silent
    assert "by somebody who can write" in problems[0].reason


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_locks_is_used_with_a_note(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    use(monkeypatch, Numbers(tmp_path / "p"))
    assert len(load().entries) == 10
    assert "cannot be locked" in capfd.readouterr().err


def test_a_system_without_fcntl_prepares_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    use(monkeypatch, Numbers(tmp_path / "p"))
    assert len(load().entries) == 10


def test_what_is_prepared_has_the_permissions_of_the_umask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p"))
    before = os.umask(0o002)
    try:
        root = load().root
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in root.iterdir()} == {
        "lock": "0o664", "index.jsonl": "0o664", "0000.video.npy": "0o664", "0000.audio.npy": "0o664",
    }  # fmt: skip
    assert oct(root.stat().st_mode & 0o777) == "0o775"


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


def test_a_changed_file_is_prepared_anew_and_changes_the_checksum(tmp_path: Path) -> None:
    folder = video_files(tmp_path / "v", ["a.mp4", "b.mp4"])
    before = splits.load(f"folder:{folder}", progress=False)
    (folder / "a.mp4").write_bytes((folder / "b.mp4").read_bytes())
    after = splits.load(f"folder:{folder}", progress=False)
    assert after.checksum != before.checksum
    assert after.entries[0].sha256 == after.entries[1].sha256 == before.entries[1].sha256
    assert after.entries[1] == before.entries[1]


def test_no_folder_no_videos_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match="is not a folder"):
        splits.load(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(AvbenchError, match="no videos below"):
        splits.load(f"folder:{tmp_path}")
    with pytest.raises(UsageError, match='did you mean "arcade-mini"'):
        splits.load("arcade-mni")
    with pytest.raises(UsageError, match="at least 1"):
        splits.load("arcade-mini", limit=0)


@pytest.fixture
def vgg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "vggsound").mkdir(parents=True)
    return tmp_path / "data" / "vggsound"


def test_every_way_to_name_a_vggsound_file_is_found(vgg: Path) -> None:
    names = ["-a_b-c_d_e1_30.mp4", "deep/er/_Betmm6FaWo_000096.webm", "0_ixmalQrig_100000_110000.mkv", "train_me_0_5.mp4", "other_1.mp4"]
    for name in names:
        (vgg / name).parent.mkdir(parents=True, exist_ok=True)
        (vgg / name).touch()
    rows = ['-a_b-c_d_e1,30,"pigeon, dove cooing",test', "_Betmm6FaWo,96,,test", "0_ixmalQrig,100,flute,test", "gone4567890,5,x,test"]
    (vgg / "vggsound.csv").write_text("\n".join([*rows, "train_me_0,5,y,train"]))
    source = vggsound.vggsound_test()
    assert [(clip.id, clip.label) for clip in source.clips] == [
        ("-a_b-c_d_e1_000030", "pigeon, dove cooing"), ("_Betmm6FaWo_000096", None), ("0_ixmalQrig_000100", "flute"),
    ]  # fmt: skip
    assert [path.relative_to(vgg).as_posix() for path in source.paths] == names[:1] + names[1:2] + names[2:3]
    assert source.num_official == 4
    assert source.note == "3 of 4 official clips found; 1 missing, e.g. gone4567890_000005"
    assert [clip.id for clip in vggsound.vggsound_train().clips] == ["train_me_0_000005"]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("abc,30,label", "line 2: 3 columns, not 4"),
        ("abc,30,a,label,test", "line 2: 5 columns"),
        ("abc,3.5,label,test", "line 2: start '3.5'"),
        ("abc,30,label,val", "line 2: split 'val'"),
        ("../abc,30,label,test", "line 2: '../abc' is no YouTube id"),
        ("good,1,other,test", "line 2: good_000001 is there before"),
        ('abc,30,"label,test', "begins in line 2"),
    ],
)
def test_a_malformed_row_is_named_by_line(vgg: Path, row: str, complaint: str) -> None:
    (vgg / "vggsound.csv").write_text(f"good,1,label,test\n{row}\n")
    with pytest.raises(AvbenchError, match=complaint):
        vggsound.vggsound_test()


def test_many_malformed_rows_are_counted(vgg: Path) -> None:
    (vgg / "vggsound.csv").write_text("a,b\n" * 10)
    with pytest.raises(AvbenchError, match="and 7 more"):
        vggsound.vggsound_test()


def test_a_repeated_row_is_kept_once_and_noted(vgg: Path) -> None:
    (vgg / "vggsound.csv").write_text("good,1,label,test\n\ngood,1,label,test\n")
    (vgg / "good_1.mp4").touch()
    source = vggsound.vggsound_test()
    assert len(source.clips) == 1
    assert source.note == "1 repeated rows of the list kept once"


def test_without_a_list_the_error_says_what_to_put_where(vgg: Path) -> None:
    with pytest.raises(AvbenchError, match=r"vggsound\.csv.*official list.*AVBENCH_DATA"):
        vggsound.vggsound_test()
    with pytest.raises(AvbenchError, match=r"tavgbench\.csv.*caption"):
        vggsound.tavgbench_test()


def test_tavgbench_rows_have_captions(vgg: Path) -> None:
    folder = vgg.parent / "tavgbench"
    folder.mkdir()
    (folder / "tavgbench.csv").write_text('abc,30,"A dog, barking."\nxyz,0,Rain\n')
    (folder / "abc_30000_40000.mp4").touch()
    source = vggsound.tavgbench_test()
    assert [(clip.id, clip.label) for clip in source.clips] == [("abc_000030", "A dog, barking.")]
    assert source.num_official == 2


@pytest.mark.slow
@pytest.mark.shared_data
def test_every_shared_clip_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(__file__).parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the real clips (shared/data) are not beside the repository")
    monkeypatch.setenv("AVBENCH_DATA", str(data))
    for name, count in ((f"folder:{data}", 58), ("vggsound-test", 16), ("vggsound-train", 14)):
        split = splits.load(name, progress=False)
        assert [entry.failure for entry in split.entries] == [None] * count
        for batch in splits.batches(split, 8):
            assert batch.clips is not None
            assert batch.clips.video is not None
            assert batch.clips.audio is not None
            assert (batch.clips.video.std(dim=(1, 2, 3, 4)) > 0.02).all()
            assert (batch.clips.audio.std(dim=2) > 0).all()


def test_the_index_is_plain_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p", count=1))
    [line] = (load().root / "index.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "n/0"
