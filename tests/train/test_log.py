"""log.jsonl and what reads it: damaged lines, other people's files, full disks."""

import json
import subprocess
import sys
from pathlib import Path

from avbench.train.log import Log, read_lines, read_log

LINE = {"kind": "train", "step": 1, "stage": "video", "clips_seen": 8, "losses": {"total": 1.0}}


def test_lines_that_are_damaged_are_counted_and_the_others_read(tmp_path: Path) -> None:
    texts = [json.dumps(LINE), "{", "[1]", "null", '{"stage": 3, "clips_seen": 8}', '{"stage": "video", "clips_seen": 1e400}', "\udcff", ""]
    (tmp_path / "log.jsonl").write_bytes("\n".join(texts).encode("utf-8", "surrogateescape"))
    lines, damaged = read_lines(tmp_path)
    assert (lines, damaged) == ([LINE], 6)  # of the last, empty one there is nothing
    assert read_log(tmp_path) == [LINE]
    assert read_log(tmp_path / "none") == []


def test_a_resumed_log_keeps_what_its_checkpoint_has_seen(tmp_path: Path) -> None:
    steps = [{**LINE, "step": step} for step in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps) + '{"kind": "tr')
    log = Log(tmp_path, step=2, total_clips=8)
    log.write("train", {**LINE, "step": 3, "losses": {"total": float("nan")}})
    log.close()
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3]
    assert read_log(tmp_path)[:2] == steps[:2]


FULL = """
import resource, sys
from pathlib import Path
import torch.utils.tensorboard
from avbench.errors import AvbenchError
from avbench.files import disk_errors
from avbench.train.log import Log

out, size = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    with disk_errors(out, "repeat the command"):
        log = Log(out, step=0, total_clips=10)
        try:
            for step in range(100):
                log.write("train", {"step": step, "stage": "video", "clips_seen": step, "losses": {"total": 1.0}})
        finally:
            log.close()
except AvbenchError as error:
    print(error)
"""


def test_a_full_disk_below_the_log_or_tensorboard_is_told_in_words(tmp_path: Path) -> None:
    """`train` runs under `disk_errors`; TensorBoard writes in a thread, and tells the next call."""
    for size in (60, 2000):
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(tmp_path / str(size)), str(size)], capture_output=True, text=True, timeout=300
        )
        assert "no space left for" in done.stdout, done.stderr
        assert "Traceback" not in done.stderr
