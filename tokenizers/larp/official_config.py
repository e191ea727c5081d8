"""The settings of an official LARP checkpoint (the constructor's arguments, as its config.json or .pth stores them) -> AVTokConfig."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.config import AVTokConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.larp.model import larp_large

# What the official constructor assumes where a config says nothing; everything else that we read is required.
DEFAULTS = {
    "bottleneck_token_num": 1024,
    "input_size": 128,
    "frame_num": 16,
    "temporal_patch_size": 4,
    "patch_size": 8,
    "in_channels": 3,
    "encoder_hidden_size": 768,
    "encoder_num_heads": 12,
    "encoder_depth": 6,
    "decoder_depth": 6,
}
# Ours has one width, one number of heads and one patch size: (name, its twin of the decoder, the twin's default).
TWINS = (
    ("encoder_hidden_size", "decoder_hidden_size", 768),
    ("encoder_num_heads", "decoder_num_heads", 12),
    ("temporal_patch_size", "decoder_temporal_patch_size", 4),
    ("patch_size", "decoder_patch_size", 8),
)
MAX_SIZE, MAX_DEPTH = 65_536, 64
PRIORS = {  # name -> (layers, width)
    "gptc-L": (24, 1024),
    "gptc-B": (12, 768),
    "gptc-M": (12, 512),
    "gptc-S": (12, 384),
    "gptc-XS": (6, 384),
    "gptc-XXS": (6, 256),
}


@dataclass(frozen=True, kw_only=True)
class PriorShape:
    """The prior that a checkpoint was trained with, which encodes and decodes nothing."""

    layers: int
    width: int
    length: int  # rows of its table of positions


@dataclass(frozen=True, kw_only=True)
class OfficialConfig:
    """What a checkpoint's settings say. prior: None where it was trained without one."""

    model: AVTokConfig
    prior: PriorShape | None


def published() -> OfficialConfig:
    """The settings of hywang66/LARP-L-long-tokenizer (cfgs/larp_tokenizer.yaml and its reproduction script)."""
    return OfficialConfig(model=larp_large(), prior=PriorShape(layers=12, width=384, length=1024))


def official_config(args: Mapping[str, Any], where: str) -> OfficialConfig:
    """`args`: the official constructor's arguments. Raises AvbenchError that names what is missing, wrong or another architecture."""
    sizes = {name: _size(args, name, where, default) for name, default in DEFAULTS.items()}
    for name, twin, default in TWINS:
        if _size(args, twin, where, default) != sizes[name]:
            raise AvbenchError(f"{where}: {twin} is not {name} ({sizes[name]}); such a LARP is not supported")
    model = AVTokConfig(
        name="larp",
        video=_video(sizes),
        audio=None,
        width=sizes["encoder_hidden_size"],
        encoder_layers=sizes["encoder_depth"],
        decoder_layers=sizes["decoder_depth"],
        heads=sizes["encoder_num_heads"],
        quantizer=_quantizer(args, where),
    )
    if model.width % (2 * model.heads):
        raise AvbenchError(f"{where}: {model.heads} heads do not divide encoder_hidden_size {model.width} evenly")
    return OfficialConfig(model=model, prior=_prior(args, where))


def _video(sizes: Mapping[str, int]) -> StreamConfig:
    side, patch = sizes["input_size"], sizes["patch_size"]
    return StreamConfig(
        channels=sizes["in_channels"],
        size=(sizes["frame_num"], side, side),
        patch=(sizes["temporal_patch_size"], patch, patch),
        tokens=sizes["bottleneck_token_num"],
    )


def _quantizer(args: Mapping[str, Any], where: str) -> QuantizerConfig:
    bottleneck = _arguments(args, "bottleneck", where)
    norm = bottleneck.get("norm")
    if norm is not None and str(norm).lower() not in ("no", "none"):
        raise AvbenchError(f"{where}: the bottleneck's norm is {norm!r}; only models without one are supported")
    regularizer = bottleneck.get("regularizer")
    if not isinstance(regularizer, Mapping) or regularizer.get("name") != "vq":
        raise AvbenchError(f'{where}: the bottleneck\'s regularizer is not "vq": these are no discrete tokens')
    values = _arguments(bottleneck, "regularizer", where)
    return QuantizerConfig(
        kind="cosine" if values.get("l2_normalized", False) is True else "euclidean",
        entries=_size(values, "codebook_size", where),
        dim=_size(bottleneck, "bottleneck_dim", where),
    )


def _prior(args: Mapping[str, Any], where: str) -> PriorShape | None:
    prior = args.get("prior_model")
    name = prior.get("name", "none") if isinstance(prior, Mapping) else "none"
    if not isinstance(name, str) or name.lower() in ("none", "no", "null", ""):
        return None
    if name not in PRIORS:
        raise AvbenchError(f"{where}: unknown prior_model {name[:40]!r}; known are {', '.join(PRIORS)}")
    layers, width = PRIORS[name]
    settings = prior.get("args") if isinstance(prior, Mapping) else None
    length = _size(settings if isinstance(settings, Mapping) else {}, "max_seq_len", where, 1024)
    return PriorShape(layers=layers, width=width, length=length)


def _arguments(holder: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    part = holder.get(name)
    found = part.get("args") if isinstance(part, Mapping) else None
    if not isinstance(found, Mapping):
        raise AvbenchError(f"{where} lacks {name}.args: not the settings of a LARP tokenizer")
    return found


def _size(values: Mapping[str, Any], name: str, where: str, default: int | None = None) -> int:
    value, limit = values.get(name, default), MAX_DEPTH if name.endswith("_depth") else MAX_SIZE
    if type(value) is not int or not 1 <= value <= limit:
        raise AvbenchError(f"{where}: {name} is {str(value)[:40]}; a whole number from 1 to {limit} is expected")
    return value
