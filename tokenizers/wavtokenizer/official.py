"""The published `.ckpt` files: what of a Lightning checkpoint we take, and the names that our tensors have there."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.weights.load import load_torch, tensors, torch_file

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
