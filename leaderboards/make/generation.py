"""What does a generator make of a tokenizer's tokens?

    python leaderboards/make/generation.py [--recipe ar-mini] [--clips 8000] [--only NAME]

Trains tokenizers of equals (the same clips of arcade-train, as many seen by each) and the same generator through the tokens of each
(trainings in out/ are resumed, finished ones kept), generates arcade-test's first 202 clips (two of each game) for each task, as does the
generator that comes with avtok; puts the rows into results/ and writes leaderboards/generation-RECIPE.md: bits per held-out clip,
each row against `shuffled` and chance, each tokenizer against AVTok under VFAL. With --only, the others' rows are those that were kept;
distances of distributions are then compared for none of them (their features are not kept). The tables themselves: `avbench table --split
arcade-test`.

Bits are of all target tokens of a clip under the generator: they compare tokenizers of any length, but a tokenizer that says less about a
clip also costs fewer; read them beside its reconstruction.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av

from avbench.board.compare import compare
from avbench.generate.tasks import GenerationTask
from avbench.generate.trainee import GeneratorTraining
from avbench.leaderboards.make.common import KEPT_GENERATORS, RUNS, difference, pipe_table, rows, run
from avbench.leaderboards.make.published import publish
from avbench.leaderboards.make.sampling import GUIDED, words
from avbench.run.evaluate import load
from avbench.train import recipes
from avbench.train.loop import train as train_to_the_end
from avbench.types import RunSpec, Sampling

SPLIT, CLIPS, TRAINED_ON = "arcade-test", 202, 2_020
PLACE = f"{{task}}_{SPLIT}_*_first-{CLIPS}"  # of a published row
TOKENIZER_CLIPS = 5_200  # seen by each tokenizer of equals, as in schedules.py
TASKS: tuple[GenerationTask, ...] = ("a2v", "v2a", "av")
CONTROLS: dict[str, tuple[str, ...]] = {  # real and copy-train show whole clips, in every task the same
    "a2v": ("shuffled",), "v2a": ("shuffled",), "av": ("real", "shuffled", "copy-train"),
}  # fmt: skip
CHANCE = 1 / 101
# The same for every generator. On arcade-val no other way is clearly better (sampling.py); first looked at on test clips.
SAMPLING: dict[str, dict[str, Any]] = {"a2v": GUIDED, "v2a": GUIDED, "av": GUIDED | {"chain": True}}
ACCURACY = {"a2v": "class_accuracy_video", "v2a": "class_accuracy_audio", "av": "class_accuracy_av"}
COMPARED = ("gfvd", "gfad_aisfx", "class_accuracy_video", "class_accuracy_audio", "av_agreement")
PAGE = """# Generators ({recipe}) at an equal number of clips

Made by `python leaderboards/make/generation.py`: {clips:,} training clips seen by each generator in all ({trained_on:,} different ones of
arcade-train, the three tasks in turn), {tokenizer_clips:,} of the same by each tokenizer (by each half of a composite), one seed. Generated
for the first {num} clips of {split} with {sampling}. Intervals and tests are over clips: they do not cover the luck of a seed.

## Held-out bits

101 clips of arcade-val, whole targets; perplexity is of one token. Minutes: of one core, often shared with other work. {shipped} is the
generator that comes with avtok ({clips_shipped:,} clips), of a tokenizer that saw more. "alone": a model of that task only, which saw
as many clips of it as the model of three tasks.

{bits}

## Does what is generated belong together, and to its class?

AV agreement: B - A against `shuffled`, paired over clips, 95 % interval; * p < 0.05 after Holm's correction over all metrics of the two
runs. Class accuracy (of {classified}) with its 95 % interval; chance is {chance:.2%}.

{verdicts}

## Against {base}

B - A, paired over the clips, 95 % interval; * p < 0.05 after Holm's correction over all metrics.

{paired}
"""


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A tokenizer that a generator is trained on. recipes: of its parts, trained here (out/RECIPE-CLIPS); none: as it comes.

    generator: one that is trained already; else out/GENERATOR-NAME-CLIPS.
    """

    name: str
    tokenizer: str
    recipes: tuple[str, ...] = ()
    generator: Path | None = None

    @property
    def checkpoint(self) -> str | None:
        """Of its parts, as `--checkpoint` takes them."""
        return "+".join(str(part_folder(recipe)) for recipe in self.recipes) or None


GENERATORS = (
    Speaker(name="avtok-vfal", tokenizer="avtok", recipes=("avtok-mini",)),
    Speaker(name="avtok-vanilla", tokenizer="avtok", recipes=("avtok-mini-vanilla",)),
    Speaker(name="larp+wavtokenizer", tokenizer="larp+wavtokenizer", recipes=("larp-mini", "wavtokenizer-mini-40")),
    Speaker(name="avtok-plain as it comes", tokenizer="avtok-plain", generator=Path("tokenizers/avtok/plain/generator")),
)
BASE = GENERATORS[0].name


