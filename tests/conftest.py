"""Fixtures for tests of the whole line: toy tokenizers, a small folder of clips, and the command line in a process of its own.

`make test` runs the files in parallel, each wholly in one process. Clips, and what is prepared from them, lie in one folder for all.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

ROOT = Path(__file__).parents[1]
os.environ.setdefault("AVBENCH_OFFLINE", "1")  # no test waits for a hub; `make test` pulls what the tests need
Command = Callable[..., subprocess.CompletedProcess[str]]
# Files of minutes, begun first: a file stays in one process, and the others must not wait for the last one alone.
LONGEST = ("train/test_gpu_day.py", "test_docs.py", "run/test_run.py", "run/test_isolation.py", "run/test_check.py", "train/test_loop.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; all else in its order."""
    files = [item.path.relative_to(ROOT / "tests").as_posix() for item in items]
    order = {file: place for place, file in enumerate(LONGEST)}
    items[:] = [item for _, item in sorted(zip(files, items, strict=True), key=lambda pair: order.get(pair[0], len(LONGEST)))]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real clips beside the repository; the test is skipped, visibly, where they are not."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real clips (shared/data) are not beside the repository")
    return folder


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of this run of the tests."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # pytest-xdist gives each process a folder in the run's


@pytest.fixture(scope="session")
def clip_folder(shared_folder: Path) -> Path:
    """A folder of five synthetic clips in two classes, with motion and tones, made through the project's own mp4 writer."""
    folder = shared_folder / "clips"
    with FileLock(shared_folder / "clips.lock"):
        if not folder.exists():
            part = shared_folder / "clips.part"
            _write_clips(part)
            part.rename(folder)
    return folder


def _write_clips(folder: Path) -> None:
    from avbench.data.media import write_mp4

    for index in range(5):
        label = folder / ("circle", "square")[index % 2]
        label.mkdir(parents=True, exist_ok=True)
        time = torch.arange(5 * 24_000) / 24_000
        tone = 0.3 * torch.sin(6.283185 * 220 * (1 + index) * time) * (0.6 + 0.4 * torch.sin(6.283185 * 3 * time))
        write_mp4(label / f"{index}.mp4", _moving_square(index), 10.0, tone[None], 24_000)


def _moving_square(index: int) -> torch.Tensor:
    """(50, 3, 144, 160) in [0, 1]: five seconds at 10 fps."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 144), torch.linspace(0, 1, 160), indexing="ij")
    frames = []
    for frame in range(50):
        square = ((x - (frame / 50 + 0.1 * index) % 1).abs() < 0.15) & ((y - 0.5).abs() < 0.2)
        frames.append(torch.stack([0.7 * x, 0.5 * y + 0.1 * index, 0.9 * square]))
    return torch.stack(frames)


@pytest.fixture(scope="session")
def test_cache(shared_folder: Path) -> Path:
    """A cache folder of the tests' own, but for the pretrained weights, which are the user's. Whoever prepares a split holds its lock."""
    from avbench.paths import cache_root

    folder, weights = shared_folder / "cache", cache_root() / "weights"
    with FileLock(shared_folder / "cache.lock"):
        if not folder.exists():
            weights.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            (folder / "prepared").mkdir()
            (folder / "weights").symlink_to(weights)
    return folder


@pytest.fixture
def avbench(tmp_path: Path, test_cache: Path) -> Command:
    """Runs `avbench ARGUMENTS` in a process of its own, in tmp_path; `environment=` adds variables."""

    def call(*arguments: str, environment: dict[str, str] | None = None, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "AVBENCH_CACHE": str(test_cache), **(environment or {})}
        command = [sys.executable, "-m", "avbench", *arguments]
        return subprocess.run(command, capture_output=True, text=True, errors="replace", env=variables, cwd=cwd, timeout=600, check=False)

    return call
