"""Atari games played by chance, in a process of its own: `python -m avbench.data.arcade_worker`, started by avbench.data.arcade.

The only module that imports ale_py (GPL): frames and samples leave this process through a pipe. Everything that decides what a
clip is (seeds, actions, which stretch is passed over) is integer arithmetic, so that every machine makes the same raw clips.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import ale_py
import cv2
import numpy as np
from ale_py import ALEInterface, LoggerMode, roms

from avbench.data import convert, wire
from avbench.data.convert import UInt8

FRAME_RATE = 60
SAMPLES_PER_FRAME = 512  # 30,720 Hz, as ALE's own sound exporter defines it
SAMPLE_RATE = FRAME_RATE * SAMPLES_PER_FRAME
# A new random action on 1 frame of 16 on average, otherwise the last one is kept: bursts of 0.27 s, as hands play.
NEW_ACTION_ONE_IN = 16
BURN_IN_FRAMES = (60, 600)  # played before the first window: clips of different seeds do not all show the title screen
CHANGED = 8  # a pixel has changed between two frames if one of its channels differs by more than this
MIN_CHANGED_PIXELS = 100  # over the 15 steps of a window, of 33,600 pixels each
MIN_CHANGED_STEPS = 4
LEVEL_FRAMES = 6  # loudness is measured in stretches of 0.1 s
RESTART_AFTER = 8  # windows passed over in a row: some games wait for ever for a move that chance does not find
MAX_PASSED_OVER = 400  # windows in a row: half an hour of play


class Player:
    """One game, one seed: an endless, reproducible stretch of play."""

    def __init__(self, game: str, seed_text: str) -> None:
        digest = hashlib.sha256(seed_text.encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "little"))
        self._ale = _emulator(game, int.from_bytes(digest[16:20], "little") & 0x7FFFFFFF)
        self._actions = self._ale.getMinimalActionSet()
        self._action = self._actions[0]
        low, high = BURN_IN_FRAMES
        for bits in self._draw(low + self._draw(1)[0] % (high - low)):
            self._step(bits)

    def window(self, pictures: list[int], num_frames: int) -> tuple[UInt8, UInt8]:
        """The next `num_frames` frames: RGB of those numbered `pictures` (T, H, W, 3), sound of all (num_frames, 512) centred on 128.

        A game that ends is started anew, as a cut.
        """
        wanted = set(pictures)
        frames, sound = [], []
        for number, bits in enumerate(self._draw(num_frames)):
            self._step(bits)
            sound.append(self._ale.getAudio())
            if number in wanted:
                frames.append(self._ale.getScreenRGB())
            if self._ale.game_over():
                self._ale.reset_game()
        return np.stack(frames), np.stack(sound)

    def restart(self) -> None:
        """Start the game anew; the actions go on where they were."""
        self._ale.reset_game()

    def _draw(self, count: int) -> list[int]:
        return [int(bits) for bits in self._bits.random_raw(count)]

    def _step(self, bits: int) -> None:
        if bits % NEW_ACTION_ONE_IN == 0:
            self._action = self._actions[(bits >> 32) % len(self._actions)]
        self._ale.act(self._action)


def _emulator(game: str, seed: int) -> ALEInterface:
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.setBool("sound_obs", True)
    ale.setInt("random_seed", seed)
    ale.setInt("frame_skip", 1)
    ale.setFloat("repeat_action_probability", 0.0)  # the stickiness is ours
    rom = roms.get_rom_path(game)
    if rom is None:
        raise ValueError(f"ale-py {ale_py.__version__} has no game {game}")
    ale.loadROM(rom)
    return ale


def is_clip(frames: UInt8, sound: UInt8) -> bool:
    """Whether a window moves and sounds. frames (T, H, W, 3); sound (F, 512).

    Sound: within stretches of 0.1 s, an RMS of at least half a step of the 8-bit samples (-48 dBFS). A constant offset is no sound;
    the click of a changing one is (all that video_checkers has).
    """
    steps = np.abs(np.diff(frames.astype(np.int16), axis=0)).max(axis=-1) > CHANGED
    changed = steps.sum(axis=(1, 2))
    if changed.sum() < MIN_CHANGED_PIXELS or (changed > 0).sum() < MIN_CHANGED_STEPS:
        return False
    samples = sound.astype(np.int64).reshape(-1, LEVEL_FRAMES * SAMPLES_PER_FRAME)
    count, length = samples.shape
    deviation = length * (samples**2).sum(axis=1) - samples.sum(axis=1) ** 2  # length^2 times the variance
    return bool(4 * deviation.sum() >= count * length**2)


def raw_checksum(frames: UInt8, sound: UInt8) -> str:
    """sha256 of the pictures' and all samples' bytes, as the emulator gave them."""
    digest = hashlib.sha256(frames.tobytes())
    digest.update(sound.tobytes())
    return digest.hexdigest()


def play(request: wire.Header) -> Iterator[wire.Message]:
    """The wanted windows of one episode. request: game, seed, wanted (window numbers), protocol (its fields), raw_only.

    Replies: header window, raw (sha256), ale_py; payloads video uint8 (T, H, W, 3) and audio int16 (N,) unless raw_only.
    """
    protocol = request["protocol"]
    step = FRAME_RATE * protocol["duration_s"] / protocol["num_frames"]
    pictures = [round(step * number) for number in range(protocol["num_frames"])]
    num_frames = -int(-FRAME_RATE * protocol["duration_s"] // 1)
    player = Player(request["game"], request["seed"])
    wanted = set(request["wanted"])
    for window in range(max(wanted) + 1):
        frames, sound = _next_clip(player, pictures, num_frames, request["game"])
        if window in wanted:
            header = {"window": window, "raw": raw_checksum(frames, sound), "ale_py": ale_py.__version__}
            yield header, [] if request["raw_only"] else prepared(frames, sound, protocol)


def _next_clip(player: Player, pictures: list[int], num_frames: int, game: str) -> tuple[UInt8, UInt8]:
    for passed_over in range(MAX_PASSED_OVER):
        if passed_over and passed_over % RESTART_AFTER == 0:
            player.restart()
        frames, sound = player.window(pictures, num_frames)
        if is_clip(frames, sound):
            return frames, sound
    raise RuntimeError(f"{game}: nothing moves and sounds in {MAX_PASSED_OVER} windows")


def prepared(frames: UInt8, sound: UInt8, protocol: dict[str, Any]) -> list[bytes]:
    """Video uint8 (T, R, R, 3) and audio int16 (N,) of the protocol.

    The emulator's samples are unipolar (0 or +level), with an offset of up to 0.9 of full scale in some games, hence `block_dc`.
    """
    video = np.stack([convert.whole_picture(frame, protocol["resolution"]) for frame in frames])
    samples = convert.block_dc((sound.reshape(-1).astype(np.float32) - np.float32(128)) / np.float32(128), SAMPLE_RATE)
    audio = convert.resample(samples, SAMPLE_RATE, protocol["sample_rate"])
    length = round(protocol["duration_s"] * protocol["sample_rate"])
    return [video.tobytes(), convert.to_int16(convert.to_length(audio, length)).tobytes()]


if __name__ == "__main__":
    cv2.setNumThreads(1)
    wire.serve(play)
