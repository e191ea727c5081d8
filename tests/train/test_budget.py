"""avbench.train.budget: runs of so many seconds, every stage annealed to its end."""

import time
from collections import Counter
from pathlib import Path

import pytest
from tiny_avtok import tiny

from avbench.errors import UsageError
from avbench.tokenizers.avtok.checkpoint import load_checkpoint
from avbench.train.budget import Budget, Clock
from avbench.train.log import read_log
from avbench.train.loop import Watch, train


class Told(Watch):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.exports: list[str] = []

    def evaluated(self, stage: str, values: dict[str, float]) -> None:
        self.stages.append(stage)

    def exported(self, out: Path) -> None:
        self.exports.append(load_checkpoint(out).provenance["stage"])


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, test_cache: Path) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))


def test_a_stage_gets_its_share_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(100.0, (6.0, 1.0, 3.0))
    clock.begin_stage(0)
    now[0] += 30
    assert (clock.run, clock.stage) == pytest.approx((0.3, 0.5))
    now[0] += 50  # 20 s late
    assert clock.stage == 1
    clock.begin_stage(1)
    now[0] += 2.5
    assert clock.stage == pytest.approx(0.5)  # of a quarter of the 20 s that are left
    now[0] += 100
    assert (clock.run, clock.stage) == (1, 1)
    clock.begin_stage(2)
    assert clock.stage == 1


@pytest.mark.slow
def test_a_run_of_seconds_goes_through_all_stages_to_the_end_of_their_rates(tmp_path: Path, clip_folder: Path) -> None:
    told = Told()
    begin = time.monotonic()
    budget = Budget(seconds=6.0, shares=(2.0, 1.0, 1.0))
    done = train(tiny(), split=f"folder:{clip_folder}", out=tmp_path / "run", device="cpu", budget=budget, on_device=True, watch=told)
    assert time.monotonic() - begin < 60
    assert done.finished
    lines = [line for line in read_log(tmp_path / "run") if line["kind"] == "train"]
    last = {line["stage"]: line for line in lines}
    assert list(last) == ["video", "audio", "decode"]
    steps = Counter(line["stage"] for line in lines)
    assert all(line["rate"] < 0.1 for line in last.values() if steps[line["stage"]] >= 6)  # a busy machine takes a stage in a step or two
    assert done.clips_seen == lines[-1]["clips_seen"] == 2 * lines[-1]["step"]
    assert told.exports[-1] == "decode"
    assert {"video", "audio", "decode"} == set(told.stages)
    assert load_checkpoint(tmp_path / "run").provenance["seconds"] == 6.0
    assert not (tmp_path / "run" / "state.pt").exists()


@pytest.mark.slow
def test_an_objection_stops_the_run_and_a_run_in_clips_is_not_gone_on_with(tmp_path: Path, clip_folder: Path) -> None:
    class Objects(Watch):
        def evaluated(self, stage: str, values: dict[str, float]) -> None:
            raise RuntimeError("worse than its start")

    where = {"split": f"folder:{clip_folder}", "out": tmp_path, "device": "cpu"}
    with pytest.raises(RuntimeError, match="worse"):
        train(tiny(), **where, budget=Budget(seconds=60.0), watch=Objects())
    (tmp_path / "state.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="holds a run in clips"):
        train(tiny(), **where, budget=Budget(seconds=1.0))
