"""Prepared clips on the disk: damage, full and read-only disks, locks, permissions, and a prepare that is killed."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_splits import Numbers, load, use, video_files

from avbench import locks
from avbench.data import shards, splits
from avbench.errors import AvbenchError

pytestmark = pytest.mark.usefixtures("cache")


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


def test_the_index_is_plain_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Numbers(tmp_path / "p", count=1))
    [line] = (load().root / "index.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "n/0"
