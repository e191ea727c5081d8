"""avbench.train.budget: what a model asks of a device."""

import torch
from torch import nn

from avbench.train.budget import counted, measured_peak


def test_a_linear_layer_costs_two_operations_a_weight_forward_and_as_many_for_its_gradient() -> None:
    layer = nn.Linear(30, 50, bias=False)
    forward, weight_gradient = 2 * 7 * 30 * 50, 2 * 7 * 30 * 50
    assert counted(lambda: layer(torch.randn(7, 30))) == forward + weight_gradient


def test_a_convolution_counts_its_kernel_at_every_place() -> None:
    layer = nn.Conv1d(4, 6, 5, bias=False)
    places = 96
    once = 2 * 3 * 6 * 4 * 5 * places
    assert counted(lambda: layer(torch.randn(3, 4, 100))) == 2 * once  # forward, weight gradient


def test_the_peak_of_this_device_is_that_of_a_computer_and_not_of_an_abacus() -> None:
    assert 1e8 < measured_peak(torch.device("cpu"), torch.float32) < 1e16
