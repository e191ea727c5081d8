"""The arcade splits: clips of 101 Atari games, made on this machine by ale-py (its wheel holds the games).

A clip is 4.096 s of play by a sticky random policy: 16 frames spread evenly, the whole 210x160 picture resized to 128x128, and the
sound of the same stretch. An episode (split, game, number) gives a few clips in a row; the split's name is part of the seed, so
train, val and test share no play. The sha256 of the emulator's raw frames and samples of every clip is pinned in pins/.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from avbench.data import workers
from avbench.data.arcade_games import GAMES
from avbench.data.source import Made, checksum_of
from avbench.errors import AvbenchError, UsageError
from avbench.paths import cache_root
from avbench.protocol import Protocol, parse, query
from avbench.types import ClipRef

ALE_VERSION = "0.12.1"
VERSION = "1"  # of the policy: part of every seed
CONVERSION = "1"  # of what is made of the raw frames and samples: part of every stamp
PINS = Path(__file__).parent / "pins"
PIN_BYTES = 16  # the first half of a sha256
EPISODE_TIMEOUT_S = 1800.0  # 1 s on an idle core, but 40 s for a silent game (tic_tac_toe_3d) on one shared by eight
CLIPS_PER_EPISODE = {"arcade-train": 10, "arcade-val": 5, "arcade-test": 10}
PROTOCOL = Protocol()
WORKER = "avbench.data.arcade_worker"


def arcade_train() -> "Arcade":
    """Entry point of arcade-train."""
    return Arcade(name="arcade-train", stem="arcade-train")


def arcade_val() -> "Arcade":
    """Entry point of arcade-val: 505 clips, 5 a game."""
    return Arcade(name="arcade-val", stem="arcade-val")


def arcade_test() -> "Arcade":
    """Entry point of arcade-test: 1,010 clips, 10 a game."""
    return Arcade(name="arcade-test", stem="arcade-test")


def arcade_mini() -> "Arcade":
    """Entry point of arcade-mini: the first clip of each game of arcade-test, 101 in all."""
    return Arcade(name="arcade-mini", stem="arcade-test", clips_per_game=1)


def pinned(name: str) -> "Arcade | None":
    """The arcade split called `name`, at the protocol after its "?"; None for any other name. Raises UsageError for a false protocol."""
    base, _, asked = name.partition("?")
    made = next((make() for make in (arcade_train, arcade_val, arcade_test, arcade_mini) if make().name == base), None)
    return made.at(parse(asked)) if made and asked else made


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a clip comes from: window number `window` of episode `episode` of `game`."""

    game: str
    episode: int
    window: int


