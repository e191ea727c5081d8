"""Descript Audio Codec (Kumar et al. 2023, arXiv 2306.06546), the 24 kHz model: residual vector quantisation, 75 frames a second.

The network is `transformers.DacModel`. Descript's own package is not used: its descript-audiotools pins protobuf < 3.20 and brings IPython
and TensorBoard; its weights file is read all the same.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.errors import AvbenchError
from avbench.nn.weight_norm import fold_weight_norm
from avbench.protocol import Protocol
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.published import (
    CONFIG,
    check_sizes,
    checked_sha256,
    first_here,
    fit,
    read_config,
    read_state,
    require,
    weights_files,
)
from avbench.tokenizers.waveform_codec import WaveformCodec, pick_rate
from avbench.weights import is_official
from avbench.weights.load import tensors

if TYPE_CHECKING:
    from transformers import DacModel

DEFAULT_RATE = "6k"
CODEBOOKS = (2, 4, 8, 16, 32)  # trained with quantizer dropout, so each prefix is a codec: 1.5, 3, 6, 12 and 24 kbit/s, EnCodec's rates
OFFICIAL = "official (descript/dac_24khz)"
WEIGHTS = ("dac-24khz", "dac-24khz-pth")  # of the catalog: Hugging Face's file and the authors' own
# conf/final/24khz.yml of the authors' repository, under transformers' names
OFFICIAL_CONFIG: dict[str, Any] = {
    **{"encoder_hidden_size": 64, "downsampling_ratios": [2, 4, 5, 8], "decoder_hidden_size": 1536, "sampling_rate": 24_000},
    **{"n_codebooks": 32, "codebook_size": 1024, "codebook_dim": 8},
}
AUTHORS_NAMES = {  # of the arguments that the authors' file states
    **{"encoder_dim": "encoder_hidden_size", "encoder_rates": "downsampling_ratios", "decoder_dim": "decoder_hidden_size"},
    **{"sample_rate": "sampling_rate", "n_codebooks": "n_codebooks", "codebook_size": "codebook_size", "codebook_dim": "codebook_dim"},
}
DEPTHS = ("n_codebooks", "downsampling_ratios")
UNIT = ("snake1", "conv1", "snake2", "conv2")  # a residual unit's layers


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded network, the sha256 of its weights, and what is known of its training."""

    model: "DacModel"
    sha256: str
    trained_on: str


class Dac(WaveformCodec):
    """`dac@6k`: Descript Audio Codec 24 kHz at 1.5, 3, 6, 12 or 24 kbit/s.

    A checkpoint is the official `weights_24khz.pth` or a Hugging Face folder.
    """

    def __init__(self, options: TokenizerOptions) -> None:
        """Variant: the bit rate. Raises UsageError for one that the model has not, AvbenchError where its weights are absent or damaged."""
        checkpoint = load_checkpoint(options.checkpoint, options.device)
        self.model, self.device = checkpoint.model, options.device
        self.protocol = options.protocol or Protocol()
        config = self.model.config
        self.vocab_size, self.hop = config.codebook_size, config.hop_length
        bits_per_s = config.sampling_rate / self.hop * math.log2(self.vocab_size)
        offered = {f"{count * bits_per_s / 1000:.3g}k": count for count in CODEBOOKS if count <= config.n_codebooks}
        default = DEFAULT_RATE if DEFAULT_RATE in offered else list(offered)[-1]
        rate = pick_rate(options.variants, offered, default, "dac")
        self.num_codebooks = offered[rate]
        unused = self.model.quantizer.quantizers[self.num_codebooks :]
        self.info = TokenizerInfo(
            name=f"dac@{rate}",
            revision=f"{checkpoint.sha256[:16]}-{self.num_codebooks}",
            modalities=frozenset({"audio"}),
            sample_rate=config.sampling_rate,
            parameters=_count(self.model) - _count(unused),
            trained_on=checkpoint.trained_on,
        )

    def to_codes(self, samples: Tensor) -> Tensor:
        padded = F.pad(samples, (0, -samples.shape[-1] % self.hop))
        return self.model.encode(padded, n_quantizers=self.num_codebooks).audio_codes

    def to_samples(self, codes: Tensor) -> Tensor:
        """The official decoder gives 8 samples less than 320 a frame: its upsampling by 5 loses one, which the rest multiplies."""
        return self.model.decode(audio_codes=codes).audio_values[:, None]

    def code_shape(self, num_samples: int) -> tuple[int, int]:
        return self.num_codebooks, math.ceil(num_samples / self.hop)


