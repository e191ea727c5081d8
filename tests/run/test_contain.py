"""Plugins that end the process, and what is left of it: the others are listed, a run says why it has no result."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avbench import registry
from avbench.contain import plugin_code
from avbench.errors import AvbenchError
from avbench.run.conform import check_info
from avbench.tokenizer import TokenizerInfo

Command = Callable[..., subprocess.CompletedProcess[str]]

PLUGIN = """
import atexit, os, sys, threading, time
import torch
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

class Honest:
    info = TokenizerInfo(name="honest", revision="1", modalities=frozenset({"video"}))
    def encode(self, batch):
        codes = (batch.video.mean((1, 3, 4)) * 255).round().long()[:, None]
        return Tokens(codes={"video": codes}, vocab_sizes={"video": 256}, duration_s=16 / batch.fps)
    def decode(self, tokens):
        colour = tokens.codes["video"][:, 0, :, None, None] / 255
        return ClipBatch(video=colour[:, None].expand(-1, 16, 3, 128, 128), fps=16 / tokens.duration_s, sample_rate=24_000)

class ExitsWhenMade(Honest):
    def __init__(self): sys.exit(0)

class EndsWhenMade(Honest):
    def __init__(self): os._exit(0)

class ExitsInEncode(Honest):
    def encode(self, batch): sys.exit(0)

class EndsInEncode(Honest):
    def encode(self, batch): os._exit(0)

class EndsInDecode(Honest):
    def decode(self, tokens): os._exit(0)

class StaysBehind(Honest):
    def encode(self, batch):
        print("encoding")
        atexit.register(time.sleep, 3600)
        atexit.register(os._exit, 0)
        threading.Thread(target=time.sleep, args=(3600,)).start()
        return super().encode(batch)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], str]:
    (tmp_path / "exits.py").write_text(PLUGIN)
    return lambda name: f"{tmp_path / 'exits.py'}:{name}"


def run(avbench: Command, name: str, clips: Path) -> subprocess.CompletedProcess[str]:
    return avbench("run", "--tokenizer", name, "--split", f"folder:{clips}", "--metrics", "psnr", "--limit", "2")


@pytest.mark.parametrize("ending", ["sys.exit(0)", "os._exit(0)", "raise KeyError('half')"])
def test_a_plugin_that_exits_when_imported_or_made_is_an_error_that_names_it(tmp_path: Path, ending: str) -> None:
    (tmp_path / "quits.py").write_text(f"import os, sys\n{ending}\n")
    with pytest.raises(AvbenchError, match=r"quits\.py cannot be imported: (SystemExit|KeyError)"):
        registry.load_tokenizer(f"{tmp_path / 'quits.py'}:Any")
    (tmp_path / "made.py").write_text(f"import os, sys\nclass Any:\n    def __init__(self):\n        {ending}\n")
    with pytest.raises(AvbenchError, match=r"made\.py:Any cannot be constructed: (SystemExit|KeyError)"):
        registry.load_tokenizer(f"{tmp_path / 'made.py'}:Any")


def test_a_child_that_a_plugin_forks_may_end() -> None:
    with plugin_code("forking"):
        child = os.fork()
        if child == 0:
            os._exit(7)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_ctrl_c_is_nobodys_failure() -> None:
    with pytest.raises(KeyboardInterrupt), plugin_code("encode failed"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ExitsInEncode", "encode failed: SystemExit: 0"),
        ("EndsInEncode", "encode failed: SystemExit: os._exit(0)"),
        ("EndsInDecode", "decode's process died (exit code 0)"),
    ],
)
def test_an_exit_in_a_run_is_a_failed_clip_and_no_success(
    avbench: Command, plugin: Callable[[str], str], clip_folder: Path, name: str, reason: str
) -> None:
    done = run(avbench, plugin(name), clip_folder)
    assert done.returncode == 3, done.stderr
    assert f"2 of 2 clips failed: {reason}" in " ".join(done.stderr.split())


def test_a_run_without_a_tokenizer_is_no_success(avbench: Command, plugin: Callable[[str], str], clip_folder: Path) -> None:
    done = run(avbench, plugin("EndsWhenMade"), clip_folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be constructed: SystemExit: os._exit(0)" in done.stderr


def test_a_finished_run_ends_whatever_a_plugin_left_running(avbench: Command, plugin: Callable[[str], str], clip_folder: Path) -> None:
    done = run(avbench, plugin("StaysBehind"), clip_folder)  # the fixture's limit is ten minutes, a thread of it sleeps an hour
    assert done.returncode == 0, done.stderr
    assert "encoding" in done.stderr
    assert "encoding" not in done.stdout


def test_plugins_that_end_the_process_silence_no_list_and_no_doctor(avbench: Command, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "quitter-1.0.dist-info").mkdir(parents=True)
    (site / "quitter-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: quitter\nVersion: 1.0\n")
    (site / "quitter-1.0.dist-info" / "entry_points.txt").write_text(
        "[avbench.tokenizers]\nquits = quits:Any\nends = ends:Any\n[avbench.metrics]\nquits_too = quits:Any\n"
    )
    (site / "quits.py").write_text("import sys\nsys.exit(0)\n")
    (site / "ends.py").write_text("import os\nos._exit(0)\n")
    environment = {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)}
    listed = avbench("list", "tokenizers", environment=environment)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count("cannot be imported") == 2
    assert "identity" in listed.stdout
    screen = avbench("doctor", environment=environment)
    assert screen.returncode == 0, screen.stderr
    assert "quitter" in screen.stdout


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parameters": np.int64(5)}, "info.parameters is np.int64"),
        ({"parameters": float("nan")}, "info.parameters is nan"),
        ({"parameters": -1}, "info.parameters is -1"),
        ({"fps": float("nan")}, "info.fps is nan"),
        ({"sample_rate": 24_000.0}, "info.sample_rate is 24000.0; an int"),
        ({"resolution": np.int64(128)}, "info.resolution is np.int64"),
        ({"trained_on": Path("clips")}, "info.trained_on is PosixPath"),
        ({"revision": 1}, "info.revision is 1; one line"),
        ({"name": "a\x1b[31m"}, "info.name is 'a.x1b"),
        ({"name": "two\nlines"}, "info.name is"),
        ({"modalities": ["video"]}, r"info.modalities is \['video'\]"),
        ({"stream_lengths": {"video": 2.5}}, "info.stream_lengths"),
        ({"shipped_generator": "folder"}, "info.shipped_generator"),
    ],
)
def test_facts_that_no_result_could_hold_are_refused_before_any_clip(changes: dict[str, Any], says: str) -> None:
    facts: dict[str, Any] = {"name": "mine", "revision": "1", "modalities": frozenset({"video"})}
    with pytest.raises(AvbenchError, match=says):
        check_info(TokenizerInfo(**facts | changes))


def test_every_tokenizer_that_needs_no_weights_has_facts_that_pass() -> None:
    for name in ("identity", "static-frame+silence", "h264-opus", "mel-vocoder@griffinlim"):
        check_info(registry.load_tokenizer(name).info)
