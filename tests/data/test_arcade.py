"""The arcade splits: the same clips everywhere, and what happens when the emulator is not what it was."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import ale_py
import numpy as np
import pytest

from avbench.data import arcade, arcade_worker, shards, splits, workers
from avbench.data.arcade_games import GAMES
from avbench.errors import AvbenchError
from avbench.types import Protocol

PICTURES = [round(15.36 * number) for number in range(16)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def emulated(indices: list[int], *, raw_only: bool = True) -> dict[int, workers.Reply]:
    return dict(arcade.emulate("arcade-test", indices, 1, protocol=Protocol(), raw_only=raw_only))


def test_two_generations_are_equal_and_as_pinned() -> None:
    pins = arcade.read_pins("arcade-test")
    first, second = emulated([0, 70], raw_only=False), emulated([70, 0], raw_only=False)
    for index in (0, 70):
        assert first[index].header["raw"] == second[index].header["raw"]
        assert first[index].payloads == second[index].payloads
        assert first[index].header["raw"].startswith(pins[index])


def test_a_clip_does_not_depend_on_which_clips_are_made_with_it() -> None:
    later = 2 * len(GAMES) + GAMES.index("pong")
    alone = emulated([later])[later].header["raw"]
    together = emulated([later - 2 * len(GAMES), later])[later].header["raw"]
    assert alone == together


def test_sizes_labels_and_order_of_the_splits() -> None:
    mini, test, val, train = arcade.arcade_mini(), arcade.arcade_test(), arcade.arcade_val(), arcade.arcade_train()
    assert [len(split.clips) for split in (mini, test, val)] == [101, 1010, 505]
    assert len(train.clips) >= 4040
    assert mini.clips == test.clips[:101]
    assert mini.root == test.root
    for split in (test, val, train):
        assert len({clip.id for clip in split.clips}) == len(split.clips)
        for start in range(0, len(split.clips), 101):
            assert sorted(str(clip.label) for clip in split.clips[start : start + 101]) == sorted(GAMES)


def test_no_clip_is_in_two_splits_or_twice_in_one() -> None:
    pins = [pin for stem in ("arcade-train", "arcade-val", "arcade-test") for pin in arcade.read_pins(stem)]
    assert len(set(pins)) == len(pins)


def test_prepared_clips_move_and_sound_without_an_offset() -> None:
    split = splits.load("arcade-mini", limit=6, progress=False)
    [batch] = splits.batches(split, 6)
    assert batch.clips is not None
    assert batch.clips.video is not None
    assert batch.clips.audio is not None
    assert batch.clips.video.shape == (6, 16, 3, 128, 128)
    assert batch.clips.audio.shape == (6, 1, 98_304)
    assert (batch.clips.video.diff(dim=1).abs().amax(dim=(1, 2, 3, 4)) > 8 / 255).all()
    assert (batch.clips.audio.std(dim=2) > 0.002).all()
    assert (batch.clips.audio.mean(dim=2).abs() < 0.02).all()


def test_a_still_or_silent_window_is_no_clip() -> None:
    generator = np.random.default_rng(0)
    moving = generator.integers(0, 256, (16, 210, 160, 3), dtype=np.uint8)
    loud = generator.integers(100, 156, (246, 512), dtype=np.uint8)
    assert arcade_worker.is_clip(moving, loud)
    assert not arcade_worker.is_clip(np.repeat(moving[:1], 16, axis=0), loud)
    assert not arcade_worker.is_clip(moving, np.full((246, 512), 200, dtype=np.uint8))


def test_a_window_is_what_the_policy_says_when_played_on_a_bare_emulator() -> None:
    """The policy written out once more: each picture is the screen right after the step whose sound lies at its time."""
    player = arcade_worker.Player("pong", "sync")
    frames, sound = player.window(PICTURES, 246)

    digest = hashlib.sha256(b"sync").digest()
    random = np.random.PCG64(int.from_bytes(digest[:16], "little"))
    ale = ale_py.ALEInterface()
    ale.setBool("sound_obs", True)
    ale.setInt("random_seed", int.from_bytes(digest[16:20], "little") % 2**31)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(ale_py.roms.get_rom_path("pong"))
    actions = ale.getMinimalActionSet()
    action, screens, samples = actions[0], [], []
    burn_in = 60 + int(random.random_raw()) % 540
    for _ in range(burn_in + 246):
        bits = int(random.random_raw())
        action = actions[(bits >> 32) % len(actions)] if bits % 16 == 0 else action
        ale.act(action)
        screens.append(ale.getScreenRGB())
        samples.append(ale.getAudio())
    assert np.array_equal(frames, np.stack(screens[burn_in:])[PICTURES])
    assert np.array_equal(sound, np.stack(samples[burn_in:]))


def test_raw_checksum_is_that_of_the_bytes() -> None:
    frames, sound = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert arcade_worker.raw_checksum(frames, sound) == hashlib.sha256(bytes(range(24)) + bytes(range(8))).hexdigest()


def test_another_emulator_is_an_error_that_names_the_clip_and_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = arcade.read_pins("arcade-test")
    monkeypatch.setattr(arcade, "read_pins", lambda stem: ("00" * 16, *pins[1:]))
    with pytest.raises(AvbenchError, match=r"drifted.*arcade-test/air_raid/0000.*ale-py 0\.12\.1.*pip install ale-py==0\.12\.1"):
        splits.load("arcade-test", limit=1, progress=False)


def test_a_game_that_ends_the_worker_fails_its_own_clips_only() -> None:
    requests = [
        {"game": game, "seed": "x", "wanted": [0], "protocol": asdict(Protocol()), "raw_only": True} for game in ("no_such_game", "pong")
    ]
    replies = {reply.request: reply for reply in workers.run(arcade.WORKER, requests, 1)}
    assert "no_such_game" in str(replies[0].failure)
    assert replies[1].failure is None


def test_a_new_conversion_prepares_the_clips_anew(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    before = splits.load("arcade-mini", limit=1, progress=False)
    monkeypatch.setattr(arcade, "CONVERSION", "another")
    after = splits.load("arcade-mini", limit=1, progress=False)
    assert after.entries[0].row != before.entries[0].row
    assert after.checksum == before.checksum
    assert shards.read_index(after.root)[after.clips[0].id] == after.entries[0]
