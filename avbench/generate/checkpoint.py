"""A trained generator as a folder: `manifest.json` and `model.safetensors`. It remembers whose tokens it speaks."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from avbench.errors import AvbenchError, UsageError
from avbench.generate.config import GeneratorConfig
from avbench.generate.model import Generator
from avbench.generate.space import space_from_dict
from avbench.generate.tasks import TASKS, Layout
from avbench.generate.tokens import check_tokenizer
from avbench.tokenizer import Tokenizer
from avbench.weights import sha256_of

KIND = "avbench generator 1"
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
MAX_MANIFEST_BYTES = 4_000_000
MAX_LAYERS, MAX_WIDTH = 1000, 2**16  # of a manifest: no checkpoint of ours comes near


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
    """Write the folder; the manifest comes last, so that a killed write leaves none. tokenizer: its name and revision. dtype: on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    scratch = folder / f".{WEIGHTS}"
    save_file({name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}, scratch)
    scratch.replace(folder / WEIGHTS)
    manifest = {
        "kind": KIND,
        "config": asdict(model.config),
        "layout": {"space": asdict(layout.space), "tasks": layout.tasks, "classes": layout.classes},
        "tokenizer": {"name": tokenizer[0], "revision": tokenizer[1]},
        "weights": {"file": WEIGHTS, "sha256": sha256_of(folder / WEIGHTS)},
        "provenance": provenance,
    }
    scratch = folder / f".{MANIFEST}"
    scratch.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    scratch.replace(folder / MANIFEST)


def load_generator(folder: Path, device: torch.device | str = "cpu") -> Trained:
    """Raises AvbenchError for a folder that is missing, damaged or something else, before anything is computed."""
    manifest = _manifest(folder)
    config, layout = _config(folder, manifest["config"]), _layout(folder, manifest["layout"])
    with torch.device("meta"):
        model = build(config, layout)
    state = _state(folder, manifest["weights"])
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in state.items()}
    if found != expected:
        wrong = sorted({name for name in expected | found if expected.get(name) != found.get(name)})
        raise AvbenchError(f"{folder / WEIGHTS} does not fit its manifest: {', '.join(wrong[:3])}")
    model.load_state_dict(state, assign=True)
    return Trained(
        model=model.float().eval().requires_grad_(False).to(device),
        layout=layout,
        tokenizer=manifest["tokenizer"]["name"],
        tokenizer_revision=manifest["tokenizer"]["revision"],
        revision=manifest["weights"]["sha256"][:16],
        provenance=manifest["provenance"],
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
        manifest = _manifest(folder)
        wanted = {"name": tokenizer.info.name, "revision": tokenizer.info.revision}
        return bool(manifest["tokenizer"] == wanted and task in _layout(folder, manifest["layout"]).tasks)
    except (AvbenchError, OSError):
        return False


def build(config: GeneratorConfig, layout: Layout, compute_dtype: torch.dtype = torch.float32) -> Generator:
    """A generator for the layout's vocabulary, weights drawn at random."""
    return Generator(
        config, num_ids=layout.num_ids, num_codes=layout.space.num_codes, num_slots=layout.num_slots, compute_dtype=compute_dtype
    )


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        raise AvbenchError(f"{folder} holds no trained generator: it has no {MANIFEST}; avbench train ar-mini makes one")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise AvbenchError(f"{file} is too large for a manifest ({file.stat().st_size:,} bytes)")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        kind = manifest["kind"]
        texts = [manifest["tokenizer"]["name"], manifest["tokenizer"]["revision"], manifest["weights"]["sha256"]]
        known = isinstance(manifest["provenance"], dict) and all(isinstance(text, str) for text in texts)
    except (ValueError, KeyError, TypeError) as error:
        raise AvbenchError(f"{file} is not the manifest of a generator: {type(error).__name__}: {error}") from error
    if kind != KIND or not known or not {"config", "layout"} <= set(manifest):
        raise AvbenchError(f"{file} is not the manifest of a generator that this version can read ({kind!r})")
    return manifest  # type: ignore[no-any-return]


def _config(folder: Path, values: Any) -> GeneratorConfig:
    try:
        config = GeneratorConfig(**values)
        sizes = (config.width, config.layers, config.heads, config.hidden)
        sound = all(type(size) is int and size > 0 for size in sizes) and config.layers <= MAX_LAYERS
        if not sound or max(config.width, config.hidden) > MAX_WIDTH or config.positions not in ("learned", "rope"):
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


def _state(folder: Path, weights: dict[str, Any]) -> dict[str, torch.Tensor]:
    file = folder / WEIGHTS
    if not file.is_file():
        raise AvbenchError(f"{file} is missing; copy the whole folder")
    if sha256_of(file) != weights["sha256"]:
        raise AvbenchError(f"{file} is damaged: its sha256 is not the manifest's; copy it again")
    try:
        return load_file(file)
    except (SafetensorError, ValueError) as error:
        raise AvbenchError(f"{file} cannot be read: {error}") from error
