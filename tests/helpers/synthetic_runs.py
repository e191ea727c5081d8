"""Finished runs that were never run: result.json files for the tests of the tables."""

import json


def metric(name, value, *, half=None, clips=101, protocol="p", reason=None):
    bounds = (None, None) if half is None else (value - half, value + half)
    return {
        "name": name,
        "value": value,
        "ci_low": bounds[0],
        "ci_high": bounds[1],
        "num_clips": clips,
        "num_failed": 0,
        "protocol": protocol,
        "reason": reason,
    }


def content(name="codec", metrics=(), *, kind="classical", clips=101, failed=0, finished="2026-11-23T20:00:00+00:00", **changes):
    result = {
        "run_id": changes.pop("run_id", f"id-{name[:20]}"),
        "spec": {"tokenizer": name, "split": "arcade-mini", "task": "reconstruct", "checkpoint": None},
        "tokenizer": {"name": name, "revision": "r1", "kind": kind, "trained_on": "nothing"},
        "split": {"name": "arcade-mini", "checksum": "c0ffee", "num_clips": clips, "num_official": 101, "note": ""},
        "protocol": "16x128x128 frames",
        "num_clips": clips,
        "num_ok": clips - failed,
        "num_failed": failed,
        "finished": finished,
        "values": list(metrics),
        "cost": [],
    }
    for path, value in changes.items():
        section, _, key = path.rpartition("__")
        (result[section] if section else result)[key] = value
    return result


def save(runs_dir, *contents):
    for number, result in enumerate(contents):
        folder = runs_dir / f"{number:02d}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return runs_dir


def rows_of(table, group=0):
    return {row.label: row for row in table.groups[group].rows}
