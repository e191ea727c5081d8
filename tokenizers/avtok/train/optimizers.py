"""Muon for the hidden matrices, AdamW for the rest.

Muon orthogonalises the update of a matrix between hidden layers; everything else is AdamW's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.optim import Muon, Optimizer

from avbench.tokenizers.avtok.parts import part_of
from avbench.tokenizers.avtok.train.config import AVTokOptim
from avbench.train.optimizers import adamw_groups
from avbench.train.trainee import Objective

TABLES = re.compile(r"(^|\.)scenes\.\w+\.(coarse|fine)$")
HIDDEN = re.compile(r"(^|\.)blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))\.weight$")
NO_DECAY_DIMS = 2  # biases, norms, queries of one row: decay pulls them to nothing useful


@dataclass(frozen=True, kw_only=True)
class OptimizerGroups:
    """muon: hidden matrices. raw, decay, no_decay, tables: AdamW's (patch embeddings and the bottleneck's input | heads, bottleneck's
    output | codebook, queries, biases, norms | entries of scenes' groups).

    tables: each entry is asked for now and then only, and is about 1 in size: at the others' rate they stand still while the latents move
    on (the quantizer's loss rose from 0.086 to 0.130 in 6,000 clips of arcade).

    raw: layers that read large inputs which no norm has scaled (thousands of pixels that move together; the residual stream with its
    anchors). Adam's equal steps add up there: give them a hundredth of the learning rate. With one rate for all (1e-4), the linear start
    of arcade fell from 24.0 to 19.6 dB in 1000 clips.
    """

    muon: list[nn.Parameter]
    raw: list[nn.Parameter]
    decay: list[nn.Parameter]
    no_decay: list[nn.Parameter]
    tables: list[nn.Parameter]


def optimizer_groups(named: Iterable[tuple[str, nn.Parameter]]) -> OptimizerGroups:
    """Sort what requires a gradient into the four groups, in the order given (checkpoints of optimisers rely on it).

    Positions, queries and the codebook are matrices by shape but tables by use: AdamW without decay.
    """
    groups = OptimizerGroups(muon=[], raw=[], decay=[], no_decay=[], tables=[])
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        if HIDDEN.search(name):
            groups.muon.append(parameter)
        elif TABLES.search(name):
            groups.tables.append(parameter)
        elif "patch_embed." in name or "in_linear." in name:
            groups.raw.append(parameter)
        elif parameter.ndim >= NO_DECAY_DIMS and name.endswith(("linear.weight", "head.weight")):
            groups.decay.append(parameter)
        else:
            groups.no_decay.append(parameter)
    return groups


def build_optimizers(objective: Objective[Any], config: AVTokOptim) -> list[Optimizer]:
    """Optimisers of the tokenizer, the prior and the projectors. Call after the freeze."""
    named = objective.trainable()
    groups = optimizer_groups(named)
    before = {id(parameter): part_of(name.partition(".")[2]).side != "decoder" for name, parameter in named}
    muon = _split(groups.muon, before, config.muon, config)
    adam = _split(groups.raw, before, config.adam * config.raw, config)
    adam += _split(groups.decay, before, config.adam, config)
    adam += _split(groups.no_decay, before, config.adam, replace(config, weight_decay=0.0))
    if groups.tables:
        adam.append({"params": groups.tables, "lr": config.tables, "weight_decay": 0.0})
    adam.append({"params": objective.auxiliary(), "lr": config.auxiliary, "weight_decay": 0.0})
    found: list[Optimizer] = []
    if muon and config.muon:
        found.append(Muon(muon))  # type: ignore[arg-type]
    else:
        adam += _split(groups.muon, before, config.adam, config)
    return [*found, adamw_groups(adam, config)]


def _split(parameters: list[nn.Parameter], before: dict[int, bool], peak: float, config: AVTokOptim) -> list[dict[str, Any]]:
    """Groups of what comes before the decoder (encoder, bottleneck) and of the decoder; none is empty."""
    found = []
    for early, share in ((True, config.encoder), (False, 1.0)):
        chosen = [parameter for parameter in parameters if before[id(parameter)] == early]
        if chosen:
            found.append({"params": chosen, "lr": peak * share, "weight_decay": config.weight_decay})
    return found
