"""The whole line on a small folder of clips, through the command line: results, failures, kills, several processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
TOY = f"{Path(__file__).parents[1] / 'toy_plugin' / 'block_mean.py'}:BlockMean"
FAST = "psnr,si_sdr,bits_per_s"

MISBEHAVING = """
import os, signal
from pathlib import Path
import torch
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

class Honest:
    info = TokenizerInfo(name="bad", revision="1", modalities=frozenset({"video"}))
    def encode(self, batch):
        codes = (batch.video[:, :, :, ::16, ::16] * 255).round().long().reshape(len(batch), 1, -1)
        return Tokens(codes={"video": codes}, vocab_sizes={"video": 256}, duration_s=4.096)
    def decode(self, tokens):
        small = tokens.codes["video"].reshape(-1, 3, 8, 8) / 255
        video = small.repeat_interleave(16, 2).repeat_interleave(16, 3).unflatten(0, (-1, 16))
        return ClipBatch(video=video, fps=16 / 4.096, sample_rate=24_000)

class Raises(Honest):
    def encode(self, batch):
        if any(name.endswith("3.mp4") for name in batch.ids):
            raise RuntimeError("cannot read this one")
        return super().encode(batch)

class NotANumber(Honest):
    def encode(self, batch):
        tokens = super().encode(batch)
        tokens.codes["video"][[name.endswith("1.mp4") for name in batch.ids]] = 255
        return tokens
    def decode(self, tokens):
        recon = super().decode(tokens)
        recon.video[(tokens.codes["video"] == 255).all(2)[:, 0]] = float("nan")
        return recon

class OutOfRange(Honest):
    def encode(self, batch):
        tokens = super().encode(batch)
        return Tokens(codes=tokens.codes, vocab_sizes={"video": 16}, duration_s=4.096)

class WritesIntoItsInput(Honest):
    def encode(self, batch):
        tokens = super().encode(batch)
        batch.video.zero_()
        return tokens

class DiesOnce(Honest):
    def encode(self, batch):
        marker = Path(os.environ["MARKER"])
        if any(name.endswith("2.mp4") for name in batch.ids) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(batch)

class FailsOnce(Honest):
    def encode(self, batch):
        marker = Path(os.environ["MARKER"])
        if any(name.endswith("2.mp4") for name in batch.ids) and not marker.exists():
            raise RuntimeError("not today")
        return super().encode(batch)
