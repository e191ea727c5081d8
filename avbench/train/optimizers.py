"""Muon for the hidden matrices, AdamW for the rest, and learning rates as a function of clips seen in the stage."""

import math
from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from avbench.tokenizers.avtok.optim import optimizer_groups
from avbench.tokenizers.avtok.parts import part_of
from avbench.train.config import OptimConfig
from avbench.train.objective import Objective

DISCRIMINATOR_BETAS = (0.5, 0.9)  # LARP


def build_optimizers(objective: Objective, config: OptimConfig) -> list[Optimizer]:
    """Optimisers of the tokenizer, the prior and the projectors. Every group remembers its peak rate. Call after the freeze."""
    named = objective.trainable()
    groups = optimizer_groups(named)
    before = {id(parameter): part_of(name.partition(".")[2]).side != "decoder" for name, parameter in named}
    muon = _split(groups.muon, before, config.muon, config)
    adam = _split(groups.raw, before, config.adam * config.raw, config)
    adam += _split(groups.decay, before, config.adam, config)
    adam += _split(groups.no_decay, before, config.adam, replace(config, weight_decay=0.0))
    adam.append({"params": objective.auxiliary(), "lr": config.auxiliary, "weight_decay": 0.0})
    found: list[Optimizer] = []
    if muon and config.muon:
        found.append(Muon(muon))  # type: ignore[arg-type]
    else:
        adam += _split(groups.muon, before, config.adam, config)
    # fused: 6 ms a step against 25 for 8 M parameters on one Zen 5 core
    found.append(AdamW([group for group in adam if group["params"]], betas=config.betas, fused=True))
    for optimizer in found:
        _remember_peaks(optimizer)
    return found


def build_discriminator_optimizer(objective: Objective, config: OptimConfig) -> Optimizer | None:
    """LARP's optimiser of the discriminators; None where the stage has none."""
    parameters = objective.discriminators()
    if not parameters:
        return None
    optimizer = AdamW(parameters, lr=config.discriminator, betas=DISCRIMINATOR_BETAS, weight_decay=0.0, fused=True)
    _remember_peaks(optimizer)
    return optimizer


def rate(clips_seen: int, clips: int, config: OptimConfig) -> float:
    """Share of the peak rate after `clips_seen` of a stage's `clips`: linear warm-up, then half a cosine down to `final`."""
    warm = min(config.warmup_clips, clips // 10)
    if clips_seen < warm:
        return (clips_seen + 1) / warm
    done = min(1.0, (clips_seen - warm) / max(1, clips - warm))
    return config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * done))


def set_rate(optimizers: list[Optimizer], share: float) -> None:
    """Learning rates of all groups to `share` of their peaks."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["peak"]


def _split(parameters: list[nn.Parameter], before: dict[int, bool], peak: float, config: OptimConfig) -> list[dict[str, Any]]:
    """Groups of what comes before the decoder (encoder, bottleneck) and of the decoder; none is empty."""
    found = []
    for early, share in ((True, config.encoder), (False, 1.0)):
        chosen = [parameter for parameter in parameters if before[id(parameter)] == early]
        if chosen:
            found.append({"params": chosen, "lr": peak * share, "weight_decay": config.weight_decay})
    return found


def _remember_peaks(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
