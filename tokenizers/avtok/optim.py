"""Which parameters Muon may hold. Muon orthogonalises the update of a matrix between hidden layers; everything else is AdamW's."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

HIDDEN = re.compile(r"(^|\.)blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))\.weight$")
NO_DECAY_DIMS = 2  # biases, norms, queries of one row: decay pulls them to nothing useful


@dataclass(frozen=True, kw_only=True)
class OptimizerGroups:
    """muon: hidden matrices. decay, no_decay: AdamW's (embeddings, heads, bottleneck, codebook, queries | biases, norms)."""

    muon: list[nn.Parameter]
    decay: list[nn.Parameter]
    no_decay: list[nn.Parameter]


def optimizer_groups(named: Iterable[tuple[str, nn.Parameter]]) -> OptimizerGroups:
    """Sort what requires a gradient into the three groups, in the order given (checkpoints of optimisers rely on it).

    Positions, queries and the codebook are matrices by shape but tables by use: AdamW without decay.
    """
    groups = OptimizerGroups(muon=[], decay=[], no_decay=[])
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        if HIDDEN.search(name):
            groups.muon.append(parameter)
        elif parameter.ndim >= NO_DECAY_DIMS and name.endswith(("linear.weight", "head.weight", "embed.weight")):
            groups.decay.append(parameter)
        else:
            groups.no_decay.append(parameter)
    return groups
