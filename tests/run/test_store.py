"""What a kill, a full disk or a second process may do to a run's folder."""

import errno
import json
import multiprocessing
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from avbench.errors import AvbenchError
from avbench.run import store as module
from avbench.run.store import BatchResult, ClipRow, RunStore


def batch(index: int, *, failed: bool = False) -> BatchResult:
    rows = [ClipRow(id=f"{index}/0", label="a", status="ok", metrics={"psnr": 20.0 + index, "si_sdr": None})]
    if failed:
        rows.append(ClipRow(id=f"{index}/1", label=None, status="failed", reason="no audio stream"))
    return BatchResult(
        index=index, rows=tuple(rows), features={"fvd": np.ones((1, 2, 4), np.float32) * index}, seconds={"encode": 0.1}, peak_memory_mb=1.0
    )


def done(store: RunStore) -> set[int]:
    return {part.index for part in store.load() if not part.failed}


def test_a_batch_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    store.save(batch(3))
    (loaded,) = store.load()
    assert loaded.rows == batch(3).rows
    np.testing.assert_array_equal(loaded.features["fvd"], batch(3).features["fvd"])


def test_a_batch_with_a_failed_clip_is_not_done(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    store.save(batch(0))
    store.save(batch(1, failed=True))
    assert done(store) == {0}


def test_a_torn_part_counts_as_absent(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    store.save(batch(0))
    path = next(store.parts.glob("*.npz"))
    path.write_bytes(path.read_bytes()[:-40])
    assert done(store) == set()


def test_a_part_with_a_flipped_bit_counts_as_absent_or_is_what_it_was(tmp_path: Path) -> None:
    """Every byte in turn; of some (a zip's dates) nothing depends."""
    store = RunStore(tmp_path / "run")
    store.save(batch(0))
    (whole,) = store.load()
    (path,) = store.parts.glob("*.npz")
    content, absent = path.read_bytes(), 0
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        found = list(store.load())
        absent += not found
        for part in found:
            assert (part.rows, part.seconds) == (whole.rows, whole.seconds)
            assert all(np.array_equal(rows, whole.features.get(name)) for name, rows in part.features.items())
    assert absent > len(content) / 2


def test_a_part_that_is_no_file_or_claims_gigabytes_counts_as_absent(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    os.mkfifo(store.parts / "000000.npz")
    assert list(store.load()) == []
    archive = zipfile.ZipFile(store.parts / "000001.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("feature psnr.npy", "w", force_zip64=True) as member:
        for _ in range(130):
            member.write(bytes(1 << 23))
    assert list(store.load()) == []


def test_clips_jsonl_is_in_the_splits_order_whatever_the_order_of_saving(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    for index in (2, 0, 1):
        store.save(batch(index))
    store.write_clips()
    lines = [json.loads(line) for line in (store.folder / "clips.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["0/0", "1/0", "2/0"]
    assert set(lines[0]) == {"id", "label", "status", "reason", "metrics"}


def test_a_full_disk_says_so_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path / "run")
    store.save(batch(0))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.np, "savez_compressed", full)
    with pytest.raises(AvbenchError, match="no space left"):
        store.save(batch(1))
    assert done(store) == {0}
    assert [path.name for path in store.parts.iterdir()] == ["000000.npz"]


def _hold(folder: str, held: float) -> None:
    with RunStore(Path(folder)).lock():
        Path(folder, "held").touch()
        time.sleep(held)
        Path(folder, "released").touch()


def test_a_second_process_waits_for_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    store = RunStore(folder)
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(str(folder), 1.0))
    process.start()
    while not (folder / "held").exists():
        time.sleep(0.02)
    with store.lock():
        assert (folder / "released").exists()
    process.join()
    assert "waiting" in capsys.readouterr().err
