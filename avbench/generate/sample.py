"""Sampling a task's target: the prompt is read once, then one forward a token for the whole batch. B clips, P prompt, N target places."""

import torch
from torch import Tensor

from avbench.generate.draw import draw
from avbench.generate.model import Cache, Generator
from avbench.generate.tasks import Plan
from avbench.types import Sampling


@torch.inference_mode()
def sample(
    model: Generator, plan: Plan, prompt_BP: Tensor, uniform_BN: Tensor, how: Sampling, *, dropped_BP: Tensor | None = None
) -> Tensor:
    """int64 (B, N): ids of every place after the prompt, each in its legal range. The model must be in eval mode.

    uniform_BN: `draw.uniforms`, on the model's device. dropped_BP: the prompts without their condition, needed where guidance is not 1;
    both branches then pass as one batch.
    """
    guided = how.guidance != 1
    if guided and dropped_BP is None:
        raise ValueError("guidance needs the prompts without their condition")
    prompt = torch.cat([prompt_BP, dropped_BP]) if guided and dropped_BP is not None else prompt_BP
    slots = torch.tensor(plan.slots, device=prompt.device)
    cache = model.new_cache(len(prompt), plan.length - 1, fixed=prompt.is_cuda)
    step = Stepper(model, cache, len(prompt))
    hidden = model(prompt, slots[: plan.prompt], cache)[:, -1]
    drawn: list[Tensor] = []
    for number, (low, high) in enumerate(plan.legal()):
        if number:
            ids = drawn[-1].repeat(2) if guided else drawn[-1]
            place = plan.prompt + number - 1
            hidden = step(ids[:, None], slots[place : place + 1])[:, -1]
        logits = model.logits(hidden, low, high)
        if guided:
            cond, uncond = logits.chunk(2)
            logits = uncond + how.guidance * (cond - uncond)
        drawn.append(low + draw(logits, uniform_BN[:, number], how))
    return torch.stack(drawn, dim=1)


class Stepper:
    """One token further: plainly on a CPU; on a CUDA device a graph that is captured at the first step and replayed after it."""

    def __init__(self, model: Generator, cache: Cache, rows: int) -> None:
        self.model, self.cache = model, cache
        self.graph: torch.cuda.CUDAGraph | None = None
        device = cache.keys.device
        self.ids = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.hidden: Tensor | None = None

    def __call__(self, ids_B1: Tensor, slot_1: Tensor) -> Tensor:
        """Hidden states (B, 1, D)."""
        if not ids_B1.is_cuda:
            return self.model(ids_B1, slot_1, self.cache)  # type: ignore[no-any-return]
        self.ids.copy_(ids_B1)
        self.slot.copy_(slot_1)
        self.cache.advance(1)
        if self.graph is None:
            self._capture()
        assert self.graph is not None
        assert self.hidden is not None
        self.graph.replay()
        return self.hidden

    def _capture(self) -> None:
        """Warm up on a side stream, as CUDA graphs ask for; writing a place of the cache twice is harmless."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self.model.run(self.ids, self.slot, self.cache)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.hidden = self.model.run(self.ids, self.slot, self.cache)
