"""avbench.tokenizers.avtok.dual: the two tokenizers of a dual run behind the benchmark's interface."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avbench.errors import UsageError
from avbench.registry import load_tokenizer
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.avtok.checkpoint import save_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.dual import DualAVTok
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.types import ClipBatch

MODEL = AVTokConfig(
    name="tiny-dual-video",
    video=StreamConfig(channels=3, size=(2, 16, 16), patch=(2, 8, 8), tokens=3),
    audio=StreamConfig(channels=1, size=(1, 80, 24), patch=(1, 16, 8), tokens=2),
    width=16,
    encoder_layers=1,
    decoder_layers=1,
    heads=2,
    quantizer=QuantizerConfig(kind="euclidean", entries=8, dim=4, temperature=0.0),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dual run's checkpoints, with random weights."""
    torch.manual_seed(0)
    for name in ("video", "audio"):
        save_checkpoint(tmp_path / name, AVTokModel(replace(MODEL, name=f"tiny-dual-{name}")), {"split": "toy", "clips_seen": 8})
    return tmp_path


def test_each_stream_is_what_its_own_tokenizer_makes_of_it(folder: Path) -> None:
    batch = ClipBatch(video=torch.rand(2, 2, 3, 16, 16), audio=torch.rand(2, 1, 6144) - 0.5, fps=2 / 0.256, sample_rate=24_000)
    dual = load_tokenizer(f"{Path(__file__).parents[2]}/tokenizers/avtok/dual.py:DualAVTok", checkpoint=folder)
    tokens = dual.encode(batch)
    assert {name: codes.shape for name, codes in tokens.codes.items()} == {"video": (2, 1, 3), "audio": (2, 1, 2)}
    recon = dual.decode(tokens)
    for name, other in (("video", "audio"), ("audio", "video")):
        alone = load_tokenizer("avtok", checkpoint=folder / name)
        expected = alone.decode(alone.encode(replace(batch, **{other: None})))
        assert torch.equal(getattr(recon, name), getattr(expected, name))
    assert dual.info.name == "tiny-dual"


def test_its_parameters_leave_out_the_stream_that_a_model_does_not_serve(folder: Path) -> None:
    dual = DualAVTok(TokenizerOptions(checkpoint=folder))
    model = AVTokModel(MODEL)
    unused = sum(p.numel() for name, p in model.named_parameters() if name.startswith(("stream_encoders.", "stream_decoders.")))
    both = 2 * sum(p.numel() for p in model.parameters())
    assert dual.info.parameters == both - unused  # each stream's own part is used once of twice


def test_without_a_folder_it_says_which_one_it_needs() -> None:
    with pytest.raises(UsageError, match="OUT/video"):
        DualAVTok(TokenizerOptions())
