"""Between encode and decode there is nothing but bytes: tokenizers that try to pass more, that die, hang or answer nonsense."""

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from honest_plugin import HONEST

from avbench.data import splits
from avbench.errors import AvbenchError
from avbench.run import payload
from avbench.run.conform import check_info, conform
from avbench.run.evaluate import Run, evaluate
from avbench.run.store import RunStore
from avbench.run.worker import CannotLoad, Worker
from avbench.switches import Switches
from avbench.task import DecoderSpec
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, RunSpec, Tokens

PLUGINS = (
    HONEST
    + '''
import os, signal, sys, time
from pathlib import Path

SEEN = {}

class RemembersInSelf(OneBit):
    def encode(self, batch):
        self.seen = batch.video.clone()
        return super().encode(batch)
    def decode(self, tokens):
        return ClipBatch(video=self.seen, fps=16 / tokens.duration_s, sample_rate=24_000)

class RemembersInTheModule(OneBit):
    def encode(self, batch):
        SEEN["clips"] = batch.video.clone()
        return super().encode(batch)
    def decode(self, tokens):
        return ClipBatch(video=SEEN["clips"], fps=16 / tokens.duration_s, sample_rate=24_000)

class RemembersInTheEnvironment(OneBit):
    def encode(self, batch):
        os.environ["SEEN"] = batch.video[0].half().numpy().tobytes().hex()[:1000]
        return super().encode(batch)
    def decode(self, tokens):
        os.environ["SEEN"]

class GreyIfItForgot(RemembersInSelf):
    """Honest about one bit where it cannot cheat: it is then measured as what a bit is worth."""
    seen = None
    def decode(self, tokens):
        video = self.seen if self.seen is not None else torch.full((len(tokens), 16, 3, 128, 128), 0.5)
        return ClipBatch(video=video, fps=16 / tokens.duration_s, sample_rate=24_000)

class LongDuration(Honest):
    """Claims that a clip lasts a thousand times as long: bits a second fall by a thousand."""
    def encode(self, batch):
        tokens = super().encode(batch)
        return Tokens(codes=tokens.codes, vocab_sizes=tokens.vocab_sizes, duration_s=4096.0)

class Dies(Honest):
    def decode(self, tokens):
        if (tokens.codes["video"] == DEADLY).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(tokens)
    def encode(self, batch):
        tokens = super().encode(batch)
        tokens.codes["video"].clamp_(max=62)
        tokens.codes["video"][[name.endswith("1.mp4") for name in batch.ids]] = DEADLY
        return tokens

DEADLY = 63

class Hangs(Honest):
    def decode(self, tokens):
        time.sleep(600)

class Exits(Honest):
    def decode(self, tokens):
        raise SystemExit(3)

class Prints(Honest):
    def decode(self, tokens):
        print('{"parts": {}}' * 1000, flush=True)
        return super().decode(tokens)

class WritesIntoTheSocket(Honest):
    def decode(self, tokens):
        os.write(int(sys.argv[1]), b"x" * 100)
        return super().decode(tokens)

class Huge(Honest):
    """Twelve gigabytes, once they are sent."""
    def decode(self, tokens):
        return ClipBatch(video=torch.zeros(1).expand(3_000, 1_000, 1_000), fps=3.9, sample_rate=24_000)

class LongSound(Honest):
    info = TokenizerInfo(name="long", revision="1", modalities=frozenset({"audio"}), kind="classical")
    def decode(self, tokens):
        return ClipBatch(audio=torch.zeros(1).expand(len(tokens), 1, 10**9), fps=3.9, sample_rate=24_000)

class SomewhatLong(LongSound):
    def decode(self, tokens):
        return ClipBatch(audio=torch.zeros(len(tokens), 1, 100_000), fps=3.9, sample_rate=24_000)

class HangsInEncode(Honest):
    def encode(self, batch):
        while any(name.endswith("1.mp4") for name in batch.ids):
            try:
                time.sleep(1)
            except Exception:
                pass
        return super().encode(batch)

class TellsByTheVocab(Honest):
    """A number of each clip stands in the header, where no bit is counted."""
    def encode(self, batch):
        tokens = super().encode(batch)
        return Tokens(codes=tokens.codes, vocab_sizes={"video": 64 + int(batch.video.mean() * 1000)}, duration_s=tokens.duration_s)

class LoadsOnce:
    """Cannot be made a second time."""
    def __new__(cls):
        marker = Path(os.environ["MARKER"])
        if marker.exists():
            raise RuntimeError("only once")
        marker.touch()
        return Honest()

class LeavesItsSwitches(Honest):
    def __init__(self):
        torch.autocast("cpu", torch.bfloat16).__enter__()
        torch.set_default_dtype(torch.float64)
    def encode(self, batch):
        tokens = super().encode(batch)
        assert torch.is_autocast_enabled("cpu") and torch.get_default_dtype() == torch.float64  # its own are there again
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(5)
        torch.set_num_threads(3)
        return tokens
'''
)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_cache: Path) -> str:
    (tmp_path / "cheats.py").write_text(PLUGINS)
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "cheats.py")


