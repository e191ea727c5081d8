"""Every reader of files that come from outside: what is no ordinary file is refused at once, wherever it lies.

A fifo would block its reader, /dev/zero never ends. `test_every_reader_is_known` finds a reader that is not in the table.
"""

import ast
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import librosa.filters  # noqa: F401 - takes longer than any refusal
import numpy as np
import pytest
import torch

from avbench import artifact, files, registry
from avbench.board.clips import RunClips
from avbench.board.results import collect, read_result
from avbench.data import shards, vggsound
from avbench.data.damage import MediaError
from avbench.data.decode import open_file
from avbench.errors import AvbenchError
from avbench.generate import tokens
from avbench.generate.checkpoint import load_generator
from avbench.metrics.features import cache, classifier
from avbench.report.training import read_trainings
from avbench.run import identity
from avbench.run.finished import read_clips
from avbench.run.store import RunStore
from avbench.tokenizers.published import read_config, weights_files
from avbench.train import checkpoint, log
from avbench.train.data import MelCache
from avbench.types import Protocol, RunSpec
from avbench.weights import half, load

ROOT = Path(__file__).parents[1]
SECONDS = 20  # far more than any refusal takes, importing included
SHA256 = "0" * 64
PROTOCOL = Protocol()


def _beside(other: str, content: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """`read` of a folder that has a sound file beside the one that is none."""

    def call(path: Path) -> Any:
        (path.parent / other).write_text(content)
        return read(path.parent)

    return call


def _half(path: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(half.VARIABLE, str(path))
        return half.arrays("i3d")


def _checkpoint(path: Path) -> Any:
    return checkpoint.load(path.parent, checkpoint.Identity(recipe="r", digest="d", split="s", split_checksum="c", num_clips=1))


def _content(path: Path) -> Any:
    return identity.content_of_checkpoint(RunSpec(tokenizer="x", split="y", checkpoint=str(path)))


def _mels(path: Path) -> Any:
    """Nothing is kept where the file is none; what is asked for is computed."""
    found = MelCache(path.parent, 1, 24_000).get(0, lambda row: np.zeros(24_000, np.int16))
    assert found.shape == (80, 94)


def _trainings(path: Path) -> Any:
    """The folder is on the page with the reason."""
    found = read_trainings(path.parent)
    assert [training.problem != "" for training in found] in ([], [True])


def _collected(path: Path) -> Any:
    return collect(path.parent.parent).results


def _class_of(path: Path) -> Any:
    return registry.load_tokenizer(f"{path}:Mine")


RESULT = '{"values": []}'
# Where the file lies below a folder of its own, and what reads it: given its path.
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "files.regular": ("x", files.regular),
    "files.read_bytes": ("x", lambda path: files.read_bytes(path, 100)),
    "files.read_lines": ("x", lambda path: list(files.read_lines(path, 100))),
    "files.read_json": ("x.json", lambda path: files.read_json(path, 100)),
    "result.json": ("result.json", lambda path: read_result(path.parent)),
    "result.json of a folder of runs": ("result.json", _collected),
    "result.json of a run to resume": ("result.json", lambda path: RunStore(path.parent).read_result()),
    "clips.jsonl": ("clips.jsonl", lambda path: RunClips.read(path.parent).ids),
    "clips.jsonl.gz": ("clips.jsonl.gz", lambda path: read_clips(path.parent)),
    "features.npz": ("features.npz", _beside("clips.jsonl", "", lambda folder: RunClips.read(folder).feature_names)),
    "parts": ("parts/000000.npz", lambda path: list(RunStore(path.parents[1]).load())),
    "tokens of a run": ("tokens/000000.avt", lambda path: RunStore(path.parents[1]).load_tokens(0)),
    "tokens of a split": ("000000.safetensors", lambda path: tokens._read(path.parent, 0)),
    "log.jsonl": ("log.jsonl", lambda path: log.read_log(path.parent)),
    "log.jsonl in the report": ("log.jsonl", _trainings),
    "manifest.json in the report": ("manifest.json", _beside("log.jsonl", "", lambda folder: read_trainings(folder))),
    "manifest.json of a training": ("manifest.json", lambda path: checkpoint.of_folder(path.parent)),
    "manifest.json of a model": ("manifest.json", lambda path: artifact.read(path.parent, "avtok")),
    "manifest.json of a generator": ("manifest.json", lambda path: load_generator(path.parent, torch.device("cpu"))),
    "a fitted file": ("x.safetensors", artifact.read_file),
    "a fitted classifier": ("x.safetensors", classifier.read),
    "state.pt": ("state.pt", _checkpoint),
    "config.json": ("config.json", lambda path: read_config(path.parent)),
    "model.safetensors": ("model.safetensors", lambda path: weights_files(path.parent)),
    "model.safetensors.index.json": ("model.safetensors.index.json", lambda path: weights_files(path.parent)),
    "load_torch": ("x.pth", load.load_torch),
    "load_safetensors": ("x.safetensors", load.load_safetensors),
    "safetensors_header": ("x.safetensors", load.safetensors_header),
    "load_array_pickle": ("x.pkl", lambda path: load.load_array_pickle(path, SHA256)),
    "sha256_of": ("x", load.sha256_of),
    "half-precision weights": ("x", _half),
    "--checkpoint": ("x", _content),
    "--tokenizer file.py:Class": ("mine.py", _class_of),
    "a video": ("x.mp4", open_file),
    "index.jsonl": ("index.jsonl", lambda path: shards.read_index(path.parent)),
    "a shard": ("0000.video.npy", lambda path: next(shards.read_rows(path.parent, [0], PROTOCOL))),
    "kept mels": ("mel1.f16", _mels),
    "kept features": ("x.npy", cache._read),
    "vggsound.csv": ("vggsound.csv", lambda path: vggsound.read_list(path, 4)),
}
ACCEPTED = {("--checkpoint", "folder")}
KINDS = ("fifo", "folder", "device", "loop", "nowhere", "missing")


def _make(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "nowhere":
            path.symlink_to(path.parent / "none")


@contextmanager
def _in_time() -> Iterator[None]:
    """A reader that blocks, or that reads without end, fails its test."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it did not come back within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_ordinary_file_is_refused_at_once(name: str, kind: str, tmp_path: Path) -> None:
    """By name, or it counts as absent: never read, never waited for."""
    file, read = READERS[name]
    path = tmp_path / "runs" / "of one" / file
    _make(path, kind)
    with _in_time():
        try:
            found = read(path)
        except (AvbenchError, MediaError):
            pass
        except OSError:  # its worker says what is wrong
            assert name == "a video"
            assert kind in ("missing", "nowhere", "loop")
        else:
            assert not found or (name, kind) in ACCEPTED


@pytest.mark.parametrize("read", [load.sha256_of, load.load_torch, load.load_safetensors, load.safetensors_header, _content])
def test_a_sparse_file_of_a_terabyte_is_refused_unread(read: Callable[[Path], Any], tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(10**12)
    with _in_time(), pytest.raises(AvbenchError, match="1,000,000,000,000 bytes, more than any file of weights"):
        read(tmp_path / "x")


# What opens files without the helpers of avbench.files, and why it may: (module, function) or (module, "") for all of it.
KNOWN = {
    ("avbench/files.py", ""): "the helpers themselves",
    ("avbench/weights/load.py", ""): "each path went through `_size`, which asks `regular`",
    ("avbench/weights/fetch.py", ""): "archives that pip has just written to a folder of ours",
    ("avbench/artifact.py", "read_file"): "after load_safetensors",
    ("avbench/board/columns.py", ""): "boards: our own files",
    ("avbench/board/formats.py", ""): "a template of ours",
    ("avbench/board/clips.py", ""): "archives that `open_regular` has opened",
    ("avbench/locks.py", "alone"): "writes",
    ("avbench/data/media_worker.py", "decode"): "what `open_file` has opened",
    ("avbench/report/pages.py", ""): "templates of ours",
    ("avbench/report/site.py", "_files"): "writes",
    ("avbench/generate/tokens.py", "_read"): "asks `regular`",
    ("avbench/train/data.py", "_map"): "asks `regular`",
    ("avbench/train/data.py", "_sparse"): "writes; asks whether it is a file",
    ("avbench/train/checkpoint.py", "load"): "asks `torch_file`",
    ("avbench/train/log.py", "write"): "writes",
    ("avbench/train/day.py", ""): "reads what it has just written",
    ("avbench/run/store.py", ""): "writes; reads with `open_regular`",
    ("avbench/run/identity.py", "code_of"): "sources that Python has imported, or found to be files",
    ("avbench/run/manifest.py", "_processor"): "/proc/cpuinfo",
    ("avbench/run/walls.py", "_show"): "makes the file that something is shown at",
    ("avbench/run/metrics.py", "_machine"): "/proc/meminfo",
    ("avbench/run/metrics.py", "_container"): "/sys/fs/cgroup",
    ("avbench/data/arcade.py", ""): "pins: our own files",
    ("avbench/data/arcade_pins.py", ""): "makes the pins",
    ("avbench/data/media.py", "write_mp4"): "writes",
    ("avbench/data/decode.py", "_open"): "FFmpeg gets a file that `open_file` has opened",
    ("avbench/data/vggsound.py", "_fields"): "read_list asks `is_file`",
    ("avbench/data/shards.py", ""): "writes; reads with `open_regular`",
    ("metrics/features/cache.py", "_read"): "bytes in memory",
    ("tokenizers/avtok/scene.py", "unpack"): "bytes in memory",
    ("tokenizers/opus.py", ""): "a codec, no file",
}
FUNCTIONS = {"open", "safe_open", "load_file", "file_digest"}
METHODS = {"open", "read_text", "read_bytes", "ZipFile", "file_digest", "memmap", "fromfile", "open_memmap"}
LOADERS = {"np", "numpy", "torch", "torchaudio", "soundfile", "Image"}  # whose `load` or `open` takes a path


def _opens(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in FUNCTIONS
    if not isinstance(function, ast.Attribute):
        return False
    of = function.value.id if isinstance(function.value, ast.Name) else ""
    return (function.attr in METHODS and of != "files") or (function.attr in ("load", "read") and of in LOADERS)


def _openers(path: Path) -> Iterator[str]:
    """Names of the functions of a module that open files; "" at its top."""

    def walk(node: ast.AST, name: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, ast.FunctionDef) and not name else name
            if isinstance(child, ast.Call) and _opens(child):
                yield inner
            yield from walk(child, inner)

    return walk(ast.parse(path.read_text()), "")


def test_every_reader_is_known() -> None:
    """A new one goes through avbench.files, or onto the list above with its reason and into the table of readers."""
    sources = sorted(path for folder in ("avbench", "metrics", "tokenizers") for path in (ROOT / folder).rglob("*.py"))
    found = {(str(path.relative_to(ROOT)), name) for path in sources for name in _openers(path)}
    unknown = {(module, name) for module, name in found if not {(module, ""), (module, name)} & KNOWN.keys()}
    assert not unknown
    modules = {module for module, _ in found}
    assert {key for key in KNOWN if key not in found and not (key[1] == "" and key[0] in modules)} == set()
