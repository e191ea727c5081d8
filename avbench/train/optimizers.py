"""Muon for the hidden matrices, AdamW for the rest, and learning rates as a function of clips seen in the stage."""

import math
from typing import Any

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from avbench.tokenizers.avtok.optim import optimizer_groups
from avbench.train.config import OptimConfig
from avbench.train.objective import Objective

DISCRIMINATOR_BETAS = (0.5, 0.9)  # LARP


def build_optimizers(objective: Objective, config: OptimConfig) -> list[Optimizer]:
    """Optimisers of the tokenizer, the prior and the projectors. Every group remembers its peak rate. Call after the freeze."""
    groups = optimizer_groups(objective.trainable())
    found: list[Optimizer] = []
    if groups.muon:
        options = {"weight_decay": config.weight_decay, "adjust_lr_fn": "match_rms_adamw"}
        found.append(Muon(groups.muon, lr=config.muon, **options))  # type: ignore[arg-type]
    adam = [
        _group(groups.decay, config.adam, config.weight_decay),
        _group(groups.no_decay, config.adam, 0.0),
        _group(objective.auxiliary(), config.auxiliary, 0.0),
    ]
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


def _group(parameters: list[nn.Parameter], peak: float, decay: float) -> dict[str, Any]:
    return {"params": parameters, "lr": peak, "weight_decay": decay}


def _remember_peaks(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
