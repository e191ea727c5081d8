"""`avbench validate`: a sound submission passes; each damage is refused with its reason, though its checksums were made to fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from submissions import CARD, edit, edit_rows, submitted

from avbench.board import checks
from avbench.board.recompute import DISTRIBUTIONS, own_metrics
from avbench.board.submission import TEMPLATE, problem_of_id
from avbench.board.submit import seal
from avbench.board.validate import Validation, validate
from avbench.errors import UsageError
from avbench.registry import metric_info
from avbench.run.store import RunStore, read_tokens


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results folder of one sound submission."""
    place = tmp_path_factory.mktemp("sound")
    submitted(place)
    return place


@pytest.fixture
def row(sound: Path, tmp_path: Path) -> Path:
    """The submission's folder, to damage."""
    shutil.copytree(sound / "results", tmp_path / "results")
    (manifest,) = (tmp_path / "results").rglob("manifest.json")
    return manifest.parent


def results_of(row: Path) -> Path:
    return row.parents[2]


def refused(row: Path, **options: Path) -> str:
    """Every reason, a line each."""
    found: Validation = validate(results_of(row), published=row / "none", **options)
    return "\n".join(f"{finding.folder}: {finding.text}" for finding in found.errors)


def value_of(content: dict, name: str) -> dict:
    return next(value for value in content["values"] if value["name"] == name)


def edited_mean(row: Path) -> None:
    edit(row, "result.json", lambda content: value_of(content, "psnr").update(value=99.0))


def edited_clip(row: Path) -> None:
    edit_rows(row, lambda rows: rows[3]["metrics"].update(psnr=60.0))


def swapped_tokens(row: Path) -> None:
    """Of two clips: what their sha256 is of is written anew, too."""
    found = read_tokens(row / "tokens" / "000000.avt")
    first, second = list(found)[:2]
    store = RunStore(row)
    store.save_tokens(0, found | {first: found[second], second: found[first]})
    shutil.rmtree(row / "parts")
    seal(row)


def wrong_checksum(row: Path) -> None:
    path = row / "features.npz"
    path.write_bytes(path.read_bytes() + b"\0")


def path_in_an_id(row: Path) -> None:
    edit_rows(row, lambda rows: rows[0].update(id="../../../etc/passwd"))


def html_in_a_name(row: Path) -> None:
    edit(row, "result.json", lambda content: content["tokenizer"].update(name="<img src=x onerror=alert(1)>"))


def duplicate(row: Path) -> None:
    other = results_of(row) / "better" / "1" / row.name
    shutil.copytree(row, other)
    for file in ("result.json", "manifest.json"):
        edit(other, file, lambda content: content["tokenizer"].update(name="better"))


def missing_card(row: Path) -> None:
    (row / "card.yaml").unlink()
    seal(row)


def newer_schema(row: Path) -> None:
    edit(row, "manifest.json", lambda content: content.update(schema=2))


def other_protocol(row: Path) -> None:
    edit(row, "result.json", lambda content: content.update(protocol=content["protocol"].replace("128x128", "64x64")))


DAMAGES: dict[Callable[[Path], None], str] = {
    edited_mean: "psnr is 99 ",
    edited_clip: "of its clips it is",
    swapped_tokens: "2 clips: bits_per_s of the row is another than its bytes say",
    wrong_checksum: "features.npz is not the file that was submitted",
    path_in_an_id: "the clip id '../../../etc/passwd' is a path out of its folder",
    html_in_a_name: "tokenizer's name '<img src=x onerror=alert(1)>' has mark-up",
    duplicate: "is there twice: it has the kept bytes of better/1/",
    missing_card: "card.yaml is missing",
    newer_schema: "schema 2 is newer than 1: pip install -U avbench",
    other_protocol: "another protocol than that of arcade-mini",
}


