"""A stage at work: models with the stage's freeze, their optimisers, a moving average of the weights, and one training step."""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from avbench.train.budget import Clock
from avbench.train.optimizers import discriminator_adamw, rate, remember_peaks, set_rate
from avbench.train.trainee import Batch, Losses, Objective, Trainee


class Average:
    """Exponential moving average of the trained weights: what is evaluated and published. Frozen weights stay the same to the bit."""

    def __init__(self, models: dict[str, nn.Module], decay: float) -> None:
        self.models = {name: copy.deepcopy(model).eval().requires_grad_(False) for name, model in models.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, models: dict[str, nn.Module], step: int) -> None:
        """After step number `step` of the stage; young averages forget faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, model in models.items():
            pairs = zip(self.models[name].parameters(), model.parameters(), strict=True)
            ours, theirs = zip(*((a, b.detach()) for a, b in pairs if b.requires_grad), strict=True)
            torch._foreach_lerp_(list(ours), list(theirs), 1 - decay)
            for mine, other in zip(self.models[name].buffers(), model.buffers(), strict=True):
                mine.copy_(other)


class StageRun:
    """Stage number `index` of a run, from its first step or (`load_state`) from any later one.

    inherited: the stage before it, whose losses' weights go on where they are needed again.
    """

    def __init__(
        self,
        trainee: Trainee[Any, Any],
        index: int,
        models: dict[str, nn.Module],
        accelerator: Accelerator,
        inherited: "StageRun | None" = None,
    ) -> None:
        self.config, self.index, self.accelerator = trainee.config, index, accelerator
        self.stage = self.config.stages[index]
        self.models: dict[str, nn.Module] = dict(models)
        self.average = Average(models, self.stage.optim.ema_decay)
        torch.manual_seed(self.config.seed + index)  # the weights of the objective's own losses
        self.objective: Objective[Any] = trainee.objective(models, index, accelerator.device).to(accelerator.device)
        if inherited is not None:
            self.objective.losses.load_state_dict(inherited.objective.losses.state_dict(), strict=False)
        if self.config.compile and accelerator.device.type == "cuda":
            for module in self.objective.compilable():
                module.compile(dynamic=False)  # stages differ in their lengths only: dynamic shapes cost a graph each and speed
        self.trained = {name: models[name] for name in self.objective.models}
        self.optimizers = [accelerator.prepare_optimizer(o) for o in trainee.optimizers(self.objective, self.stage)]
        self.discriminator_optimizer = discriminator_adamw(self.objective.discriminators(), self.stage.optim)
        remember_peaks(self._all_optimizers())
        self.wrapped = _wrap(self.objective, accelerator)
        self.parameters = [p for _, p in self.objective.trainable()] + self.objective.auxiliary()
        self.sums: dict[str, Tensor] = {}

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole stage."""
        return self.stage.clips // self.config.batch_size

    def step(self, batches: Iterator[Batch], step: int, clips_before: int, clock: Clock | None = None) -> None:
        """Optimiser step number `step` of the stage; `clips_before`: clips seen in the run so far. Nothing here waits for the device.

        clock: of a run that lasts so many seconds; otherwise the clips say how far it is. All chance in it follows from
        (seed, clips_before, process), so there is no generator state to save.
        """
        torch.manual_seed((self.config.seed * 1_000_003 + clips_before * 65_537 + self.accelerator.process_index) % 2**63)
        seen = step * self.config.batch_size if clock is None else clock.stage * self.stage.clips
        self.share = rate(seen, self.stage.clips, self.stage.optim)
        set_rate(self._all_optimizers(), self.share)
        self.wrapped.train()
        progress = clips_before / self.config.clips if clock is None else clock.run
        for micro in range(self.config.accumulate):
            last = micro == self.config.accumulate - 1
            batch = next(batches).to(self.accelerator.device)
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                losses = self._backward(batch, progress)
            self._accumulate(losses.terms | {"total": losses.total.detach()})
        self._update(step)
        if self.discriminator_optimizer is not None and step % self.stage.discriminator_every == 0:
            self._update_discriminators(batch, losses)

    def take_sums(self) -> dict[str, float]:
        """Mean of every loss term since the last call: the one place where the device is waited for."""
        scale = self.accelerator.num_processes
        sums = {name: self.accelerator.reduce(value) / scale for name, value in sorted(self.sums.items())}
        found = {name: float(value) for name, value in sums.items()}
        self.sums = {}
        count = found.pop("count", 1.0)
        return {name: value / count for name, value in found.items()}

    def finish(self) -> None:
        """The next stage starts from the average: what is frozen from here on is what gets published."""
        for name, model in self.models.items():
            model.load_state_dict(self.average.models[name].state_dict())

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, besides the config and the step's number."""
        return {
            "models": {name: model.state_dict() for name, model in self.models.items()},
            "average": {name: model.state_dict() for name, model in self.average.models.items()},
            "losses": self.objective.losses.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._all_optimizers()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`, on every process."""
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
            self.average.models[name].load_state_dict(state["average"][name])
        self.objective.losses.load_state_dict(state["losses"])
        for optimizer, saved in zip(self._all_optimizers(), state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _all_optimizers(self) -> list[Optimizer]:
        return [*self.optimizers, *([self.discriminator_optimizer] if self.discriminator_optimizer else [])]

    def _backward(self, batch: Batch, progress: float) -> Losses:
        losses: Losses = self.wrapped(batch, progress)
        self.accelerator.backward(losses.total / self.config.accumulate)
        return losses

    def _update(self, step: int) -> None:
        if self.stage.optim.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.stage.optim.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if self.accelerator.num_processes > 1:
            for table in self.objective.own_tables():
                torch.distributed.broadcast(table, 0)
        self.average.update(self.trained, step)

    def _update_discriminators(self, batch: Batch, losses: Losses) -> None:
        """Outside DDP's forward, so the gradients are averaged here."""
        assert self.discriminator_optimizer is not None
        values = self.objective.discriminator_losses(batch, losses)
        torch.stack(list(values.values())).sum().backward()
        for parameter in self.objective.discriminators():
            if parameter.grad is not None and self.accelerator.num_processes > 1:
                torch.distributed.all_reduce(parameter.grad.div_(self.accelerator.num_processes))
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()
        # It is one step of `discriminator_every`, and means are over all steps.
        self._accumulate({name: value.detach() * self.stage.discriminator_every for name, value in values.items()}, count=0)

    def _accumulate(self, terms: dict[str, Tensor], count: int = 1) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.sums["count"] = self.sums.get("count", torch.zeros((), device=self.accelerator.device)) + count


def _wrap(objective: Objective[Any], accelerator: Accelerator) -> nn.Module:
    """DDP where there are several processes. The discriminators are kept out of it: they get no gradient in its forward pass."""
    for parameter in objective.discriminators():
        parameter.requires_grad_(False)
    wrapped: nn.Module = accelerator.prepare_model(objective)
    for parameter in objective.discriminators():
        parameter.requires_grad_(True)
    return wrapped
