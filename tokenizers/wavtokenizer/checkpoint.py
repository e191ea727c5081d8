"""Where a WavTokenizer comes from: a published `.ckpt`, or a folder of ours (avbench/artifact.py).

What of a Lightning checkpoint we take, and the names that our tensors have there; and a loaded model made faster, once and for good: it can
no longer be trained or saved.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avbench import artifact, weights
from avbench.errors import AvbenchError
from avbench.nn.packed import Packed, can_pack, pack
from avbench.nn.residual_vq import Codebook
from avbench.tokenizers.wavtokenizer.config import WavTokenizerConfig, wavtokenizer_40, wavtokenizer_75
from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel
from avbench.tokenizers.wavtokenizer.seanet import Conv
from avbench.weights.load import load_torch, sha256_of, tensors, torch_file

KEPT = ("feature_extractor.", "backbone.", "head.")
# The rest of the training module: discriminators, the loss's own spectrogram, and the EnCodec decoder that WavTokenizer never runs.
DROPPED = ("multiperioddisc.", "multiresddisc.", "dac.", "dacdiscriminator.", "melspec_loss.", "feature_extractor.encodec.decoder.")
POINTWISE = re.compile(r"\.pos_net\.\d+\.(q|k|v|proj_out)\.weight$")  # convolutions of one tap there, linear layers here
# Classes that Lightning's bookkeeping (never the weights) may hold. They are read as `_Inert`: nothing of theirs is imported or run.
BOOKKEEPING = re.compile(
    r"(pytorch_lightning|lightning|lightning_fabric|lightning_lite|lightning_utilities|jsonargparse|omegaconf|torchmetrics|decoder|encoder)\."
    r"|argparse\.Namespace$|pathlib\.\w+$|collections\.\w+$|numpy\.|builtins\.(int|set|frozenset|slice|complex)$"
)


class _Inert:
    """Stands for an object of a class that is not imported: takes whatever the file says it was made of, and forgets it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertDict:
    """The same for a class that files of this kind fill like a dict, which torch allows for plain ones only."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return {}


def read_official(file: Path) -> dict[str, Tensor]:
    """The model's tensors in a published checkpoint, under their own names.

    Raises AvbenchError for a file that is damaged, asks for code, or holds parts that no WavTokenizer has.
    """
    content = load_torch(file, safe_globals=_stand_ins(file))
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise AvbenchError(f'{file} is not a WavTokenizer checkpoint as published: it has no "state_dict"')
    kept = {}
    for name, tensor in tensors(state, file).items():
        if name.startswith(DROPPED):
            continue
        if not name.startswith(KEPT):
            raise AvbenchError(f"{file} has the unknown tensor {name[:80]}; a WavTokenizer's begin with {', '.join(KEPT)}")
        kept[name] = tensor[..., 0] if POINTWISE.search(name) and tensor.shape[2:] == (1,) else tensor
    return kept


def official_name(name: str) -> str:
    """The name in a published state dict of the tensor that is called `name` in `WavTokenizerModel`."""
    module, _, tensor = name.rpartition(".")
    if module.startswith("encoder."):
        return f"feature_extractor.encodec.{module}{'' if module.endswith('.lstm') else '.conv.conv'}.{tensor}"
    if module.startswith("quantizer."):
        return f"feature_extractor.encodec.{module.replace('.layers.', '.vq.layers.')}._codebook.{tensor}"
    return "head.istft.window" if name == "head.window" else name


def _stand_ins(file: Path) -> list[Any]:
    """What torch may take for each class beyond tensors that `file` names. Raises AvbenchError for any but Lightning's bookkeeping."""
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(torch_file(file))
    except AvbenchError:
        raise
    except Exception as error:  # a damaged or crafted file can fail in any way
        raise AvbenchError(f"{file} is not a readable PyTorch checkpoint: {str(error).splitlines()[0][:200]}") from error
    refused = sorted(name for name in foreign if not BOOKKEEPING.match(name))
    if refused:
        raise AvbenchError(
            f"{file} refused: it asks for {', '.join(refused)[:200]}; a checkpoint holds tensors and Lightning's bookkeeping"
        )
    return [(_InertDict if name.lower().endswith("dict") else _Inert, name) for name in foreign]


