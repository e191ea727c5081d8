"""A folder of videos as a split: names, labels, and files that change."""

import os
from pathlib import Path

import pytest
from made_splits import video_files

from avbench.data import splits
from avbench.errors import AvbenchError, UsageError
from avbench.paths import cache_root, data_root

pytestmark = pytest.mark.usefixtures("cache")


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
