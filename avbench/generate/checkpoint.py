"""A trained generator as a folder (avbench/artifact.py). It remembers whose tokens it speaks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from avbench import artifact
from avbench.errors import AvbenchError, UsageError
from avbench.generate.model import Generator, GeneratorConfig
from avbench.generate.space import space_from_dict
from avbench.generate.tasks import TASKS, Layout
from avbench.generate.tokens import check_tokenizer
from avbench.tokenizer import Tokenizer

KIND = "generator"
MANIFEST = artifact.MANIFEST


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A generator in eval mode. tokenizer: name and revision of the one whose tokens it learned. revision: of its weights."""

    model: Generator
    layout: Layout
    tokenizer: str
    tokenizer_revision: str
    revision: str
    provenance: dict[str, Any]


def save_generator(
    folder: Path,
    model: Generator,
    layout: Layout,
    tokenizer: tuple[str, str],
    provenance: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the folder. tokenizer: its name and revision. dtype: on disk. provenance: JSON values."""
    config = {
        "model": asdict(model.config),
        "layout": {"space": asdict(layout.space), "tasks": layout.tasks, "classes": layout.classes},
        "tokenizer": {"name": tokenizer[0], "revision": tokenizer[1]},
    }
    state = {name: tensor.detach().to("cpu", dtype) for name, tensor in model.state_dict().items()}
    artifact.write(folder, kind=KIND, config=config, state=state, provenance=provenance)


def load_generator(folder: Path, device: torch.device | str = "cpu") -> Trained:
    """Raises AvbenchError for a folder that is missing, damaged or something else, before anything is computed."""
    found = _read(folder)
    config, layout = _config(folder, found.config.get("model")), _layout(folder, found.config.get("layout"))
    tokenizer = _tokenizer(folder, found.config.get("tokenizer"))
    try:
        with torch.device("meta"):
            model = build(config, layout)
    except Exception as error:  # a config out of a foreign manifest can fail a constructor in any way
        raise AvbenchError(f"{folder}: its config makes no model: {type(error).__name__}: {error}") from error
    model.load_state_dict(found.state(model.state_dict()), assign=True)
    return Trained(
        model=model.float().eval().requires_grad_(False).to(device),
        layout=layout,
        tokenizer=tokenizer["name"],
        tokenizer_revision=tokenizer["revision"],
        revision=found.revision,
        provenance=found.provenance,
    )


def check_match(trained: Trained, tokenizer: Tokenizer, task: str) -> None:
    """Raises UsageError where this generator cannot do `task` with this tokenizer: another tokenizer or revision, or a task not learned."""
    check_tokenizer(tokenizer)
    if task not in trained.layout.tasks:
        raise UsageError(f"this generator learned {', '.join(trained.layout.tasks)}, not {task}; train one with --tasks {task}")
    name, revision = tokenizer.info.name, tokenizer.info.revision
    if name != trained.tokenizer:
        raise UsageError(f"this generator speaks the tokens of {trained.tokenizer}, not of {name}")
    if revision != trained.tokenizer_revision:
        raise UsageError(
            f"this generator was trained on {name} of revision {trained.tokenizer_revision}, here it is {revision}: its tokens mean "
            "something else. Give the tokenizer that it was trained on (--checkpoint), or train the generator again"
        )


def speaks(folder: Path, tokenizer: Tokenizer, task: str) -> bool:
    """Whether the folder's manifest is of a generator of `task` for exactly this tokenizer. Its weights are not read."""
    try:
        config = _read(folder).config
        wanted = {"name": tokenizer.info.name, "revision": tokenizer.info.revision}
        return bool(config.get("tokenizer") == wanted and task in _layout(folder, config.get("layout")).tasks)
    except (AvbenchError, OSError):
        return False


def build(config: GeneratorConfig, layout: Layout, compute_dtype: torch.dtype = torch.float32) -> Generator:
    """A generator for the layout's vocabulary, weights initialised at random."""
    return Generator(
        config, num_ids=layout.num_ids, num_codes=layout.space.num_codes, num_slots=layout.num_slots, compute_dtype=compute_dtype
    )


def _read(folder: Path) -> artifact.Artifact:
    if not (folder / MANIFEST).exists():
        raise AvbenchError(f"{folder} holds no trained generator: it has no {MANIFEST}; avbench train ar-mini makes one")
    return artifact.read(folder, KIND)


def _tokenizer(folder: Path, values: Any) -> dict[str, str]:
    if not isinstance(values, Mapping) or not all(isinstance(values.get(key), str) for key in ("name", "revision")):
        raise AvbenchError(f"{folder / MANIFEST} does not say whose tokens its generator speaks")
    return dict(values)


def _config(folder: Path, values: Any) -> GeneratorConfig:
    try:
        config = GeneratorConfig(**values)
        artifact.check_name(config.name, str(folder / MANIFEST))
        sizes = (config.width, config.layers, config.heads, config.hidden)
        if not all(type(size) is int and size > 0 for size in sizes) or config.positions not in ("learned", "rope"):
            raise ValueError(f"sizes {sizes}, positions {config.positions!r}")
    except (TypeError, ValueError, AssertionError) as error:
        raise AvbenchError(f"the config in {folder / MANIFEST} is damaged: {error}") from error
    return config


def _layout(folder: Path, values: Any) -> Layout:
    try:
        space, tasks, classes = space_from_dict(values["space"]), tuple(values["tasks"]), tuple(values["classes"])
        if not set(tasks) <= set(TASKS) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"tasks {tasks}")
        return Layout(space=space, tasks=tasks, classes=classes)
    except (KeyError, TypeError, ValueError, AvbenchError) as error:
        raise AvbenchError(f"the layout in {folder / MANIFEST} is damaged: {error}") from error