def run(plugin: str, name: str, clips: Path, metrics: str = "psnr", batch_size: int = 8, **options: Any) -> Run:
    spec = RunSpec(tokenizer=f"{plugin}:{name}", split=f"folder:{clips}", metrics=tuple(metrics.split(",")), limit=4, batch_size=batch_size)
    return evaluate(spec, **options)


def rows(done: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (done.folder / "clips.jsonl").open()]


def value(done: Run, name: str = "psnr") -> Any:
    return next(value["value"] for value in done.result["values"] if value["name"] == name)


@pytest.mark.parametrize("name", ["RemembersInSelf", "RemembersInTheModule", "RemembersInTheEnvironment"])
def test_what_encode_saw_does_not_reach_decode(plugin: str, clip_folder: Path, name: str) -> None:
    done = run(plugin, name, clip_folder)
    assert done.num_failed == 4
    assert all(row["reason"].startswith("decode failed: ") for row in rows(done))


def test_a_cheat_scores_as_its_bytes_deserve(plugin: str, clip_folder: Path) -> None:
    cheated = run(plugin, "GreyIfItForgot", clip_folder, "psnr,bits_per_s", isolate=False, runs_dir=Path("together"))
    apart = run(plugin, "GreyIfItForgot", clip_folder, "psnr,bits_per_s")
    assert value(cheated) == 100.0
    assert value(apart) < 15
    assert value(apart, "bits_per_s") == pytest.approx(1 / 4.096)
    assert json.loads((apart.folder / "manifest.json").read_text())["isolated"] is True
    assert json.loads((cheated.folder / "manifest.json").read_text())["isolated"] is False


def test_isolation_does_not_change_an_honest_number(plugin: str, clip_folder: Path) -> None:
    apart = run(plugin, "Honest", clip_folder, "psnr,ssim")
    together = run(plugin, "Honest", clip_folder, "psnr,ssim", isolate=False, runs_dir=Path("together"))
    assert rows(apart) == rows(together)


def test_a_claimed_duration_is_compared_with_the_splits(plugin: str, clip_folder: Path) -> None:
    done = run(plugin, "LongDuration", clip_folder)
    assert {row["reason"] for row in rows(done)} == {"the tokens say that a clip lasts 4096 s; the split's last 4.096 s"}


def test_a_decoder_that_dies_costs_the_clip_it_died_on(plugin: str, clip_folder: Path) -> None:
    done = run(plugin, "Dies", clip_folder)
    failed = [row for row in rows(done) if row["status"] == "failed"]
    assert [row["id"].rpartition("/")[2] for row in failed] == ["1.mp4"]
    assert failed[0]["reason"] == "decode's process died (signal SIGKILL)"
    assert value(done) > 10


def test_an_exit_inside_decode_is_a_failed_row(plugin: str, clip_folder: Path) -> None:
    assert {row["reason"] for row in rows(run(plugin, "Exits", clip_folder))} == {"decode failed: SystemExit: 3"}


