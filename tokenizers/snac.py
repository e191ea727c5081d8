"""SNAC (Siuzdak et al. 2024, arXiv 2410.14411), the 24 kHz model: three codebooks at 11.7, 23.4 and 46.9 codes a second.

The codes of the three levels become ONE stream of vocabulary 4096: for each step of the coarsest level its code, then the two of the
middle, then the four of the finest, so that position modulo 7 tells the level. (Codebook use and perplexity pool the three codebooks.)
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avbench.errors import AvbenchError, UsageError
from avbench.nn.weight_norm import fold_weight_norm, without_weight_norm
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
from avbench.tokenizers.waveform_codec import WaveformCodec
from avbench.weights import is_official
from avbench.weights.load import tensors

OFFICIAL = "official (hubertsiuzdak/snac_24khz)"
WEIGHTS = "snac-24khz"
NOISE_SEED = 0
# config.json of hubertsiuzdak/snac_24khz
OFFICIAL_CONFIG: dict[str, Any] = {
    **{"sampling_rate": 24_000, "encoder_dim": 48, "encoder_rates": [2, 4, 8, 8], "decoder_dim": 1024, "decoder_rates": [8, 8, 4, 2]},
    **{"attn_window_size": None, "codebook_size": 4096, "codebook_dim": 8, "vq_strides": [4, 2, 1], "noise": True, "depthwise": True},
}
DEPTHS = ("encoder_rates", "decoder_rates", "vq_strides")


class Snac(WaveformCodec):
    """`snac`: SNAC 24 kHz at 0.98 kbit/s, three time scales in one stream.

    A checkpoint is a folder with config.json and pytorch_model.bin, as published, or that file alone.
    """

    def __init__(self, options: TokenizerOptions) -> None:
        """Raises UsageError for a variant, AvbenchError where the weights are absent or damaged."""
        if options.variants:
            raise UsageError(f"snac has one bit rate, so {', '.join(options.variants)} does not apply; its models differ by --checkpoint")
        package = require("snac", "snac", "SNAC")
        files, config = _files(options.checkpoint)
        sha256, file = checked_sha256(files), files[0]
        state = fold_weight_norm(tensors(read_state(files), file), str(file))
        self.model = fit(lambda: without_weight_norm(package.SNAC(**config)), state, f"SNAC checkpoint {file}", options.device)
        self.device, self.vocab_size, self.protocol = options.device, self.model.codebook_size, options.protocol or Protocol()
        self.strides = tuple(self.model.vq_strides)
        if any(self.strides[0] % stride for stride in self.strides):
            raise AvbenchError(f"{file.parent / CONFIG}: vq_strides {self.strides} do not divide the first, so no step holds whole codes")
        self.info = TokenizerInfo(
            name="snac",
            revision=f"{sha256[:16]}-noise{NOISE_SEED}",
            modalities=frozenset({"audio"}),
            sample_rate=self.model.sampling_rate,
            parameters=sum(weight.numel() for weight in self.model.parameters()),
            trained_on=OFFICIAL if is_official([WEIGHTS], files, sha256) else "not stated",
        )

    def to_codes(self, samples: Tensor) -> Tensor:
        return interleave(self.model.encode(samples), self.strides)[:, None]

    def to_samples(self, codes: Tensor) -> Tensor:
        """The decoder adds noise (section 3.2): from a fixed seed, the same for each clip, and the caller's generators are left alone."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(NOISE_SEED)
            return self.model.decode(deinterleave(codes[:, 0], self.strides))

    def code_shape(self, num_samples: int) -> tuple[int, int]:
        frames = math.lcm(self.strides[0], self.model.attn_window_size or 1)  # the unit that the network pads to
        steps = math.ceil(num_samples / (int(self.model.hop_length) * frames)) * frames // self.strides[0]
        return 1, steps * sum(_codes_a_step(self.strides))


def interleave(levels: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Codes of each level, (B, steps * strides[0] / stride) -> (B, L): step by step, coarse before fine."""
    per_step = _codes_a_step(strides)
    return torch.cat([level.unflatten(1, (-1, count)) for level, count in zip(levels, per_step, strict=True)], dim=2).flatten(1)


def deinterleave(codes: Tensor, strides: Sequence[int]) -> list[Tensor]:
    """The inverse of `interleave`."""
    per_step = _codes_a_step(strides)
    return [level.flatten(1) for level in codes.unflatten(1, (-1, sum(per_step))).split(per_step, dim=2)]


def _codes_a_step(strides: Sequence[int]) -> list[int]:
    return [strides[0] // stride for stride in strides]


def _files(checkpoint: Path | None) -> tuple[list[Path], dict[str, Any]]:
    """The files of weights and their config; a file alone has the official 24 kHz model's."""
    if checkpoint is None or not checkpoint.is_dir():
        return [checkpoint or first_here([WEIGHTS])], OFFICIAL_CONFIG
    config = read_config(checkpoint)
    unknown = sorted(set(config) - set(OFFICIAL_CONFIG) - {"latent_dim"})
    if unknown:
        raise AvbenchError(f"{checkpoint / CONFIG} is no SNAC config: unknown {', '.join(unknown[:3])}")
    check_sizes(config, DEPTHS, str(checkpoint / CONFIG))
    for name in OFFICIAL_CONFIG.keys() & config.keys():
        if not _is_like(config[name], OFFICIAL_CONFIG[name]):
            raise AvbenchError(f"{checkpoint / CONFIG}: {name} is {str(config[name])[:60]}, where SNAC's own has {OFFICIAL_CONFIG[name]}")
    return weights_files(checkpoint), config


def _is_like(value: Any, official: Any) -> bool:
    """Of the same kind: a list of whole numbers for a list, True or False for one of them, a positive whole number, or None for None."""
    if isinstance(official, list):
        return isinstance(value, list) and bool(value) and all(_is_like(item, 1) for item in value)
    if isinstance(official, bool):
        return isinstance(value, bool)
    return (value is None and official is None) or (type(value) is int and value > 0)
