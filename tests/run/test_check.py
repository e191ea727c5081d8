"""The conformance kit finds what is wrong, and passes what is right."""

import subprocess
import sys
from pathlib import Path

import pytest

from avbench.run.check import check

ROOT = Path(__file__).parents[2]
TOY = f"{Path(__file__).parents[1] / 'toy_plugin' / 'block_mean.py'}:BlockMean"

BREAKERS = """
import sys, importlib.util
import torch
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

class Good:
    info = TokenizerInfo(name="good", revision="1", modalities=frozenset({"video"}))
    def encode(self, batch):
        codes = (batch.video.mean((1, 3, 4)) * 255).round().long()[:, None]
        return Tokens(codes={"video": codes}, vocab_sizes={"video": 256}, duration_s=4.096)
    def decode(self, tokens):
        colour = tokens.codes["video"][:, 0, :, None, None] / 255
        video = colour[:, None].expand(-1, 16, 3, 128, 128)
        return ClipBatch(video=video, fps=3.90625, sample_rate=24_000)

class RandomTokens(Good):
    def encode(self, batch):
        tokens = super().encode(batch)
        return Tokens(codes={"video": torch.randint_like(tokens.codes["video"], 256)}, vocab_sizes={"video": 256}, duration_s=4.096)

class LooksAtItsBatch(Good):
    def encode(self, batch):
        tokens = super().encode(batch)
        return Tokens(codes={"video": tokens.codes["video"] * 0 + len(batch)}, vocab_sizes={"video": 256}, duration_s=4.096)

class RemembersItsInput(Good):
    seen = {}
    def encode(self, batch):
        tokens = super().encode(batch)
        for codes, video in zip(tokens.codes["video"], batch.video):
            self.seen[tuple(codes.flatten().tolist())] = video.clone()
        return tokens
    def decode(self, tokens):
        recon = super().decode(tokens)
        keys = [tuple(codes.flatten().tolist()) for codes in tokens.codes["video"]]
        video = torch.stack([self.seen.get(key, plain) for key, plain in zip(keys, recon.video)])
        return ClipBatch(video=video, fps=3.90625, sample_rate=24_000)

class FloatTokens(Good):
    def encode(self, batch):
        tokens = super().encode(batch)
        return Tokens(codes={"video": tokens.codes["video"].float()}, vocab_sizes={"video": 256}, duration_s=4.096)

class HidesInASubclass(Good):
    def encode(self, batch):
        class Carries(torch.Tensor):
            pass
        tokens = super().encode(batch)
        codes = tokens.codes["video"].as_subclass(Carries)
        codes.clip = batch.video
        return Tokens(codes={"video": codes}, vocab_sizes={"video": 256}, duration_s=4.096)

class TellsByTheVocab(Good):
    def encode(self, batch):
        tokens = super().encode(batch)
        vocab = 256 + int(batch.video.mean() * 10)
        return Tokens(codes=tokens.codes, vocab_sizes={"video": vocab}, duration_s=4.096)

class TellsByAName(Good):
    def encode(self, batch):
        tokens = super().encode(batch)
        return Tokens(codes={f"v{int(batch.video.sum() > 0)}": tokens.codes["video"]}, vocab_sizes={f"v{int(batch.video.sum() > 0)}": 256},
                      duration_s=4.096)
    def decode(self, tokens):
        return super().decode(Tokens(codes={"video": next(iter(tokens.codes.values()))}, vocab_sizes={"video": 256}, duration_s=4.096))

class HonestWhenCheckedByName(Good):
    seen = None
    def encode(self, batch):
        if any("synthetic" in name for name in batch.ids):
            return super().encode(batch)
        self.seen = batch.video.clone()
        return super().encode(batch)
    def decode(self, tokens):
        recon = super().decode(tokens)
        return recon if self.seen is None else ClipBatch(video=self.seen, fps=recon.fps, sample_rate=24_000)

class LeavesItsDtype(Good):
    def __init__(self):
        torch.set_default_dtype(torch.float64)

class Hangs(Good):
    def encode(self, batch):
        while True:
            pass

class Quits(Good):
    def encode(self, batch):
        sys.exit(0)

class DeclaresAudio(Good):
    info = TokenizerInfo(name="declares", revision="1", modalities=frozenset({"video", "audio"}))
"""


@pytest.mark.parametrize("name", [TOY, "identity", "static-frame", "silence"])
def test_a_tokenizer_that_keeps_the_rules_passes(name: str) -> None:
    assert all(finding.passed for finding in check(name))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("RandomTokens", "encode twice gives the same tokens"),
        ("LooksAtItsBatch", "tokens do not depend on the batch"),
        ("RemembersItsInput", "a fresh process decodes the same clip from the token bytes alone"),
        ("FloatTokens", "tokens: int64 (B, K, L), every code below its vocab size"),
        ("DeclaresAudio", "decode gives every declared modality, at the clip's shape, without NaN"),
        ("HidesInASubclass", "tokens: int64 (B, K, L), every code below its vocab size"),
        ("TellsByTheVocab", "every clip has the same streams, codebooks and vocab sizes"),
        ("TellsByAName", "every clip has the same streams, codebooks and vocab sizes"),
        ("HonestWhenCheckedByName", "a fresh process decodes the same clip from the token bytes alone"),
        ("LeavesItsDtype", "leaves torch's switches as it found them"),
        ("Hangs", "tokens: int64 (B, K, L), every code below its vocab size"),
        ("Quits", "tokens: int64 (B, K, L), every code below its vocab size"),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, name: str, rule: str) -> None:
    (tmp_path / "breakers.py").write_text(BREAKERS)
    findings = {finding.rule: finding for finding in check(f"{tmp_path / 'breakers.py'}:{name}", timeout_s=1 if name == "Hangs" else 100)}
    assert not findings[rule].passed
    assert findings[rule].detail


@pytest.mark.slow
@pytest.mark.shared_data
def test_every_plugin_that_breaks_a_rule_is_refused_and_the_others_pass() -> None:
    cases = ROOT.parent / "shared" / "cases" / "plugins.py"
    if not cases.is_file():
        pytest.skip("the plugins of shared/cases are not beside the repository")
    command = [sys.executable, str(ROOT / "benchmarks" / "check_plugins.py"), str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout
