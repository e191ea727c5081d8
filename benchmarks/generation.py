"""What does a generator make of a tokenizer's tokens? `python benchmarks/generation.py [--recipe ar-mini] [--clips 16000] [--only NAME]`.

Trains the same generator on the same clips of arcade-train through the tokens of each tokenizer of GENERATORS (runs in out/ are resumed,
finished ones kept), generates arcade-test's first 202 clips (two of each game) for each task, keeps the results in runs/reference/ and
writes leaderboards/generation-RECIPE.md: bits per held-out clip, and each row against `shuffled` and chance. The tables themselves:
`avbench table --split arcade-test`.

Bits are of all target tokens of a clip under the generator: they compare tokenizers of any length, but a tokenizer that says less about a
clip also costs fewer; read them beside its reconstruction.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from reference import keep
from tabulate import tabulate

from avbench.compare import compare

SPLIT, CLIPS, TRAINED_ON = "arcade-test", 202, 2_020
DRAWN = ("--temperature", "0.5", "--guidance", "3")  # the same for every generator
TASKS = ("a2v", "v2a", "av")
CONTROLS = ("real", "shuffled", "copy-train")
CHANCE = 1 / 101
JUDGED = {"a2v": "class_accuracy_video", "v2a": "class_accuracy_audio", "av": "class_accuracy_av"}
PAGE = """# Generators ({recipe}) at an equal number of clips

Made by `python benchmarks/generation.py`: {clips:,} training clips seen in all ({trained_on:,} different ones of arcade-train, the three
tasks in turn), one seed; generated for the first {num} clips of {split} with {drawn}.

## Held-out bits

101 clips of arcade-val, whole targets; perplexity is of one token. Minutes: of one core, often shared with other work.

{bits}

## Does what is generated belong together, and to its class?

AV agreement: B - A against `shuffled`, paired over clips, 95 % interval; * p < 0.05 after Holm's correction over all metrics of the two
runs. Class accuracy (of {judged}) with its 95 % interval; chance is {chance:.2%}.

{verdicts}
"""


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A tokenizer that a generator is trained on. name: of its folder, out/RECIPE-NAME-CLIPS."""

    name: str
    tokenizer: str
    checkpoint: str | None = None

    def arguments(self, option: str) -> list[str]:
        """For the command line."""
        return ["--tokenizer", self.tokenizer, *([option, self.checkpoint] if self.checkpoint else [])]


GENERATORS = (
    Speaker(name="avtok", tokenizer="avtok"),
    Speaker(name="larp+wavtokenizer", tokenizer="larp+wavtokenizer", checkpoint="out/larp-mini+out/wavtokenizer-mini-40"),
    Speaker(name="avtok-vfal-5200", tokenizer="avtok", checkpoint="out/schedules/avtok-mini-5200"),
    Speaker(name="avtok-vanilla-5200", tokenizer="avtok", checkpoint="out/schedules/avtok-mini-vanilla-5200"),
)


def avbench(*arguments: str) -> str:
    """The last line that `avbench ARGUMENTS` prints. Raises CalledProcessError where it fails."""
    done = subprocess.run([sys.executable, "-m", "avbench", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def train(speaker: Speaker, recipe: str, clips: int) -> Path:
    """The generator's folder, trained to its end."""
    out = Path("out") / f"{recipe}-{speaker.name}-{clips}"
    options = ["--limit", str(TRAINED_ON), "--clips", str(clips), "--out", str(out)]
    avbench("train", recipe, *speaker.arguments("--tokenizer-checkpoint"), *options)
    return out


def evaluate(speaker: Speaker, generator: Path | None, task: str) -> Path:
    """The finished run's folder; kept in runs/reference/."""
    chosen = ["--generator", str(generator), *DRAWN] if generator else []
    run = Path(
        avbench("run", *speaker.arguments("--checkpoint"), *chosen, "--task", task, "--split", SPLIT, "--limit", str(CLIPS),
                "--save-samples", "2")
    )  # fmt: skip
    keep(run)
    return run


def bits_row(speaker: Speaker, folder: Path) -> list[str]:
    """Bits per clip of each task, and perplexity of a token."""
    facts = json.loads((folder / "manifest.json").read_text())
    held_out, space = facts["provenance"]["held_out"], facts["layout"]["space"]
    tokens = [str(space[name]["num_codebooks"] * space[name]["length"]) for name in ("video", "audio")]
    numbers = [f"{held_out[f'{task}_bits']:,.0f} ({held_out[f'{task}_perplexity']:.0f})" for task in TASKS]
    return [speaker.name, " + ".join(tokens), *numbers, f"{facts['provenance']['minutes']:.0f}"]


def verdict_row(name: str, task: str, run: Path, shuffled: Path) -> list[str]:
    """Agreement against `shuffled`, class accuracy against chance."""
    agreement = next(row for row in compare(shuffled, run).rows if row.column.metric == "av_agreement")
    values: dict[str, Any] = {value["name"]: value for value in json.loads((run / "result.json").read_text())["values"]}
    accuracy = values[JUDGED[task]]
    found = agreement.difference
    star = " *" if agreement.p_holm is not None and agreement.p_holm < 0.05 else ""
    difference = "n/a" if found.difference is None else f"{found.difference:+.1%} [{found.ci_low:+.1%}, {found.ci_high:+.1%}]{star}"
    if accuracy["value"] is None:
        return [task, name, difference, f"n/a: {accuracy['reason']}", ""]
    better = "yes" if accuracy["ci_low"] > CHANCE else "no"
    return [task, name, difference, f"{accuracy['value']:.1%} [{accuracy['ci_low']:.1%}, {accuracy['ci_high']:.1%}]", better]


def animate(run: Path, path: Path) -> None:
    """The run's first sample (no other is chosen) as an animated picture, without its sound."""
    movie = min((run / "samples").glob("*.mp4"))
    with av.open(str(movie)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
        rate = container.streams.video[0].average_rate
    assert rate is not None
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=round(1000 / float(rate)), loop=0, quality=60)


def main() -> None:
    """Train, generate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="ar-mini")
    parser.add_argument("--clips", type=int, default=16_000)
    parser.add_argument("--only", action="append", help="Of GENERATORS, by name; may be repeated.")
    given = parser.parse_args()
    chosen = [speaker for speaker in GENERATORS if not given.only or speaker.name in given.only]
    controls = {(task, name): evaluate(Speaker(name=name, tokenizer=name), None, task) for task in TASKS for name in CONTROLS}
    bits, verdicts = [], []
    for speaker in chosen:
        folder = train(speaker, given.recipe, given.clips)
        bits.append(bits_row(speaker, folder))
        for task in TASKS:
            run = evaluate(speaker, folder, task)
            verdicts.append(verdict_row(speaker.name, task, run, controls[task, "shuffled"]))
            print(run.name, flush=True)
            if speaker is GENERATORS[0]:
                animate(run, Path("docs") / f"generated-{task}.webp")
    for (task, name), run in controls.items():
        verdicts.append(verdict_row(name, task, run, controls[task, "shuffled"]))
    page = PAGE.format(
        recipe=given.recipe, clips=given.clips, trained_on=TRAINED_ON, num=CLIPS, split=SPLIT, drawn=" ".join(DRAWN), chance=CHANCE,
        judged="the video for a2v, the sound for v2a, both for av",
        bits=tabulate(bits, headers=["tokens of", "video + audio tokens", *(f"{task} bits (perplexity)" for task in TASKS), "minutes"],
                      tablefmt="pipe", disable_numparse=True),
        verdicts=tabulate(sorted(verdicts), headers=["task", "row", "AV agreement against shuffled", "class accuracy", "above chance"],
                          tablefmt="pipe", disable_numparse=True),
    )  # fmt: skip
    Path("leaderboards", f"generation-{given.recipe}.md").write_text(page)


if __name__ == "__main__":
    main()
