"""Features kept on disk: what is read is what was written, for whoever shares the folder."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.metrics.features.cache import cached_features


def ones(positions: list[int]) -> torch.Tensor:
    return torch.ones(len(positions), 200)


@pytest.mark.parametrize("place", [150, 400, -1])
def test_a_changed_byte_is_not_read(tmp_path: Path, place: int) -> None:
    cached_features(tmp_path, "net", ("a",), ones)
    (file,) = tmp_path.rglob("*.npy")
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    assert cached_features(tmp_path, "net", ("a",), lambda positions: 2 * ones(positions)).tolist() == [[2.0] * 200]


def test_features_written_before_there_was_a_checksum_are_computed_again(tmp_path: Path) -> None:
    cached_features(tmp_path, "net", ("a",), ones)
    (file,) = tmp_path.rglob("*.npy")
    np.save(file, np.zeros(200, np.float32))
    assert cached_features(tmp_path, "net", ("a",), ones).tolist() == [[1.0] * 200]


def test_permissions_are_those_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        cached_features(tmp_path, "net", ("a",), ones)
    finally:
        os.umask(before)
    (file,) = tmp_path.rglob("*.npy")
    assert oct(file.stat().st_mode & 0o777) == "0o664"


def test_a_cache_that_cannot_be_written_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    for _ in range(2):
        assert cached_features(tmp_path, "net", ("a", "b"), ones).shape == (2, 200)
    assert capfd.readouterr().err.count("Read-only file system") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_fifo_in_the_cache_is_not_waited_for(tmp_path: Path) -> None:
    cached_features(tmp_path, "net", ("a",), ones)
    (file,) = tmp_path.rglob("*.npy")
    file.unlink()
    os.mkfifo(file)
    assert cached_features(tmp_path, "net", ("a",), ones).shape == (1, 200)
