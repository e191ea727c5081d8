"""What a finished run's result may be shown for, and what it says of failures."""

from types import SimpleNamespace
from typing import Any

from avbench import stats
from avbench.run import summary
from avbench.run.store import ClipRow


class Metrics(dict[str, Any]):
    """As much of a run's metrics as `holds` looks at."""

    unavailable: dict[str, str] = {"fvd": "no video"}  # noqa: RUF012


def test_a_result_whose_intervals_were_made_otherwise_is_made_again_from_its_rows() -> None:
    context: Any = SimpleNamespace(metrics=Metrics(psnr=None))
    values = [{"name": "psnr"}, {"name": "fvd"}]
    assert summary.holds({"values": values, "intervals": stats.VERSION}, context)
    assert not summary.holds({"values": values, "intervals": stats.VERSION - 1}, context)
    assert not summary.holds({"values": values}, context)
    assert not summary.holds({"values": values[:1], "intervals": stats.VERSION}, context)


def test_failures_are_grouped_by_reason_the_most_frequent_first_and_the_rest_together() -> None:
    reasons = ["no audio stream"] * 3 + ["NaN"] * 5 + [f"odd {number}" for number in range(20)] + [None]
    rows = [ClipRow(id=str(number), label=None, status="failed", reason=reason) for number, reason in enumerate(reasons)]
    found = summary._reasons([*rows, ClipRow(id="fine", label=None, status="ok")])
    assert list(found.items())[:2] == [("NaN", 5), ("no audio stream", 3)]
    assert len(found) == summary.MAX_REASONS + 1
    assert found["13 other reasons (clips.jsonl)"] == 13
    assert sum(found.values()) == len(reasons)