"""


@pytest.fixture
def bad(tmp_path: Path) -> Callable[[str], str]:
    """A misbehaving tokenizer by class name."""
    (tmp_path / "bad.py").write_text(MISBEHAVING)
    return lambda name: f"{tmp_path / 'bad.py'}:{name}"


def folder_of(done: subprocess.CompletedProcess[str], cwd: Path) -> Path:
    return cwd / done.stdout.strip().splitlines()[-1]


def result_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def values_of(folder: Path) -> dict[str, Any]:
    return {value["name"]: value for value in result_of(folder)["values"]}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]


def numbers(folder: Path) -> tuple[Any, ...]:
    """Everything that two runs of the same inputs must share, bit for bit."""
    return rows_of(folder), result_of(folder)["values"]


def test_identity_is_perfect_and_every_file_is_there(avbench: Command, clip_folder: Path, tmp_path: Path) -> None:
    done = avbench("run", "--tokenizer", "identity", "--split", f"folder:{clip_folder}", "--metrics", "psnr,ssim,si_sdr,mr_stft")
    assert done.returncode == 0, done.stderr
    folder = folder_of(done, tmp_path)
    values = values_of(folder)
    assert (values["psnr"]["value"], values["si_sdr"]["value"]) == (100.0, 100.0)
    assert values["ssim"]["value"] == pytest.approx(1)
    assert values["mr_stft"]["value"] == pytest.approx(0, abs=1e-5)
    assert {row["status"] for row in rows_of(folder)} == {"ok"}
    assert {row["label"] for row in rows_of(folder)} == {"circle", "square"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"spec", "versions", "git_commit", "hardware", "split", "metrics", "metric_keys", "identity"} <= set(manifest)


def test_a_video_only_tokenizer_has_na_with_a_reason_for_audio(avbench: Command, clip_folder: Path, tmp_path: Path) -> None:
    done = avbench("run", "--tokenizer", TOY, "--split", f"folder:{clip_folder}", "--metrics", FAST)
    assert done.returncode == 0, done.stderr
    values = values_of(folder_of(done, tmp_path))
    assert values["si_sdr"]["value"] is None
    assert values["si_sdr"]["reason"] == "block-mean has no audio"
    assert values["bits_per_s"]["value"] == pytest.approx(3072 * 5 / 4.096)
    assert values["psnr"]["ci_low"] < values["psnr"]["value"] < values["psnr"]["ci_high"]


def test_a_clip_on_which_the_tokenizer_raises_is_a_row_and_its_neighbours_stand(
    avbench: Command, clip_folder: Path, tmp_path: Path, bad: Callable[[str], str]
) -> None:
    done = avbench("run", "--tokenizer", bad("Raises"), "--split", f"folder:{clip_folder}", "--metrics", FAST)
    assert done.returncode == 3, done.stderr
    rows = rows_of(folder_of(done, tmp_path))
    failed = [row for row in rows if row["status"] == "failed"]
    assert [row["id"].rpartition("/")[2] for row in failed] == ["3.mp4"]
    assert failed[0]["reason"] == "encode failed: RuntimeError: cannot read this one"
    honest = avbench("run", "--tokenizer", bad("Honest"), "--split", f"folder:{clip_folder}", "--metrics", FAST)
    expected = {row["id"]: row["metrics"]["psnr"] for row in rows_of(folder_of(honest, tmp_path))}
    for row in rows:
        if row["status"] == "ok":
            assert row["metrics"]["psnr"] == pytest.approx(expected[row["id"]], abs=1e-4)


def test_nan_from_a_tokenizer_fails_its_clips_only(avbench: Command, clip_folder: Path, tmp_path: Path, bad: Callable[[str], str]) -> None:
    done = avbench("run", "--tokenizer", bad("NotANumber"), "--split", f"folder:{clip_folder}", "--metrics", "psnr")
    assert done.returncode == 3, done.stderr
    failed = [row for row in rows_of(folder_of(done, tmp_path)) if row["status"] == "failed"]
    assert [row["id"].rpartition("/")[2] for row in failed] == ["1.mp4"]
    assert "NaN" in failed[0]["reason"]


def test_codes_out_of_range_are_a_reason_that_names_them(
    avbench: Command, clip_folder: Path, tmp_path: Path, bad: Callable[[str], str]
) -> None:
    done = avbench("run", "--tokenizer", bad("OutOfRange"), "--split", f"folder:{clip_folder}", "--metrics", "psnr")
    assert done.returncode == 3, done.stderr
    folder = folder_of(done, tmp_path)
    assert result_of(folder)["num_failed"] == 5
    assert "16" in rows_of(folder)[0]["reason"]
    assert values_of(folder)["psnr"]["value"] is None


def test_a_tokenizer_that_writes_into_its_input_is_measured_against_the_clip(
    avbench: Command, clip_folder: Path, tmp_path: Path, bad: Callable[[str], str]
) -> None:
    runs = [
        avbench("run", "--tokenizer", bad(n), "--split", f"folder:{clip_folder}", "--metrics", "psnr")
        for n in ("Honest", "WritesIntoItsInput")
    ]
    honest, writing = (values_of(folder_of(done, tmp_path))["psnr"]["value"] for done in runs)
    assert writing == honest


def test_a_killed_run_resumes_to_the_numbers_of_an_uninterrupted_one(
    avbench: Command, clip_folder: Path, tmp_path: Path, bad: Callable[[str], str]
) -> None:
    arguments = ("run", "--tokenizer", bad("DiesOnce"), "--split", f"folder:{clip_folder}", "--metrics", "psnr,fvd", "--batch-size", "1")
    environment = {"MARKER": str(tmp_path / "marker")}
    killed = avbench(*arguments, environment=environment)
    assert killed.returncode == -9
    unfinished = next((tmp_path / "runs").iterdir())
    assert not (unfinished / "result.json").exists()
    assert 0 < len(rows_of(unfinished)) < 5
    resumed = avbench(*arguments, environment=environment)
    assert resumed.returncode == 0, resumed.stderr
    whole = avbench(*arguments, "--runs-dir", "whole", environment=environment)
    assert numbers(folder_of(resumed, tmp_path)) == numbers(folder_of(whole, tmp_path))


def test_a_failed_clip_is_tried_again_by_the_same_command(
    avbench: Command, clip_folder: Path, tmp_path: Path, bad: Callable[[str], str]
) -> None:
    arguments = ("run", "--tokenizer", bad("FailsOnce"), "--split", f"folder:{clip_folder}", "--metrics", "psnr")
    environment = {"MARKER": str(tmp_path / "marker")}
    first = avbench(*arguments, environment=environment)
    assert first.returncode == 3
    (tmp_path / "marker").touch()
    second = avbench(*arguments, environment=environment)
    assert second.returncode == 0
    assert folder_of(first, tmp_path) == folder_of(second, tmp_path)
    assert result_of(folder_of(second, tmp_path))["num_failed"] == 0


def test_two_runs_of_the_same_id_at_once_end_in_the_same_numbers(clip_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avbench", "run", "--tokenizer", TOY, "--split", f"folder:{clip_folder}", "--metrics", "psnr"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    folders = {output.strip().splitlines()[-1] for output in outputs}
    assert len(folders) == 1
    assert len(rows_of(tmp_path / folders.pop())) == 5


def test_two_processes_give_the_one_process_numbers(avbench: Command, clip_folder: Path, tmp_path: Path) -> None:
    arguments = ["run", "--tokenizer", TOY, "--split", f"folder:{clip_folder}", "--metrics", "psnr,ssim,bits_per_s", "--batch-size", "2"]
    single = avbench(*arguments)
    assert single.returncode == 0, single.stderr
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "avbench",
        *arguments,
        "--runs-dir",
        "two",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    double = subprocess.run(launch, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert double.returncode == 0, double.stderr
    assert double.stdout.count("two/") == 1  # one process prints
    assert numbers(folder_of(single, tmp_path)) == numbers(folder_of(double, tmp_path))


def test_samples_are_playable_pictures_with_sound(avbench: Command, clip_folder: Path, tmp_path: Path) -> None:
    import av

    arguments = ("run", "--tokenizer", "identity", "--split", f"folder:{clip_folder}", "--metrics", "psnr", "--save-samples", "2")
    avbench(*arguments[:-2])
    done = avbench(*arguments)  # asked for after the run is complete
    assert done.returncode == 0, done.stderr
    movies = sorted((folder_of(done, tmp_path) / "samples").glob("*.mp4"))
    assert len(movies) == 2
    assert all((movie.with_suffix("") / f"{side}.png").stat().st_size > 1000 for movie in movies for side in ("reference", "recon"))
    with av.open(str(movies[0])) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (512, 256)
        assert container.streams.audio[0].channels == 2
        assert sum(1 for _ in container.decode(video=0)) == 16


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "--tokenizer", "identitty", "--split", "arcade-mini"), 2, 'did you mean "identity"'),
        (("run", "--tokenizer", "identity", "--split", "arcade-minni"), 2, 'did you mean "arcade-mini"'),
        (("run", "--tokenizer", "identity", "--split", "arcade-mini", "--metrics", "pnsr"), 2, 'did you mean "psnr"'),
        (("run", "--tokenizer", "identity"), 2, "--split"),
        (("run", "--tokenizer", "identity", "--split", "arcade-mini", "--task", "a2v"), 1, "avbench train ar-mini"),
        (("runn",), 2, "runn"),
        (("compare", "nowhere", "nowhere"), 1, "nowhere"),
    ],
)
def test_a_wrong_argument_says_what_is_wrong(avbench: Command, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = avbench(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_limit_makes_a_group_of_its_own(avbench: Command, clip_folder: Path, tmp_path: Path) -> None:
    for limit in ((), ("--limit", "2")):
        avbench("run", "--tokenizer", TOY, "--split", f"folder:{clip_folder}", "--metrics", "psnr", *limit)
    table = json.loads(avbench("table", "--format", "json", "--no-reported").stdout)
    assert json.dumps(table).count("block-mean") >= 2
    text = avbench("table", "--no-reported").stdout
    assert "5 clips" in text
    assert "2 clips" in text


def test_broken_files_are_rows_with_reasons_and_the_rest_stands(avbench: Command, clip_folder: Path, tmp_path: Path) -> None:
    whole = (clip_folder / "circle" / "0.mp4").read_bytes()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "good.mp4").write_bytes(whole)
    (broken / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (broken / "text.mp4").write_text("not a video at all\n" * 100)
    (broken / "empty.mp4").touch()
    done = avbench("run", "--tokenizer", TOY, "--split", f"folder:{broken}", "--metrics", "psnr")
    assert done.returncode == 3, done.stderr
    rows = {row["id"]: row for row in rows_of(folder_of(done, tmp_path))}
    assert rows["good.mp4"]["status"] == "ok"
    failed = {name: row["reason"] for name, row in rows.items() if row["status"] == "failed"}
    assert set(failed) == {"truncated.mp4", "text.mp4", "empty.mp4"}
    assert all(failed.values())
    assert result_of(folder_of(done, tmp_path))["num_failed"] == 3
    assert "1/4" in avbench("table", "--no-reported").stdout
