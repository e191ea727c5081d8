"""avbench.files: whole or not at all, ordinary files only, and a full disk in words."""

import errno
import os
import stat
from pathlib import Path

import pytest

from avbench.errors import AvbenchError, UsageError
from avbench.files import atomic, disk_errors, read_json, regular


def test_a_file_appears_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    with atomic(path, "w") as file:
        file.write("neu: ä")
        assert path.read_text() == "old"
    assert path.read_bytes() == "neu: ä".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(error), atomic(path) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_what_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with atomic(tmp_path / "x") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_a_very_long_name_is_written_too(tmp_path: Path) -> None:
    with atomic(tmp_path / ("x" * 250)) as file:
        file.write(b"1")
    assert (tmp_path / ("x" * 250)).read_bytes() == b"1"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left for /somewhere .*free some space and repeat the command"),
        (errno.EDQUOT, "no space left"),
        (errno.EROFS, "/somewhere cannot be written .*choose another folder, and repeat the command"),
        (errno.EACCES, "cannot be written"),
    ],
)
def test_a_full_or_read_only_disk_is_told_in_words(number: int, message: str) -> None:
    with pytest.raises(AvbenchError, match=message), disk_errors(Path("/somewhere"), "repeat the command"):
        raise OSError(number, os.strerror(number))


def test_another_error_of_the_system_stays_what_it_is() -> None:
    with pytest.raises(TimeoutError), disk_errors(Path("/somewhere"), "repeat"):
        raise TimeoutError(errno.ETIMEDOUT, "x")


def test_a_folder_below_a_file_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AvbenchError, match="cannot be written"), disk_errors(tmp_path / "file" / "x", "repeat"):
        (tmp_path / "file" / "x").mkdir()


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    (tmp_path / "file").touch()
    assert regular(tmp_path / "file") == tmp_path / "file"
    for path, kind in (("fifo", "fifo"), ("link", "fifo"), ("", "folder"), ("/dev/zero", "device")):
        with pytest.raises(AvbenchError, match=f"is a {kind}, not a file"):
            regular(tmp_path / path)
    with pytest.raises(AvbenchError, match="cannot be opened"):
        regular(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "damaged"), ("[1]", "holds a list"), ("[" * 100_000, "damaged"), (" " * 2000 + "{}", "too large"), ("\udcff", "damaged")],
)
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(AvbenchError, match=message):
        read_json(tmp_path / "x.json", 200_000 if message != "too large" else 1000)


def test_a_message_steers_no_terminal() -> None:
    """A file may be called anything."""
    said = str(UsageError("no file a\x1b[2J\x07\u202eb\udcff\u00e4;\nnext"))
    assert said == "no file a\\x1b[2J\\x07\\u202eb\\udcff\u00e4;\nnext"