@dataclass(frozen=True)
class Arcade:
    """An arcade split: a `Source`. Clips are in order of their number within the game, so 101 in a row are one of each game.

    stem: the split whose clips these are; clips_per_game: how many of each game, None for all that are pinned.
    """

    name: str
    stem: str
    clips_per_game: int | None = None
    protocol: Protocol = PROTOCOL
    note: str = ""
    train_split: str | None = "arcade-train"
    decoder: str = ""  # emulated

    @cached_property
    def pins(self) -> tuple[str, ...]:
        """First 32 hex digits of the sha256 of each clip's raw frames and samples."""
        pins = read_pins(self.stem)
        return pins if self.clips_per_game is None else pins[: self.clips_per_game * len(GAMES)]

    @cached_property
    def clips(self) -> tuple[ClipRef, ...]:
        """One a pin."""
        numbers = (divmod(index, len(GAMES)) for index in range(len(self.pins)))
        return tuple(ClipRef(id=f"{self.stem}/{GAMES[game]}/{number:04d}", label=GAMES[game]) for number, game in numbers)

    @property
    def num_official(self) -> int:
        """All of them: they are made, not found."""
        return len(self.pins)

    @property
    def root(self) -> Path:
        """Shared by the splits of one stem and protocol."""
        suffix = "" if self.protocol == PROTOCOL else f"-{self.protocol.resolution}-{self.protocol.sample_rate}"
        return cache_root() / "prepared" / f"{self.stem}{suffix}"

    def at(self, protocol: Protocol) -> "Arcade":
        """See `Source.at`. The pinned pictures and samples are those of 16 frames in 4.096 s."""
        if protocol != replace(PROTOCOL, resolution=protocol.resolution or 1, sample_rate=protocol.sample_rate or 1):
            raise UsageError(f"{self.name} is pinned as {PROTOCOL}; of these only res and rate can be others")
        return self if protocol == self.protocol else replace(self, name=f"{self.name}?{query(protocol)}", protocol=protocol)

    def file(self, index: int) -> Path | None:
        """None: emulated."""
        return None

    def expected(self, index: int) -> str:
        """Anything: `make` compares with the pins itself, and stops."""
        return ""

    def checksum(self, limit: int | None = None) -> str:
        """Of the split, or of its first `limit` clips, without making one: what every machine has."""
        return checksum_of(self.protocol, self.decoder, self.clips[:limit], self.pins[:limit])

    def stamp(self, index: int) -> str:
        """The clip's pin and the version of the conversion."""
        return f"{VERSION}.{CONVERSION}:{self.pins[index]}"

    def make(self, indices: Sequence[int], jobs: int) -> Iterator[Made]:
        """Raises AvbenchError where this machine's emulator gives other frames or samples than the pinned ones."""
        for index, reply in emulate(self.stem, indices, jobs, protocol=self.protocol):
            if reply.failure is not None:
                yield Made(index=index, pin=self.pins[index], failure=reply.failure)
                continue
            _check(self.clips[index].id, reply, self.pins[index])
            video, audio = reply.payloads
            yield Made(index=index, pin=self.pins[index], video=video, audio=audio)


def place(stem: str, index: int) -> Place:
    """Game, episode and window of clip `index` of a split."""
    number, game = divmod(index, len(GAMES))
    episode, window = divmod(number, CLIPS_PER_EPISODE[stem])
    return Place(game=GAMES[game], episode=episode, window=window)


def emulate(
    stem: str, indices: Sequence[int], jobs: int, *, protocol: Protocol, raw_only: bool = False
) -> Iterator[tuple[int, workers.Reply]]:
    """Clip index and the worker's reply, each index once. One request an episode, in order of their first clip."""
    episodes: dict[tuple[str, int], dict[int, int]] = {}
    for index in indices:
        at = place(stem, index)
        episodes.setdefault((at.game, at.episode), {})[at.window] = index
    waiting = list(episodes.values())
    requests = [
        {
            "game": game,
            "seed": f"avbench arcade {VERSION} {stem} {game} {episode}",
            "wanted": sorted(windows),
            "protocol": asdict(protocol),
            "raw_only": raw_only,
        }
        for (game, episode), windows in episodes.items()
    ]
    for reply in workers.run(WORKER, requests, jobs, EPISODE_TIMEOUT_S):
        left = waiting[reply.request]
        if reply.failure is None:
            yield left.pop(reply.header["window"]), reply
        else:
            yield from ((index, reply) for index in left.values())


def _check(clip: str, reply: workers.Reply, pin: str) -> None:
    if reply.header["raw"].startswith(pin):
        return
    raise AvbenchError(
        f"the emulator drifted: clip {clip} has raw sha256 {reply.header['raw'][:12]}..., pinned is {pin[:12]}... "
        f"(ale-py {reply.header['ale_py']} here, the clips are those of {ALE_VERSION}); pip install ale-py=={ALE_VERSION}"
    )


@cache
def read_pins(stem: str) -> tuple[str, ...]:
    """The pins of a split, hexadecimal, in the order of its clips."""
    data = (PINS / f"{stem}.bin").read_bytes()
    assert len(data) % (PIN_BYTES * len(GAMES)) == 0, f"{stem}.bin is not a whole number of clips a game"
    return tuple(data[start : start + PIN_BYTES].hex() for start in range(0, len(data), PIN_BYTES))
