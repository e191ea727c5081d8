"""How far apart are copies and different clips? `python benchmarks/fingerprints.py [--data FOLDER] [--every K]`.

Real clips (../shared/data) at the default protocol, against copies of themselves: encoded again (half the size, H.264 at CRF 40, AAC at 32
kbit/s), resized alone, cut 0.2 s later, and both together; and against all other clips, of the same speaker in the same room among them.
Prints quantiles of the distances of avbench/data/fingerprint.py, and how many the thresholds of avbench/data/overlap.py call alike.
"""

import argparse
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from tabulate import tabulate

from avbench.data.decode import measure, read_protocol
from avbench.data.fingerprint import Fingerprint, distances, fingerprint
from avbench.data.overlap import alike
from avbench.protocol import Protocol

PROTOCOL = Protocol()
SHIFT_S = 0.2
DATA = Path(__file__).parents[2] / "shared" / "data"
SUFFIXES = (".mp4", ".mpg", ".webm")


def printed(path: Path, *, later_s: float = 0.0, resolution: int = PROTOCOL.resolution) -> Fingerprint:
    """The fingerprint of the middle of a file, `later_s` later; of a small picture, enlarged again."""
    seconds, _ = measure(path, frozenset(["video", "audio"]))
    start = max(0.0, (seconds - PROTOCOL.duration_s) / 2)
    video, audio = read_protocol(path, Protocol(resolution=resolution), offset_s=start + later_s)
    return fingerprint(video, audio, PROTOCOL)


def encoded_again(path: Path, out: Path) -> Path:
    """The file at half the size, CRF 40, its sound at 32 kbit/s."""
    with av.open(str(path)) as source, av.open(str(out), "w", format="mp4") as target:
        pictures = source.streams.video[0]
        video = target.add_stream("libx264", rate=pictures.average_rate or Fraction(25), options={"crf": "40", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = pictures.width // 4 * 2, pictures.height // 4 * 2, "yuv420p"
        audio = target.add_stream("aac", rate=44_100, layout="mono")
        audio.bit_rate = 32_000
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=44_100)
        for frame in source.decode(video=0, audio=0):
            if isinstance(frame, av.VideoFrame):
                target.mux(video.encode(frame.reformat(video.width, video.height, "yuv420p")))
            else:
                target.mux([packet for piece in resampler.resample(frame) for packet in audio.encode(piece)])
        target.mux(video.encode(None))
        target.mux(audio.encode(None))
    return out


def row(name: str, pictures: np.ndarray, sound: np.ndarray) -> list[str]:
    """Quantiles of one kind of pairs, and the share that is called alike."""
    cells = [f"{np.nanmin(part):.2f} {np.nanmedian(part):.2f} {np.nanmax(part):.2f}" for part in (pictures, sound)]
    called = alike(pictures, sound)
    return [name, str(len(pictures)), *cells, f"{int(called.sum())} of {len(called)}"]


def main() -> None:
    """A table of copies and of other clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--every", type=int, default=1, metavar="K", help="only every K-th file")
    given = parser.parse_args()
    files = [path for path in sorted(given.data.rglob("*")) if path.suffix in SUFFIXES]
    files = [path for path in files[:: given.every] if has_both(path)]
    clips = [printed(path) for path in files]
    with TemporaryDirectory() as folder:
        again = [encoded_again(path, Path(folder) / f"{number}.mp4") for number, path in enumerate(files)]
        kinds = {
            "encoded again": [printed(path) for path in again],
            "48 x 48": [printed(path, resolution=48) for path in files],
            f"{SHIFT_S} s later": [printed(path, later_s=SHIFT_S) for path in files],
            f"encoded again, {SHIFT_S} s later": [printed(path, later_s=SHIFT_S) for path in again],
        }
    rows = [row(name, *(np.diagonal(part) for part in distances(clips, copies, PROTOCOL))) for name, copies in kinds.items()]
    pictures, sound = distances(clips, clips, PROTOCOL)
    speaker = np.array([path.parent.name == "grid" for path in files])
    same = np.triu(speaker[:, None] & speaker[None, :], 1)
    other = np.triu(~(speaker[:, None] & speaker[None, :]), 1)
    rows += [row("other clips, one speaker in one room", pictures[same], sound[same]), row("other clips", pictures[other], sound[other])]
    print(f"{len(files)} clips of {given.data}; least, median and largest share of differing bits")
    print(tabulate(rows, headers=["pairs", "number", "pictures", "sound", "called alike"]))


def has_both(path: Path) -> bool:
    """Whether a file has pictures and sound of at least a second."""
    with av.open(str(path)) as container:
        return bool(container.streams.video and container.streams.audio) and (container.duration or 0) >= av.time_base


if __name__ == "__main__":
    main()
