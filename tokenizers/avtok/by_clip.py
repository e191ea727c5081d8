"""One stream's clips to codes and back, one clip at a time, with its shapes checked: what the adapters of AVTok and LARP share."""

import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.model import AVTokModel


def tokenize(model: AVTokModel, name: str, x_BTCHW: Tensor, device: torch.device) -> Tensor:
    """A stream's input -> int64 (B, 1, tokens) on the CPU.

    Clip by clip: matrix products of another batch size round differently, and a code must not depend on its neighbours.
    """
    stream = model.config.stream(name)
    t, h, w = stream.size
    if x_BTCHW.shape[1:] != (t, stream.channels, h, w):
        found = tuple(x_BTCHW.shape[1:])
        raise AvbenchError(f"{model.config.name}: {name} of shape {found}; it takes {(t, stream.channels, h, w)}")
    return torch.stack([model.tokenize(name, clip[None].to(device)) for clip in x_BTCHW]).cpu()


def detokenize(model: AVTokModel, name: str, codes_B1L: Tensor, device: torch.device) -> Tensor:
    """int64 (B, 1, tokens) -> (B, T, C, H, W) in [0, 1] on the CPU."""
    return torch.cat([model.detokenize(name, row.to(device)) for row in codes_B1L]).cpu()


def check_codes(codes: Tensor, name: str, length: int, vocab_size: int, tokenizer: str) -> None:
    """Raise AvbenchError unless `codes` of stream `name` are (clips, 1, length) with values in [0, vocab_size)."""
    if codes.ndim != 3 or codes.shape[1:] != (1, length):
        raise AvbenchError(f"{tokenizer}: {name} tokens of shape {tuple(codes.shape)}; expected (clips, 1, {length})")
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < vocab_size:
        raise AvbenchError(f"{tokenizer}: {name} codes outside [0, {vocab_size})")
