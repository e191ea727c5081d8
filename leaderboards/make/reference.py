"""Makes the results that the pages' tables are built of: `python leaderboards/make/reference.py [SPLIT ...]`.

arcade-mini and vggsound-test have every tokenizer at every setting, arcade-test (1,010 clips, a quarter of an hour each) a selection.
The baselines trained here are read from out/, where `avbench train RECIPE --limit 2020` leaves them; those that are not there are named
and left out.

Evaluates (resuming what is there) and puts the rows into results/, where `leaderboards/make/published.py` puts any run; then
`avbench table --results results --write` and `python benchmarks/readme.py`.
"""

import sys
from pathlib import Path

from avbench.leaderboards.make.common import run
from avbench.leaderboards.make.published import publish
from avbench.types import RunSpec

TOKENIZERS = (
    "avtok",
    "static-frame+silence",
    "nearest-train",
    "identity",
    "mel-vocoder",
    "h264",
    "opus",
    "h264-opus",
    "h264@5k-opus@12k",
    "h264@1k-opus@6k",
    "pca-vq@128x12",
    "pca-vq",
    "pca-vq@1024x13",
    "pca-vq@8x8x16x12@128x12",
    "scene-vq",
    "scene-vq@16s",
)
LARP, WAV_40, WAV_75, ENCODEC = "out/larp-mini", "out/wavtokenizer-mini-40", "out/wavtokenizer-mini-75", "out/encodec-mini"
TRAINED_HERE = (  # tokenizer, --checkpoint
    ("larp", LARP),
    ("wavtokenizer", WAV_40),
    ("wavtokenizer", WAV_75),
    ("encodec@1.5k", ENCODEC),
    ("encodec@3k", ENCODEC),
    ("larp+wavtokenizer", f"{LARP}+{WAV_40}"),
    ("larp+encodec@1.5k", f"{LARP}+{ENCODEC}"),
)
SPLITS = {
    "arcade-mini": TOKENIZERS,
    "vggsound-test": TOKENIZERS,
    "arcade-test": (
        "avtok",
        "static-frame+silence",
        "nearest-train",
        "class-mean",
        "mel-vocoder",
        "pca-vq",
        "pca-vq@8x8x16x12@128x12",
        "scene-vq",
        "scene-vq@16s",
        "h264@1k-opus@6k",
    ),
}


def main() -> None:
    """Every tokenizer on every split asked for."""
    for split in sys.argv[1:] or SPLITS:
        for tokenizer, checkpoint in (*((name, None) for name in SPLITS[split]), *TRAINED_HERE):
            missing = [path for path in (checkpoint or "").split("+") if path and not Path(path).is_dir()]
            if missing:
                print(f"{tokenizer}: left out, {', '.join(missing)} is not there", flush=True)
                continue
            publish(run(RunSpec(tokenizer=tokenizer, split=split, checkpoint=checkpoint)))


if __name__ == "__main__":
    main()