def load_checkpoint(path: Path | None, device: torch.device | str = "cpu") -> Checkpoint:
    """The network of a file or folder; None: the official weights, if `avbench weights pull` brought them here.

    Raises AvbenchError for a missing, damaged or foreign file, before it computes anything.
    """
    require("transformers", "dac", "DAC")
    if path is None:
        path = first_here(WEIGHTS)
    if not path.is_dir():
        return _from_files([path], OFFICIAL_CONFIG, device)
    files, given = weights_files(path), read_config(path)
    return _from_files(files, {key: given[key] for key in OFFICIAL_CONFIG if key in given}, device)


def from_authors(content: dict[str, Any], where: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and state under transformers' names of the authors' file {"state_dict", "metadata": {"kwargs"}}."""
    metadata = content.get("metadata")
    arguments = metadata.get("kwargs") if isinstance(metadata, dict) else None
    if not isinstance(arguments, dict) or not set(AUTHORS_NAMES) <= set(arguments):
        raise AvbenchError(
            f"{where} is no DAC checkpoint: its metadata lacks {', '.join(sorted(set(AUTHORS_NAMES) - set(arguments or ())))}"
        )
    rates = arguments["encoder_rates"]
    if not isinstance(rates, list) or arguments.get("decoder_rates") != rates[::-1]:
        raise AvbenchError(f"{where}: encoder_rates {rates!r:.80} are not decoder_rates {arguments.get('decoder_rates')!r:.80} reversed")
    config = {ours: arguments[theirs] for theirs, ours in AUTHORS_NAMES.items()}
    check_sizes(config, DEPTHS, str(where))
    state = fold_weight_norm(tensors(content.get("state_dict"), where), str(where))
    return config, {_renamed(name, len(rates)): tensor for name, tensor in state.items()}


def _from_files(files: list[Path], config: dict[str, Any], device: torch.device | str) -> Checkpoint:
    from transformers import DacConfig, DacModel

    sha256, content, file = checked_sha256(files), read_state(files), files[0]
    if isinstance(content, dict) and "state_dict" in content:
        config, state = from_authors(content, file)
    else:
        state = fold_weight_norm(tensors(content, file), str(file))
    check_sizes(config, DEPTHS, f"{file.parent / CONFIG}")
    model = fit(lambda: DacModel(DacConfig(**config)), state, f"DAC checkpoint {file}", device)
    return Checkpoint(model=model, sha256=sha256, trained_on=OFFICIAL if is_official(WEIGHTS, files, sha256) else "not stated")


def _renamed(name: str, depth: int) -> str:
    """The authors' numbered layers -> transformers' named ones; a name of another form stays and is refused as unknown."""
    found = re.fullmatch(r"(encoder\.block|decoder\.model)\.(\d+)\.(.*)", name)
    if not found:
        return name
    side, layer, rest = found[1].partition(".")[0], int(found[2]), found[3]
    outer = {0: "conv1", depth + 1: "snake1", depth + 2: "conv2"}
    if layer in outer:
        return f"{side}.{outer[layer]}.{rest}"
    return f"{side}.block.{layer - 1}.{_renamed_block(side, rest)}"


def _renamed_block(side: str, rest: str) -> str:
    """Inside a block: `block.2.block.1.weight` -> `res_unit1.conv1.weight` (a decoder's units follow its upsampling)."""
    inside = re.fullmatch(r"block\.(\d)\.(?:block\.([0-3])\.)?(\w+)", rest)
    if not inside:
        return rest
    order = ("snake1", "conv_t1", *_units()) if side == "decoder" else (*_units(), "snake1", "conv1")
    layer = order[int(inside[1])] if int(inside[1]) < len(order) else inside[1]
    return ".".join([layer, *([UNIT[int(inside[2])]] if inside[2] else []), inside[3]])


def _units() -> tuple[str, ...]:
    return "res_unit1", "res_unit2", "res_unit3"


def _count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
