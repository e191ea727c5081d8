"""Two tokenizers as one: order, streams, and what cannot be joined."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from avbench import registry
from avbench.composite import Composite
from avbench.errors import AvbenchError, UsageError
from avbench.run import payload
from avbench.tokenizer import TokenizerInfo
from avbench.tokenizers.controls import Identity, Silence, StaticFrame
from avbench.types import ClipBatch, Tokens


def _clips(audio_samples: int = 8000) -> ClipBatch:
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(2, 4, 3, 16, 16, generator=generator)
    return ClipBatch(video=video, audio=torch.rand(2, 1, audio_samples, generator=generator), fps=4.0, sample_rate=8000)


@pytest.mark.parametrize("name", ["static-frame+silence", "silence+static-frame"])
def test_either_order_gives_both_modalities(name: str) -> None:
    tokenizer = registry.load_tokenizer(name)
    clips = _clips()
    tokens = tokenizer.encode(clips)
    recon = tokenizer.decode(payload.from_bytes([payload.to_bytes(tokens, clip) for clip in range(2)]))
    assert tokenizer.info.name == name
    assert recon.video is not None
    assert recon.audio is not None
    assert torch.equal(recon.video, StaticFrame().decode(StaticFrame().encode(clips)).video)
    assert recon.audio.shape == (2, 1, 8000)
    assert (recon.fps, recon.sample_rate) == (4.0, 8000)


def test_lengths_of_a_part_are_kept() -> None:
    tokens = registry.load_tokenizer("opus@12k+static-frame").encode(_clips())
    assert tokens.lengths is not None
    assert set(tokens.lengths) == {"audio"}


@pytest.mark.parametrize(("first", "second"), [(StaticFrame(), StaticFrame()), (Silence(), Silence()), (Identity(), Silence())])
def test_parts_that_do_not_complement_each_other_are_refused(first: object, second: object) -> None:
    with pytest.raises(UsageError, match="covers"):
        Composite(first, second)  # type: ignore[arg-type]


def test_clips_whose_parts_differ_in_length_are_refused() -> None:
    with pytest.raises(AvbenchError, match="one length"):
        Composite(StaticFrame(), Silence()).encode(_clips(audio_samples=9000))


def test_each_part_sees_its_own_modality_only() -> None:
    class Spy(Silence):
        def encode(self, batch: ClipBatch) -> Tokens:
            assert batch.video is None
            return super().encode(batch)

    Composite(StaticFrame(), Spy()).encode(_clips())


def test_info_adds_parameters_and_names_the_most_elaborate_kind() -> None:
    class Learned(Silence):
        info = TokenizerInfo(name="net", revision="7", modalities=frozenset({"audio"}), parameters=5, trained_on="songs")

    info = Composite(StaticFrame(), Learned()).info
    assert (info.kind, info.parameters, info.trained_on, info.revision) == ("learned", 5, "songs", "1+7")


@pytest.fixture
def two_parts(tmp_path: Path) -> Path:
    """A plugin file whose tokenizers tell in their revision which checkpoint they were handed."""
    file = tmp_path / "parts.py"
    file.write_text(PARTS)
    return file


PARTS = """
from dataclasses import replace
from avbench.tokenizers.controls import Silence, StaticFrame

class Video(StaticFrame):
    def __init__(self, options):
        self.info = replace(StaticFrame.info, revision=str(options.checkpoint and options.checkpoint.name))

class Audio(Silence):
    def __init__(self, options):
        self.info = replace(Silence.info, revision=str(options.checkpoint and options.checkpoint.name))
"""


@pytest.mark.parametrize(
    ("given", "revision"),
    [("{0}/a+{0}/b", "a+b"), ("+{0}/b", "None+b"), ("{0}/a+", "a+None"), ("{0}/c+d+{0}/b", "c+d+b"), (None, "None+None")],
)
def test_each_part_takes_its_own_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, revision: str, two_parts: Path
) -> None:
    for name in ("a", "b", "c+d"):
        (tmp_path / name).touch()
    known = {
        name: registry.Plugin(name=name, distribution="test", entry_point=EntryPoint(name, f"parts:{name.title()}", "avbench.tokenizers"))
        for name in ("video", "audio")
    }
    monkeypatch.setattr(registry, "plugins", lambda kind: known)
    monkeypatch.syspath_prepend(str(two_parts.parent))
    tokenizer = registry.load_tokenizer("video+audio", checkpoint=given and given.format(tmp_path))
    assert tokenizer.info.revision == revision


@pytest.mark.parametrize("given", ["nowhere", "nowhere+", "nowhere+nowhere"])
def test_a_checkpoint_that_is_not_there_is_an_error(given: str) -> None:
    with pytest.raises(AvbenchError, match="takes two that exist"):
        registry.load_tokenizer("static-frame+silence", checkpoint=given)
