"""The class's mean picture: one token, the right class, and the mean of all for a stranger."""

from pathlib import Path

import pytest
import torch

from avbench.errors import AvbenchError
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.class_mean import ClassMean, class_means, load, save
from avbench.types import ClipBatch

SIZE = (16, 3, 8, 8)


def clips(labels: tuple[str, ...], seed: int = 0) -> ClipBatch:
    video = torch.rand(len(labels), *SIZE, generator=torch.Generator().manual_seed(seed))
    return ClipBatch(video=video, labels=labels, fps=4.0, sample_rate=0)


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    labels, pictures = class_means([clips(("pong", "chess", "pong"))])
    save(labels, pictures, tmp_path / "means.safetensors")
    return tmp_path / "means.safetensors"


def test_a_picture_is_the_mean_over_the_frames_of_its_class(fitted: Path) -> None:
    labels, pictures = load(fitted)
    video = clips(("pong", "chess", "pong")).video
    assert labels == ["chess", "pong"]
    torch.testing.assert_close(pictures[0], video.mean((0, 1)))
    torch.testing.assert_close(pictures[1], video[1].mean(0))
    torch.testing.assert_close(pictures[2], video[[0, 2]].mean((0, 1)))


def test_one_token_names_the_class_and_an_unknown_class_gets_the_mean_of_all(fitted: Path) -> None:
    tokenizer = ClassMean(TokenizerOptions(checkpoint=fitted))
    tokens = tokenizer.encode(clips(("pong", "golf"), seed=1))
    assert tokens.codes["video"].flatten().tolist() == [2, 0]
    assert tokens.vocab_sizes == {"video": 3}
    recon = tokenizer.decode(tokens)
    assert recon.fps == 4.0
    torch.testing.assert_close(recon.video, tokenizer.pictures[[2, 0], None].expand(2, *SIZE))


def test_clips_of_another_size_and_damaged_files_are_named(fitted: Path, tmp_path: Path) -> None:
    tokenizer = ClassMean(TokenizerOptions(checkpoint=fitted))
    with pytest.raises(AvbenchError, match="class-mean: video of shape"):
        tokenizer.encode(ClipBatch(video=torch.zeros(1, 16, 3, 4, 4), labels=("pong",), fps=4.0, sample_rate=0))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(fitted.read_bytes()[:100])
    with pytest.raises(AvbenchError, match="holds no mean pictures"):
        ClassMean(TokenizerOptions(checkpoint=damaged))
