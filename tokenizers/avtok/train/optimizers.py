"""Muon for the hidden matrices, AdamW for the rest."""

from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import Muon, Optimizer

from avbench.tokenizers.avtok.optim import optimizer_groups
from avbench.tokenizers.avtok.parts import part_of
from avbench.tokenizers.avtok.train.config import AVTokOptim
from avbench.train.optimizers import adamw_groups
from avbench.train.trainee import Objective


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