def test_a_sound_submission_passes_and_everything_in_it_is_checked(sound: Path) -> None:
    found = validate(sound / "results", published=sound / "none")
    assert found.num_rows == 1
    assert found.findings == ()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_submission_is_refused_with_the_reason(row: Path, damage: Callable[[Path], None]) -> None:
    damage(row)
    assert DAMAGES[damage] in refused(row)


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an interval": (
        lambda row: edit(row, "result.json", lambda c: value_of(c, "psnr").update(ci_low=value_of(c, "psnr")["value"] - 0.01)),
        "of its clips it is",
    ),
    "a value that is hidden": (
        lambda row: edit(row, "result.json", lambda c: value_of(c, "lpips").update(value=None, reason="n/a")),
        "lpips is n/a, and its clips have values",
    ),
    "a value without rows": (
        lambda row: edit(row, "result.json", lambda c: c["values"].append(value_of(c, "psnr") | {"name": "ssim"})),
        "ssim is",
    ),
    "a distribution metric": (
        lambda row: edit(row, "result.json", lambda c: value_of(c, "codebook_use").update(value=0.99)),
        "codebook_use is 0.99",
    ),
    "a failed clip that is not counted": (lambda row: edit_rows(row, lambda rows: rows[0].update(status="failed")), "num_ok is 12"),
    "a clip left out": (lambda row: edit_rows(row, lambda rows: rows.pop()), "num_clips is 12, clips.jsonl.gz has 11"),
    "another clip": (lambda row: edit_rows(row, lambda rows: rows[0].update(id="arcade-test/pong/0007")), "its clips are not the 12"),
    "another split checksum": (
        lambda row: [edit(row, f, lambda c: c["split"].update(checksum="0" * 64)) for f in ("result.json", "manifest.json")],
        "another split checksum than that of arcade-mini",
    ),
    "a card that is not filled in": (
        lambda row: [(row / "card.yaml").write_text(TEMPLATE), seal(row)],
        "card.yaml: who is not filled in; contact is not filled in",
    ),
    "a pledge of one's own": (
        lambda row: [(row / "card.yaml").write_text(CARD.replace("pledge: The", "pledge: Maybe the")), seal(row)],
        "pledge does not say",
    ),
    "a card of aliases": (lambda row: [(row / "card.yaml").write_text("a: &a [1]\nb: [*a, *a]\n"), seal(row)], "unknown keys a, b"),
    "a foreign file": (lambda row: [(row / "setup.py").write_text("x"), seal(row)], "'setup.py' belongs to no submission"),
    "a link": (lambda row: [(row / "tokens.sha256").symlink_to("/etc/passwd"), seal(row)], "'tokens.sha256' is a link"),
    "a file above the rows": (lambda row: (results_of(row) / "x.py").write_text(""), "'x.py': belongs to no submission"),
    "one process": (lambda row: edit(row, "manifest.json", lambda c: c.update(isolated=False)), "isolated: false"),
    "another folder": (
        lambda row: row.rename(row.with_name("arcade-test_avtok")),
        "its folder should be codec/1/arcade-mini_avtok_first-12",
    ),
    "no JSON": (lambda row: [(row / "result.json").write_text("{"), seal(row)], "result.json is damaged"),
    "a bomb": (lambda row: [(row / "clips.jsonl.gz").write_bytes(b"\x1f\x8b\x08\0garbage"), seal(row)], "clips.jsonl.gz"),
    "text for a schema": (lambda row: edit(row, "manifest.json", lambda c: c.update(schema="1")), "schema is '1', not 1"),
    "newer intervals": (lambda row: edit(row, "result.json", lambda c: c.update(intervals=99)), "intervals are of version 99"),
    "missing bytes": (lambda row: [(row / "tokens" / "000001.avt").unlink(), seal(row)], "4 of 12 are missing"),
    "a mark that is none": (lambda row: edit(row, "manifest.json", lambda c: c.update(verified=True)), '"verified" is none'),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_else_is_refused(row: Path, what: str) -> None:
    damage, reason = OTHERS[what]
    damage(row)
    assert reason in refused(row)


def test_a_pull_request_can_neither_add_a_mark_nor_change_a_row_that_has_one(row: Path, sound: Path) -> None:
    mark = dict.fromkeys(checks.VERIFIED, "x")
    edit(row, "manifest.json", lambda content: content.update(verified=mark))
    assert refused(row) == ""
    assert '"verified" is added' in refused(row, base=sound / "results")
    shutil.copytree(results_of(row), row.parents[3] / "before")
    assert refused(row, base=row.parents[3] / "before") == ""
    edit_rows(row, lambda rows: rows[0].update(label="another"))
    assert "a verified row is changed" in refused(row, base=row.parents[3] / "before")


def test_another_protocol_than_the_others_of_a_split_is_refused_where_no_machine_knows_the_split(tmp_path: Path) -> None:
    rows = [submitted(tmp_path, name, seed=number) for number, name in enumerate("abc")]
    for number, row in enumerate(rows):
        for file in ("result.json", "manifest.json"):
            edit(row, file, lambda content: content["split"].update(name="theirs"))
        if number == 2:
            edit(row, "result.json", lambda content: content.update(protocol="16x64x64 frames"))
        word = json.loads((row / "result.json").read_text())["protocol"]
        row.rename(row.with_name(f"theirs_{'9e1f7c6f' if word == '16x64x64 frames' else 'avtok'}_first-12"))
    text = refused(rows[0])
    assert "c/1/theirs" in text


def test_one_row_can_be_checked_alone_and_a_folder_without_rows_says_what_to_do(row: Path, tmp_path: Path) -> None:
    assert validate(row, published=row / "none").findings == ()
    with pytest.raises(UsageError, match="avbench submit"):
        validate(tmp_path / "empty")


def test_distribution_metrics_are_those_whose_class_says_so() -> None:
    declared = {name for name in own_metrics() if not metric_info(name).per_clip}
    assert declared == DISTRIBUTIONS


def test_ids_that_are_names_of_clips_are_no_paths() -> None:
    assert problem_of_id("arcade-test/pong/0001") is None
    assert problem_of_id("a b/ü..mp4") is None
    for wrong in ("/etc/passwd", "a/../b", "C:x", "a\\b", "a\x1b[2J", "<b>", ""):
        assert problem_of_id(wrong), wrong