def optimise(model: nn.Module) -> None:
    """Weight norms are computed once; on a CPU, matrices are reordered for oneDNN (avbench/nn/packed.py says why)."""
    packs = can_pack(model)
    for module in list(model.modules()):
        if isinstance(module, Conv):
            module.fold()
            if packs and module.is_product:
                module.packed = Packed(module.weight().flatten(1), module.bias)
        elif packs and isinstance(module, Codebook):
            module.packed = Packed(module.embed, -module.half_norms())
    pack(model)


KIND = "wavtokenizer"  # the kind in a folder's manifest
OFFICIAL = {"40": (wavtokenizer_40(), "wavtokenizer-small-600"), "75": (wavtokenizer_75(), "wavtokenizer-small-320")}
NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model for inference only, its learned numbers, and digits of the sha256 of what it was read from."""

    model: WavTokenizerModel
    num_parameters: int
    revision: str
    trained_on: str


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of a published file or a folder of ours.

    Raises AvbenchError that names what is damaged, missing, unknown or mis-shaped, before anything is computed.
    """
    if path.is_dir():
        model, folder = load_trained(path)
        return _checkpoint(model, device, folder.revision, folder.trained_on)
    state = read_official(path)
    model = _empty(_official_config(state, path), path)
    expected = {official_name(name): tensor for name, tensor in model.state_dict().items()}
    artifact.check_fit(path, "a WavTokenizer as published", expected, state)
    _take(model, {name: state[official_name(name)] for name in model.state_dict()})
    sha256 = sha256_of(path)
    official = weights.is_official([name for _, name in OFFICIAL.values()], [path], sha256)
    return _checkpoint(model, device, sha256[:16], "LibriTTS (speech), official small weights" if official else NOT_STATED)


def pulled(variant: str) -> Path:
    """The published file of variant "40" or "75", verified. Raises WeightsUnavailable with the command that gets it."""
    return weights.path(OFFICIAL[variant][1])


def save_checkpoint(folder: Path, model: WavTokenizerModel, provenance: dict[str, Any]) -> None:
    """Write `model`, its config and how it was trained (JSON values; "split" and "clips_seen" are shown beside its row) to `folder`."""
    artifact.write(folder, kind=KIND, config=model.config.to_dict(), state=model.state_dict(), provenance=provenance)


def load_trained(folder: Path) -> tuple[WavTokenizerModel, artifact.Artifact]:
    """A folder of ours: the model as it was trained, and what its manifest says. Raises AvbenchError where it is damaged or another's."""
    found = artifact.read(folder, KIND)
    model = _empty(WavTokenizerConfig.from_dict(found.config), folder)
    _take(model, found.state(model.state_dict()))
    return model, found


def _empty(config: WavTokenizerConfig, where: Path) -> WavTokenizerModel:
    """Without memory, so that a config which promises too much costs nothing."""
    try:
        with torch.device("meta"):
            return WavTokenizerModel(config)
    except Exception as error:  # a config out of a foreign manifest can fail a constructor in any way
        raise AvbenchError(f"{where}: its config makes no model: {error}") from error


def _take(model: WavTokenizerModel, state: Mapping[str, Tensor]) -> None:
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)


def _checkpoint(model: WavTokenizerModel, device: torch.device | str, revision: str, trained_on: str) -> Checkpoint:
    num_parameters = model.num_parameters()
    model = model.eval().requires_grad_(False).to(device)
    optimise(model)
    return Checkpoint(model=model, num_parameters=num_parameters, revision=revision, trained_on=trained_on)


def _official_config(state: Mapping[str, Tensor], file: Path) -> WavTokenizerConfig:
    """Which of the published sizes a file has: they differ in the width of the head, n_fft + 2."""
    width = state["head.out.weight"].shape[0] if "head.out.weight" in state else None
    for config, _ in OFFICIAL.values():
        if width == config.n_fft + 2:
            return config
    known = " or ".join(f"{config.n_fft + 2} ({config.name})" for config, _ in OFFICIAL.values())
    found = "lacks head.out.weight" if width is None else f"has {width} rows in head.out.weight"
    raise AvbenchError(f"{file} {found}; a published WavTokenizer has {known}")
