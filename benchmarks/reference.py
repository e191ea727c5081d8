"""Makes the results that the README's tables are built of: `python benchmarks/reference.py [SPLIT ...]`.

arcade-mini and vggsound-test have every tokenizer, arcade-test (1,010 clips, a quarter of an hour each) AVTok and its controls.

Evaluates every built-in tokenizer (resuming what is there) and keeps manifest, rows and values in runs/reference/; then
`avbench table --runs-dir runs/reference --write` and `python benchmarks/readme.py`. Features, for `avbench compare`, stay in runs/.
"""

import shutil
import subprocess
import sys
from pathlib import Path

TOKENIZERS = (
    "avtok",
    "static-frame+silence",
    "identity",
    "mel-vocoder",
    "h264",
    "opus",
    "h264-opus",
    "h264@5k-opus@12k",
    "pca-vq@128x12",
    "pca-vq",
    "pca-vq@1024x13",
)
SPLITS = {
    "arcade-mini": TOKENIZERS,
    "vggsound-test": TOKENIZERS,
    "arcade-test": ("avtok", "static-frame+silence", "class-mean", "mel-vocoder", "pca-vq"),
}
KEPT = ("manifest.json", "result.json", "clips.jsonl")
REFERENCE = Path("runs") / "reference"


def evaluate(tokenizer: str, split: str) -> Path:
    """The folder of the finished run. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "avbench", "run", "--tokenizer", tokenizer, "--split", split]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip().splitlines()[-1])


def keep(run: Path) -> None:
    """Copy the small files of `run` to runs/reference/, in place of an earlier run of the same tokenizer and split."""
    name = run.name.rpartition("_")[0]
    for old in REFERENCE.glob(f"{name}_*"):
        if old.name.rpartition("_")[0] == name:
            shutil.rmtree(old)
    (REFERENCE / run.name).mkdir(parents=True)
    for file in KEPT:
        shutil.copy(run / file, REFERENCE / run.name / file)


def main() -> None:
    """Every tokenizer on every split asked for."""
    for split in sys.argv[1:] or SPLITS:
        for tokenizer in SPLITS[split]:
            run = evaluate(tokenizer, split)
            keep(run)
            print(run.name, flush=True)


if __name__ == "__main__":
    main()
