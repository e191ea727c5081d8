"""Published model files, read without trust: a config, a state of tensors, and a model that the state fits exactly or not at all."""

import hashlib
import importlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from avbench import weights
from avbench.artifact import fill
from avbench.errors import AvbenchError
from avbench.files import read_json
from avbench.weights.load import indexed_files, load_safetensors, load_torch, sha256_of, tensors

Model = TypeVar("Model", bound=nn.Module)

CONFIG = "config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # what a Hugging Face folder may hold, the safer format first
MAX_CONFIG_BYTES = 1_000_000
MAX_NUMBER = 65_536  # a channel count or a codebook of any published codec is below
MAX_DEPTH = 64  # layers, codebooks, entries of a list: 32 codebooks are the most that any codec here has


def require(package: str, extra: str, what: str) -> Any:
    """The imported `package`. Raises AvbenchError with the pip command where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise AvbenchError(f"{what} needs the package {package} ({error}): pip install 'avbench[{extra}]'") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a published folder. Raises AvbenchError where it is absent, damaged or no object."""
    if not (folder / CONFIG).exists():
        raise AvbenchError(f"{folder / CONFIG} is missing: give the folder as it was published, or the file of the weights itself")
    return read_json(folder / CONFIG, MAX_CONFIG_BYTES)


def check_sizes(config: Mapping[str, Any], depths: Collection[str], where: str) -> None:
    """Raise AvbenchError for a size that no codec has, before a model is built of it. `depths`: the names that count layers."""
    for name, value in config.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        limit = MAX_DEPTH if name in depths else MAX_NUMBER
        wrong = [n for n in numbers if n is not None and not isinstance(n, str) and not (isinstance(n, int | float) and 0 <= n <= limit)]
        if wrong or len(numbers) > MAX_DEPTH:
            raise AvbenchError(
                f"{where}: {name} is {str(value)[:80]}; numbers from 0 to {limit}, at most {MAX_DEPTH} of them, are expected"
            )


def first_here(names: Sequence[str]) -> Path:
    """The first of the catalog's files `names` that is on this machine, or the first that can be fetched.

    Raises WeightsUnavailable with the command that gets names[0].
    """
    absent = []
    for fetch in (False, True):
        for name in names:
            try:
                return weights.path(name, fetch=fetch)
            except weights.WeightsUnavailable as error:
                absent.append(error)
    raise absent[len(names)]


def weights_files(folder: Path) -> list[Path]:
    """The files of weights in a Hugging Face folder: one, or those that its index names. Raises AvbenchError where there are none."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return indexed_files(folder / f"{name}.index.json")
    raise AvbenchError(f"{folder} has neither {' nor '.join(WEIGHT_FILES)}: copy the whole folder")


def checked_sha256(files: Sequence[Path]) -> str:
    """sha256 of a file, of several over theirs in order.

    Raises AvbenchError where a name ends in other digits (`name-d7cc33bc.th` is torch.hub's promise).
    """
    digests = []
    for file in files:
        found = sha256_of(file)
        promised = re.search(r"-([0-9a-f]{8,64})$", file.stem)
        if promised and not found.startswith(promised[1]):
            raise AvbenchError(f"{file} has sha256 {found}, but its name promises {promised[1]}: damaged or renamed; download it again")
        digests.append(found)
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def read_state(files: Sequence[Path]) -> Any:
    """What files of weights hold: tensors of safetensors files, or PyTorch files' content, read with weights_only."""
    contents = [load_safetensors(file) if file.suffix == ".safetensors" else load_torch(file) for file in files]
    if len(contents) == 1:
        return contents[0]
    return {name: tensor for content, file in zip(contents, files, strict=True) for name, tensor in tensors(content, file).items()}


def fit(build: Callable[[], Model], state: Mapping[str, Tensor], where: str, device: torch.device | str = "cpu") -> Model:
    """The model on `device` with exactly the tensors of `state`, in eval mode.

    Raises AvbenchError that names what is missing, unknown or mis-shaped. The model is first built without memory, so that a config
    that promises more than the file holds costs nothing.
    """
    try:
        with torch.device("meta"):
            skeleton = build()
    except Exception as error:  # a config out of a foreign file can fail a constructor in any way
        raise AvbenchError(f"{where}: its config makes no model: {type(error).__name__}: {error}") from error
    fill(skeleton, state, where, "what its config says")
    model = build()
    model.load_state_dict(skeleton.state_dict())
    return model.eval().requires_grad_(False).to(device)