def test_what_decode_prints_is_no_answer(plugin: str, clip_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(plugin, "Prints", clip_folder).num_failed == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert '{"parts": {}}' in err


@pytest.mark.parametrize("name", ["WritesIntoTheSocket"])
def test_an_answer_that_is_no_clip_is_a_failed_row(plugin: str, clip_folder: Path, name: str) -> None:
    reasons = {row["reason"] for row in rows(run(plugin, name, clip_folder))}
    assert len(reasons) == 1
    assert reasons.pop().startswith("decode's process gave no clip that can be read")


@pytest.mark.parametrize("name", ["Huge", "LongSound"])
def test_more_than_a_few_times_the_clip_is_not_taken(plugin: str, clip_folder: Path, name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reasons = {row["reason"] for row in rows(run(plugin, name, clip_folder, "psnr,si_sdr"))}
    assert len(reasons) == 1
    assert "over 4 times what the clips have" in reasons.pop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB


def test_sound_that_is_a_little_longer_is_trimmed(plugin: str, clip_folder: Path) -> None:
    assert run(plugin, "SomewhatLong", clip_folder, "si_sdr").num_failed == 0


def test_an_encoder_that_hangs_costs_the_clip_it_hangs_on(plugin: str, clip_folder: Path) -> None:
    done = run(plugin, "HangsInEncode", clip_folder, timeout_s=3.0)
    failed = {row["id"].rpartition("/")[2]: row["reason"] for row in rows(done) if row["status"] == "failed"}
    assert failed == {"1.mp4": "encode failed: no answer in 3 s (--timeout allows more)"}


def test_what_differs_from_clip_to_clip_beside_the_codes_fails_the_clip(plugin: str, clip_folder: Path) -> None:
    done = run(plugin, "TellsByTheVocab", clip_folder, batch_size=1)
    reasons = [row["reason"] for row in rows(done)]
    assert reasons[0] is None
    assert set(reasons[1:]) == {"encode failed: streams, codebooks, vocab sizes or fixed lengths are not those of the run's first clip"}


def test_a_decoder_that_hangs_is_ended_and_started_anew(plugin: str) -> None:
    payloads = _payloads(plugin)
    worker = Worker(
        DecoderSpec(tokenizer=f"{plugin}:Hangs", checkpoint=None, seed=0), torch.device("cpu"), frozenset({"video"}), timeout_s=2
    )
    try:
        for _ in range(2):
            with pytest.raises(AvbenchError, match="no answer in 2 s"):
                worker.decode(payloads, seed=0, most={"video": 10**8})
    finally:
        worker.close()


def test_a_worker_goes_when_its_main_process_closes_the_socket(plugin: str) -> None:
    worker = Worker(DecoderSpec(tokenizer=f"{plugin}:Honest", checkpoint=None, seed=0), torch.device("cpu"), frozenset({"video"}))
    worker.decode(_payloads(plugin), seed=0, most={"video": 10**8})
    process = worker._process
    assert process is not None
    worker._socket.close()
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.returncode == 0


def test_a_tokenizer_that_no_other_process_can_load_is_an_error_not_rows(plugin: str, clip_folder: Path) -> None:
    with pytest.raises(CannotLoad, match=r"process of its own: .*only once"):
        run(plugin, "LoadsOnce", clip_folder)


def test_metrics_run_under_the_cores_switches_whatever_was_left_behind(plugin: str, clip_folder: Path) -> None:
    before = Switches.now()
    honest = run(plugin, "Honest", clip_folder, "psnr,ssim,lpips,fvd", batch_size=2)
    sloppy = run(plugin, "LeavesItsSwitches", clip_folder, "psnr,ssim,lpips,fvd", batch_size=2, runs_dir=Path("sloppy"))
    assert sloppy.num_failed == 0
    assert rows(sloppy) == rows(honest)
    assert value(sloppy, "fvd") == value(honest, "fvd")
    assert Switches.now() == before


def test_a_metric_asked_for_later_decodes_the_kept_bytes_and_encodes_nothing(
    plugin: str, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(plugin, "Honest", clip_folder, "psnr")
    kept = {path.name: path.read_bytes() for path in (first.folder / "tokens").iterdir()}
    monkeypatch.setattr("avbench.run.reconstruct.Reconstruct.produce", lambda *_: pytest.fail("something was encoded"))
    more = run(plugin, "Honest", clip_folder, "ssim")
    assert more.folder == first.folder
    assert {path.name: path.read_bytes() for path in (more.folder / "tokens").iterdir()} == kept
    assert (value(more), value(more, "ssim") is not None) == (value(first), True)
    monkeypatch.undo()


def test_damaged_bytes_are_encoded_again(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    store.save_tokens(3, {"a": b"one", "b\n": b"", "c": b"three\n"})
    assert store.load_tokens(3) == {"a": b"one", "b\n": b"", "c": b"three\n"}
    assert store.load_tokens(2) == {}
    path = next(store.tokens.iterdir())
    path.write_bytes(path.read_bytes().replace(b"three", b"threw"))
    assert store.load_tokens(3) == {}
    path.write_bytes(os.urandom(100))
    assert store.load_tokens(3) == {}


def _payloads(plugin: str) -> list[bytes]:
    from avbench import registry
    from avbench.run.check import synthetic_clips

    tokens = registry.load_tokenizer(f"{plugin}:Honest").encode(synthetic_clips())
    return [payload.to_bytes(tokens, clip) for clip in range(len(tokens))]


# conform: what is checked, and what it says


def clips(video: torch.Tensor | None = None, audio: torch.Tensor | None = None, **changes: Any) -> ClipBatch:
    return ClipBatch(ids=("a",), labels=(None,), video=video, audio=audio, **{"fps": 4.0, "sample_rate": 8_000, **changes})


VIDEO, AUDIO = torch.rand(1, 4, 3, 8, 8), torch.rand(1, 1, 8_000) - 0.5


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (clips((VIDEO * 255).round().byte(), AUDIO), "decoded video is uint8 from"),
        (clips(VIDEO * 2 - 1, AUDIO), r"decoded video goes from -0\.\d+ to .*clamp it where it is made"),
        (clips(VIDEO * 255, AUDIO), r"\[0, 1\] is its range"),
        (clips(VIDEO, (AUDIO * 32767).short()), "decoded audio is int16 from"),
        (clips(VIDEO, AUDIO * 4), r"decoded audio goes from .*\[-1, 1\] is its range"),
        (clips(VIDEO.transpose(1, 2), AUDIO), "decoded video has shape"),
        (clips(VIDEO, AUDIO[:, 0]), "decoded audio has shape"),
        (clips(VIDEO, AUDIO.repeat(1, 2, 1)), "decoded audio has shape"),
        (clips(VIDEO, AUDIO[..., :-1]), "only longer is trimmed"),
        (clips(VIDEO, AUDIO, fps=25.0), "25 frames a second, the split at 4"),
        (clips(VIDEO, AUDIO, sample_rate=16_000), "16000 Hz, the split at 8000 Hz"),
        (clips(VIDEO.where(VIDEO < 0.9, torch.nan), AUDIO), "NaN or infinite"),
        (clips(None, AUDIO), "no video, though"),
    ],
)  # fmt: skip
def test_what_does_not_fit_fails_and_says_what_was_seen(made: ClipBatch, says: str) -> None:
    with pytest.raises(AvbenchError, match=says):
        conform(clips(VIDEO, AUDIO), made, frozenset({"video", "audio"}))


def test_half_precision_a_little_overshoot_and_longer_audio_pass() -> None:
    longer = torch.cat([AUDIO, torch.zeros(1, 1, 5)], dim=2)
    done = conform(clips(VIDEO, AUDIO), clips((VIDEO * 1.004).half(), longer), frozenset({"video", "audio"}))
    assert done.video is not None
    assert done.video.dtype == torch.float32
    assert float(done.video.max()) <= 1
    assert torch.equal(done.audio, AUDIO)  # type: ignore[arg-type]
    assert done.ids == ("a",)


def test_the_splits_clips_pass_themselves(clip_folder: Path, test_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(test_cache))
    batch = next(iter(splits.batches(splits.load(f"folder:{clip_folder}", progress=False), 2))).clips
    assert batch is not None
    assert conform(batch, batch, frozenset({"video", "audio"})).ids == batch.ids


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"revision": ""}, r"info.revision \(''\) must not be empty"),
        ({"modalities": frozenset()}, "info.modalities is frozenset"),
        ({"modalities": "video"}, "info.modalities is 'video'"),
        ({"modalities": frozenset({"smell"})}, "smell"),
    ],
)
def test_facts_that_no_row_can_be_made_of_are_an_error_before_any_clip(changes: dict[str, Any], says: str) -> None:
    facts = {"name": "mine", "revision": "1", "modalities": frozenset({"video"})}
    check_info(TokenizerInfo(**facts))  # type: ignore[arg-type]
    with pytest.raises(AvbenchError, match=says):
        check_info(TokenizerInfo(**facts | changes))


@pytest.mark.parametrize(
    ("codes", "duration", "says"),
    [
        ([[[1, 2]]], 4.096, "codes are a list; an int64 tensor"),
        (torch.zeros(1, 1, 2, dtype=torch.int64).numpy(), 4.096, "codes are a ndarray"),
        (torch.zeros(1, 1, 2, dtype=torch.int64, device="meta"), 4.096, r"without data \(device meta\)"),
        (torch.zeros(1, 1, 2, dtype=torch.int64), torch.tensor(4.096), "duration_s is a Tensor"),
    ],
)
def test_tokens_of_another_kind_say_what_they_are(codes: Any, duration: Any, says: str) -> None:
    with pytest.raises(AvbenchError, match=says):
        payload.check(Tokens(codes={"video": codes}, vocab_sizes={"video": 4}, duration_s=duration), 1)