def part_folder(recipe: str) -> Path:
    """Where a tokenizer of equals is, or will be."""
    return Path("out") / f"{recipe}-{TOKENIZER_CLIPS}"


def train(speaker: Speaker, recipe: str, clips: int) -> Path:
    """The generator's folder, trained to its end on a tokenizer that is."""
    for part in speaker.recipes:
        train_to_the_end(part, limit=TRAINED_ON, clips=TOKENIZER_CLIPS, out=part_folder(part))
    out = generator_folder(speaker, recipe, clips)
    if speaker.generator is None:
        train_generator(speaker, recipe, TASKS, clips, out)
    return out


def train_generator(speaker: Speaker, recipe: str, tasks: tuple[GenerationTask, ...], clips: int, out: Path) -> None:
    """Train, or go on, or find it finished."""
    config = recipes.config(recipe)
    assert isinstance(config, GeneratorTraining)
    train_to_the_end(config.of(speaker.tokenizer, speaker.checkpoint, tasks), limit=TRAINED_ON, clips=clips, out=out)


def train_alone(task: GenerationTask, recipe: str, clips: int) -> None:
    """A model of one task of BASE's tokens, on as many clips of it as the model of three tasks saw; its manifest is kept."""
    speaker, turns = GENERATORS[0], len(TASKS)
    out = Path("out") / f"{recipe}-{BASE}-{task}-{clips}"
    train_generator(speaker, recipe, (task,), clips // turns, out)
    keep_generator(out, alone_name(task), clips)


def alone_name(task: str) -> str:
    """Of a kept manifest and its row."""
    return f"{BASE}, {task} alone"


def generator_folder(speaker: Speaker, recipe: str, clips: int) -> Path:
    """Where its generator is, or will be."""
    return speaker.generator or Path("out") / f"{recipe}-{speaker.name}-{clips}"


def control(name: str, task: str) -> Path:
    """The finished run of real clips: the kept one, where it was made by the same code of the same clips."""
    run_id = load(RunSpec(tokenizer=name, split=SPLIT, task=task, limit=CLIPS)).run_id
    kept = [row for row in rows(place=PLACE.format(task=task)) if json.loads((row / "result.json").read_text())["run_id"] == run_id]
    return kept[0] if kept else evaluate(Speaker(name=name, tokenizer=name), None, task)


def evaluate(speaker: Speaker, generator: Path | None, task: str) -> Path:
    """The finished run's folder; its row is published."""
    finished = run(spec(speaker, generator, task), save_samples=2)
    publish(finished)
    return finished


def spec(speaker: Speaker, generator: Path | None, task: str) -> RunSpec:
    """generator: None for rows of real clips."""
    blank = RunSpec(tokenizer=speaker.tokenizer, checkpoint=speaker.checkpoint, task=task, split=SPLIT, limit=CLIPS)
    return replace(blank, generator=str(generator), sampling=Sampling(**SAMPLING[task])) if generator else blank


def bits_row(name: str, clips: int) -> list[str]:
    """Bits per clip of each task, and perplexity of a token, by the kept manifest."""
    facts = json.loads(_kept_generator(name, clips).read_text())
    layout = facts["layout"] if "layout" in facts else facts["config"]["layout"]  # manifests of version 1 had it beside their config
    held_out, space = facts["provenance"]["held_out"], layout["space"]
    tokens = [str(space[name]["num_codebooks"] * space[name]["length"]) for name in ("video", "audio")]
    pairs = [(held_out.get(f"{task}_bits"), held_out.get(f"{task}_perplexity")) for task in TASKS]
    numbers = ["" if bits is None else f"{bits:,.0f} ({perplexity:.1f})" for bits, perplexity in pairs]
    return [name, " + ".join(tokens), *numbers, f"{facts['provenance']['minutes']:.0f}"]


def verdict_row(name: str, task: str, run: Path, shuffled: Path) -> list[str]:
    """Agreement against `shuffled`, class accuracy against chance."""
    agreement = next(row for row in compare(shuffled, run).rows if row.column.metric == "av_agreement")
    values: dict[str, Any] = {value["name"]: value for value in json.loads((run / "result.json").read_text())["values"]}
    accuracy = values[ACCURACY[task]]
    found = agreement.difference
    star = " *" if agreement.p_holm is not None and agreement.p_holm < 0.05 else ""
    difference = "n/a" if found.difference is None else f"{found.difference:+.1%} [{found.ci_low:+.1%}, {found.ci_high:+.1%}]{star}"
    if accuracy["value"] is None:
        return [task, name, difference, f"n/a: {accuracy['reason']}", ""]
    better = "yes" if accuracy["ci_low"] > CHANCE else "no"
    return [task, name, difference, f"{accuracy['value']:.1%} [{accuracy['ci_low']:.1%}, {accuracy['ci_high']:.1%}]", better]


def paired_rows(runs: dict[tuple[str, str], Path]) -> list[list[str]]:
    """Task, speaker, and each metric of COMPARED against BASE. runs: of (task, speaker)."""
    rows = []
    for (task, name), folder in runs.items():
        if name != BASE and (task, BASE) in runs:
            found = {row.column.metric: row for row in compare(runs[task, BASE], folder).rows}
            rows.append([task, name, *(difference(found[metric]) for metric in COMPARED)])
    return rows


def animate(run: Path, path: Path) -> None:
    """The run's first sample (no other is chosen) as an animated picture, without its sound."""
    movie = min((run / "samples").glob("*.mp4"))
    with av.open(str(movie)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
        rate = container.streams.video[0].average_rate
    assert rate is not None
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=round(1000 / float(rate)), loop=0, quality=60)


def keep_generator(folder: Path, name: str, clips: int) -> None:
    """The kept manifest: whose tokens, how trained, held-out bits."""
    file = _kept_generator(name, clips)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((folder / "manifest.json").read_text())


def _kept_generator(name: str, clips: int) -> Path:
    return KEPT_GENERATORS / f"{name}-{clips}.json"


def kept_run(speaker: Speaker, generator: Path, task: str) -> Path | None:
    """The published row of the same spec, if there is one; the whole run where it is here."""
    wanted = spec(speaker, generator, task).facts()
    wanted = {name: value for name, value in wanted.items() if name not in ("metrics", "device", "batch_size")}
    for row in rows(place=PLACE.format(task=task)):
        result = json.loads((row / "result.json").read_text())
        if wanted.items() <= result["spec"].items():
            whole = RUNS / result["run_id"]
            return whole if whole.exists() else row
    return None


def page(recipe: str, clips: int, runs: dict[tuple[str, str], Path], controls: dict[tuple[str, str], Path]) -> str:
    """The page of all rows at hand. runs, controls: of (task, name)."""
    names = [*(speaker.name for speaker in GENERATORS), *(alone_name(task) for task in TASKS)]
    known = [name for name in names if _kept_generator(name, clips).exists()]
    shipped = json.loads((GENERATORS[-1].generator / "manifest.json").read_text())  # type: ignore[operator]
    verdicts = [verdict_row(name, task, run, controls[task, "shuffled"]) for (task, name), run in {**runs, **controls}.items()]
    heads = ["tokens of", "video + audio tokens", *(f"{task} bits (perplexity)" for task in TASKS), "minutes"]
    return PAGE.format(
        recipe=recipe, clips=clips, trained_on=TRAINED_ON, tokenizer_clips=TOKENIZER_CLIPS, num=CLIPS, split=SPLIT, chance=CHANCE,
        base=BASE, shipped=f'"{GENERATORS[-1].name}"', clips_shipped=shipped["provenance"]["clips_seen"],
        sampling=f"{words(GUIDED)} (av: --chain too)",
        classified="the video for a2v, the sound for v2a, both for av",
        bits=pipe_table([bits_row(name, clips) for name in known], heads),
        verdicts=pipe_table(sorted(verdicts), ["task", "row", "AV agreement against shuffled", "class accuracy", "above chance"]),
        paired=pipe_table(paired_rows(runs), ["task", "tokens of", *COMPARED]),
    )  # fmt: skip


def main() -> None:
    """Train, generate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="ar-mini")
    parser.add_argument("--clips", type=int, default=8_000)
    parser.add_argument("--only", action="append", help="Of GENERATORS, by name; may be repeated.")
    given = parser.parse_args()
    runs: dict[tuple[str, str], Path] = {}
    for speaker in GENERATORS:
        chosen = not given.only or speaker.name in given.only
        folder = train(speaker, given.recipe, given.clips) if chosen else generator_folder(speaker, given.recipe, given.clips)
        if chosen:
            keep_generator(folder, speaker.name, given.clips)
        for task in TASKS:
            if chosen and speaker.name == BASE:
                train_alone(task, given.recipe, given.clips)
            found = evaluate(speaker, folder, task) if chosen else kept_run(speaker, folder, task)
            runs |= {(task, speaker.name): found} if found else {}
            if chosen and found and speaker is GENERATORS[-1]:
                animate(found, Path("docs") / f"generated-{task}.webp")
    controls = {(task, name): control(name, task) for task, names in CONTROLS.items() for name in names}
    Path("leaderboards", f"generation-{given.recipe}.md").write_text(page(given.recipe, given.clips, runs, controls))


if __name__ == "__main__":
    main()
