"""`avbench submit`: what is written, what is left out, and what is refused."""

import gzip
import hashlib
import json
import socket
from pathlib import Path

import pytest
from submissions import CARD, finished_run, submitted

from avbench.board import submit as module
from avbench.board.submission import place_of
from avbench.board.submit import packed, submit, without_paths
from avbench.errors import AvbenchError, UsageError
from avbench.run.finished import read_clips


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_submission_has_its_files_and_the_runs_numbers_byte_for_byte(tmp_path: Path) -> None:
    folder = submitted(tmp_path)
    assert folder == tmp_path / "results" / "codec" / "1" / "arcade-mini_avtok_first-12"
    run, found = tmp_path / "run-codec", files_of(folder)
    tokens = {f"tokens/{name}" for name in ("000000.avt", "000001.avt", "format")}
    assert found.keys() == {"result.json", "manifest.json", "clips.jsonl.gz", "features.npz", "card.yaml", *tokens}
    assert found["result.json"] == (run / "result.json").read_bytes()
    assert gzip.decompress(found["clips.jsonl.gz"]) == (run / "clips.jsonl").read_bytes()
    assert read_clips(folder) == read_clips(run)
    sums = json.loads(found["manifest.json"])["checksums"]
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in found.items() if name != "manifest.json"}


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first = files_of(submitted(tmp_path))
    assert files_of(submitted(tmp_path)) == first
    assert packed(b"x") == packed(b"x")


def test_no_path_and_no_name_of_a_machine_or_user_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_private_names", lambda: iter(["alices-laptop", "alice"]))
    run = finished_run(tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest |= {"unavailable": {"x": "weights are in /home/alice/w, alice"}, "verified": {"by": "me"}, "hardware": {"n": "alices-laptop"}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "card.yaml").write_text(CARD)
    folder = submit(run, tmp_path / "results", card=tmp_path / "card.yaml").folder
    text = (folder / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert "alice" not in text
    assert "verified" not in text
    assert '"command": "avbench run --tokenizer mine.py:Codec --split arcade-mini"' in text
    assert socket.gethostname() not in json.loads(text)["command"].split()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("avbench run --split folder:/home/u/clips?res=64", "avbench run --split folder:clips?res=64"),
        ("/a/larp+/b/wav", "larp+wav"),
        ("../../secret/x", "secret/x"),
        ("~/models/x.py:Codec", "x.py:Codec"),
        ("C:\\Users\\bob\\x.pt y", "x.pt y"),
        ("--x=/home/u/y", "--x=y"),
        ("FileNotFoundError: '/tmp/abc/de.mp4'", "FileNotFoundError: 'de.mp4'"),
        *((same, same) for same in ("https://github.com/a/b.pt", "hop 120/240/50, n/a and/or bits/s", "a / b", "out/larp")),
    ],
)  # fmt: skip
def test_a_path_keeps_its_last_part(text: str, clean: str) -> None:
    assert without_paths({"k": [text]}) == {"k": [clean]}


def test_what_is_too_large_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOKENS_BYTES", 10)
    monkeypatch.setattr(module, "MAX_FEATURES_BYTES", 10)
    folder = submitted(tmp_path)
    assert not (folder / "tokens").exists()
    lines = (folder / "tokens.sha256").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["000000.avt", "000001.avt", "format"]
    kept = json.loads((folder / "manifest.json").read_text())["kept"]
    assert kept["tokens"] == "tokens.sha256"
    assert kept["features"].startswith("left out: ")
    done = submit(tmp_path / "run-codec", tmp_path / "results", card=tmp_path / "card.yaml")
    assert done.replaced
    assert any("cannot be recomputed by others" in note for note in done.notes)
    assert any("first 12 clips only" in note for note in done.notes)


def test_a_run_that_is_not_finished_or_not_isolated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match="not finished"):
        submit(tmp_path / "none", tmp_path / "results")
    run = finished_run(tmp_path / "run", isolated=False)
    with pytest.raises(AvbenchError, match="isolated: false"):
        submit(run, tmp_path / "results")


def test_without_a_card_a_template_is_written_that_must_be_filled_in(tmp_path: Path) -> None:
    run, card = finished_run(tmp_path / "run"), tmp_path / "card.yaml"
    with pytest.raises(UsageError, match="fill in who, contact, trained_on, licence and link"):
        submit(run, tmp_path / "results", card=card)
    with pytest.raises(UsageError, match="who is not filled in"):
        submit(run, tmp_path / "results", card=card)
    assert not (tmp_path / "results").exists()


def test_places_are_safe_bounded_and_different_for_different_content() -> None:
    result = {
        "tokenizer": {"name": "../../x" * 20, "revision": "a/b"},
        "split": {"name": "folder:../my clips?res=64"},
        "spec": {"task": "av", "limit": 8, "seed": 3},
        "protocol": "other",
    }
    place = place_of(result, {})
    assert len(place.parts) == 3
    assert all(len(part) < 160 and not part.startswith(".") for part in place.parts)
    assert place.parts[1:] == ("a-b", "av_folder-..-my-clips_res-64_first-8_seed-3")
    one, two = (place_of(result, {"identity": {"tokenizer": {"plugin": code}}}) for code in ("1", "2"))
    assert one.parts[0] == two.parts[0]
    assert one.parts[1] != two.parts[1]
