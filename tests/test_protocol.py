"""What a clip is: named protocols, what a split's name may ask for, and what is refused."""

import json
from dataclasses import asdict

import pytest

from avbench.errors import UsageError
from avbench.protocol import NAMED, NATIVE, Protocol, parse, query, require

LONG = Protocol(num_frames=250, duration_s=10, resolution=256, sample_rate=44_100, channels=2)
SOUND = Protocol(num_frames=0, sample_rate=44_100, channels=2)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("res=256&fps=25&seconds=10&rate=44100&channels=2", LONG),
        ("seconds=10", Protocol(num_frames=39, duration_s=10)),  # the default's rate, as near as whole frames allow
        ("fps=25", Protocol(num_frames=102, duration_s=4.08)),
        ("protocol=cd&seconds=5", Protocol(num_frames=0, duration_s=5, sample_rate=44_100, channels=2)),
        ("only=video", Protocol(sample_rate=0)),
        ("only=audio&rate=16000", Protocol(num_frames=0, sample_rate=16_000)),
        ("res=native", Protocol(resolution=NATIVE)),
        ("start=0&seconds=8", Protocol(num_frames=31, duration_s=8, start_s=0.0)),
    ],
)  # fmt: skip
def test_a_query_is_a_protocol(asked: str, found: Protocol) -> None:
    assert parse(asked) == found
    assert parse(query(found)) == found


def test_named_protocols_are_their_own_names() -> None:
    assert [query(protocol) for protocol in NAMED.values()] == ["", *(f"protocol={name}" for name in NAMED if name != "avtok")]
    assert NAMED["sync"].fps == 25
    assert NAMED["vidtok"].fps == pytest.approx(30)
    assert NAMED["cd"].modalities == {"audio"}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("size=256", "no key 'size'"), ("fps=0", "fps=0"), ("fps=nan", "fps=nan"), ("res=1e9", "res=1e9"), ("res=20.5", "whole number"),
        ("rate=-1", "rate=-1"), ("channels=0", "channels=0"), ("seconds=x", "seconds=x"), ("protocol=mp3", "unknown protocol"),
        ("only=both", "video or audio"), ("protocol=cd&only=video", "has none"), ("fps=25&fps=25", "twice"), ("", "no key ''"),
        ("fps=24&seconds=4.096", "98.304 frames; take seconds=4.08333"), ("res=4096&fps=25&seconds=10", "GiB"),
        ("fps=1000&seconds=3600", "at most 10,000"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_a_reason(asked: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        parse(asked)


def test_the_default_has_the_words_and_the_checksum_that_it_always_had() -> None:
    first = {"num_frames": 16, "duration_s": 4.096, "resolution": 128, "sample_rate": 24_000}
    assert json.dumps(Protocol().facts(), sort_keys=True) == json.dumps(first, sort_keys=True)
    assert str(Protocol()).startswith("16x128x128 frames over 4.096 s, 98304 samples at 24000 Hz mono; clips shorter")
    assert asdict(SOUND) != SOUND.facts() | {"channels": 1}
    assert str(SOUND).startswith("no pictures, 4.096 s, 180634 samples at 44100 Hz stereo")


def test_a_tokenizer_says_where_it_cannot_work() -> None:
    require(Protocol(), "avtok", num_frames=16, resolution=128, duration_s=4.096)
    with pytest.raises(UsageError, match=r"avtok works at resolution 128 \(not 256\) alone; clips of this split are 16x256x256"):
        require(Protocol(resolution=256), "avtok", num_frames=16, resolution=128)
