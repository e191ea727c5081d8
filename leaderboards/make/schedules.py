"""Does the hierarchical schedule pay?

    python leaderboards/make/schedules.py [--recipe avtok-mini] [--clips 5200] [--limit 2020] [--out DIR]

Trains VFAL, vanilla, dual and three weighted settings on the same clips, in the same order, from the same seed (runs in DIR are resumed,
finished ones kept), evaluates all on arcade-mini, and writes leaderboards/schedules-RECIPE.md: the table, and each schedule against VFAL,
paired clip by clip. "Equal" is the number of clips seen. A joint clip passes through both streams, a clip of stage video through one, so
VFAL computes less; the FLOPs stand beside it.
"""

import argparse
import json
from pathlib import Path

from avbench.board.columns import Column
from avbench.board.compare import compare
from avbench.board.formats import render
from avbench.board.table import leaderboard
from avbench.leaderboards.make.common import KEPT_SCHEDULES, RUNS, difference, pipe_table, run
from avbench.leaderboards.make.published import publish
from avbench.paths import cache_root
from avbench.train import recipes
from avbench.train.config import TrainConfig
from avbench.train.loop import train
from avbench.types import RunSpec

SCHEDULES = ("", "-vanilla", "-weighted-a", "-weighted-b", "-weighted-c", "-dual")
METRICS = ("psnr", "ssim", "lpips", "fvd", "mr_stft", "si_sdr_aligned", "fad_aisfx")
SHOWN = (*METRICS, "tokens_per_s", "bits_per_s", "codebook_use", "codebook_perplexity")
HERE = RUNS / "schedules"
SPLIT = "arcade-mini"
PAGE = """# Schedules of {recipe} at an equal number of clips

Made by `python leaderboards/make/schedules.py`: {limit:,} clips of arcade-train, the same order, one seed; evaluated on
{split}. Intervals and tests are over clips: they do not cover the luck of a seed.

## Training

{training}

Held-out: 101 clips of arcade-val. TFLOP: of the tokenizer's own matrix products. Minutes: of one core, often shared with other work.

## Against {base}

B - A, paired over {split}'s clips, 95 % interval; * p < 0.05 after Holm's correction over all metrics.

{paired}

{table}"""
DUAL = "tokenizers/avtok/dual.py:DualAVTok"


def evaluate(recipe: str, checkpoint: Path) -> Path:
    """The folder of the finished run on arcade-mini."""
    tokenizer = DUAL if recipe.endswith("-dual") else "avtok"
    return run(RunSpec(tokenizer=tokenizer, checkpoint=str(checkpoint), split=SPLIT, metrics=SHOWN), runs_dir=HERE)


def training_row(name: str, config: TrainConfig, out: Path) -> list[str]:
    """Schedule, clips by stage, operations of all its training steps, minutes, held-out PSNR and mel L1."""
    manifest = json.loads(next(iter(sorted(out.rglob("manifest.json")))).read_text())
    provenance = manifest["provenance"]
    lengths = " + ".join(f"{stage.clips:,} {stage.name}" for stage in config.stages)
    trainee = config.trainee()
    operations = sum(stage.clips * trainee.flops_per_clip(number) for number, stage in enumerate(config.stages))
    held_out = provenance["held_out"]
    numbers = (f"{operations / 1e12:.0f}", f"{provenance['minutes']:.0f}", f"{held_out['psnr']:.2f}", f"{held_out['mel_l1']:.3f}")
    return [name, lengths, *numbers]


def head(column: Column) -> str:
    """A metric's title with its direction."""
    return f"{column.title} {'↑' if column.higher_is_better else '↓'}"


def report(names: dict[str, Path], configs: list[TrainConfig], runs: dict[str, Path], recipe: str, limit: int) -> str:
    """The page."""
    base = next(iter(names))
    columns = ["schedule", "clips seen, by stage", "training TFLOP", "minutes", "held-out PSNR dB", "held-out mel L1"]
    trained = [training_row(name, config, out) for (name, out), config in zip(names.items(), configs, strict=True)]
    training = pipe_table(trained, columns)
    rows, titles = [], []
    for name in list(names)[1:]:
        found = {row.column.metric: row for row in compare(runs[base], runs[name]).rows}
        picked = [found[metric] for metric in METRICS]
        titles = [head(row.column) for row in picked]
        rows.append([name, *(difference(row) for row in picked)])
    paired = pipe_table(rows, ["schedule", *titles])
    table = render(leaderboard(HERE, SPLIT, reported=False), "md")
    return PAGE.format(recipe=recipe, limit=limit, split=SPLIT, base=base, training=training, paired=paired, table=table)


def main() -> None:
    """Train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="avtok-mini")
    parser.add_argument("--clips", type=int, default=5_200)
    parser.add_argument("--limit", type=int, default=2_020)
    parser.add_argument("--out", type=Path, default=cache_root() / "train" / "schedules")
    given = parser.parse_args()
    wanted = [given.recipe + schedule for schedule in SCHEDULES]
    configs = [recipes.shortened(recipes.config(name), given.clips) for name in wanted]
    names = {config.name: given.out / config.name for config in configs}
    runs = {}
    for recipe, (name, out) in zip(wanted, names.items(), strict=True):
        train(recipe, clips=given.clips, limit=given.limit, out=out)
        runs[name] = evaluate(recipe, out)
        publish(runs[name], KEPT_SCHEDULES)
    Path("leaderboards", f"schedules-{given.recipe}.md").write_text(report(names, configs, runs, given.recipe, given.limit))


if __name__ == "__main__":
    main()
