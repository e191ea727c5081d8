"""Runs code that says "cuda" on a machine without one: FakeTensors have a device and a shape and no numbers.

A tensor of the wrong device raises as on a GPU, and so does whatever asks for a number (`.item()`, `bool`): on a GPU it would wait.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA = torch.device("cuda", 0)
# What `accelerate` gives on a single GPU.
ACCELERATOR: Any = SimpleNamespace(
    device=CUDA,
    num_processes=1,
    process_index=0,
    prepare_optimizer=lambda optimizer: optimizer,
    prepare_model=lambda model: model,
    backward=lambda loss: loss.backward(),
    no_sync=lambda model: nullcontext(),
)
KEPT: list[Tensor] = []  # losses, and with them their graphs: freeing one has crashed the process


@contextmanager
def tracing() -> Iterator[None]:
    """Inside, tensors are fakes, modules move by new parameters, and `backward` gives each leaf that a loss reaches a gradient of its own
    device and shape: the autograd engine itself needs a GPU for tensors of one.
    """
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
        patch.setattr(nn.Module, "_apply", _moved)
        patch.setattr(Tensor, "backward", _backward)
        patch.setattr(nn.LSTM, "forward", _lstm)  # the real one asks cuDNN
        yield


def _moved(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    for part in self.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and (new := fn(parameter.detach())).device != parameter.device:
                part._parameters[name] = nn.Parameter(new, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = fn(buffer)
    return self


def _lstm(self: nn.LSTM, x: Tensor, _: object = None) -> tuple[Tensor, None]:
    """Shape and device of an LSTM's output, through all of its weights."""
    for layer in range(self.num_layers):
        weight, recurrent = (getattr(self, f"weight_{kind}_l{layer}")[: self.hidden_size] for kind in ("ih", "hh"))
        x = x @ weight.t() @ recurrent.t() + getattr(self, f"bias_ih_l{layer}")[: self.hidden_size]
    return x, None


def _backward(self: Tensor, *_: object) -> None:
    KEPT.append(self)
    seen, waiting = set(), [self.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)
        waiting += [other for other, _ in node.next_functions]
