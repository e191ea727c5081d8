"""The shared quantizer: gradient, determinism, use of its entries."""

from dataclasses import replace

import pytest
import torch

from avbench.tokenizers.avtok.config import QuantizerConfig
from avbench.tokenizers.avtok.quantizer import Quantizer

COSINE = QuantizerConfig(kind="cosine", entries=64, dim=4)
EUCLIDEAN = QuantizerConfig(kind="euclidean", entries=64, dim=4, temperature=0.0)
KINDS = pytest.mark.parametrize("config", [COSINE, EUCLIDEAN], ids=["cosine", "euclidean"])


def make(config: QuantizerConfig) -> Quantizer:
    torch.manual_seed(0)
    return Quantizer(config)


def latents(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 4, generator=torch.Generator().manual_seed(2))


@KINDS
def test_the_gradient_passes_straight_through(config: QuantizerConfig) -> None:
    quantizer, z = make(config).eval(), latents(2, 3).requires_grad_()
    weight = torch.randn(2, 3, 4)
    (quantizer(z).latents * weight).sum().backward()
    direct = z.detach().clone().requires_grad_()
    (quantizer.project(direct) * weight).sum().backward()
    torch.testing.assert_close(z.grad, direct.grad)


@KINDS
def test_codes_are_those_of_an_exhaustive_search(config: QuantizerConfig) -> None:
    quantizer, z = make(config), latents(3, 7)
    distance = torch.cdist(quantizer.project(z).double(), quantizer.entries().double()[None])
    assert torch.equal(quantizer.encode(z), distance.argmin(-1))


@KINDS
def test_evaluation_is_deterministic_and_decodes_to_what_was_quantized(config: QuantizerConfig) -> None:
    quantizer, z = make(config).eval(), latents(2, 9)
    first, second = quantizer(z), quantizer(z)
    assert torch.equal(first.codes, second.codes)
    assert torch.equal(first.codes, quantizer.encode(z))
    torch.testing.assert_close(quantizer.decode(first.codes), first.latents)


def test_training_of_the_stochastic_quantizer_draws_and_zero_temperature_does_not() -> None:
    z = latents(16, 16)
    drawn = make(replace(COSINE, temperature=1.0)).train()
    assert not torch.equal(drawn(z).codes, drawn(z).codes)
    nearest = make(replace(COSINE, temperature=0.0)).train()
    assert torch.equal(nearest(z).codes, nearest(z).codes)


def test_draws_follow_the_softmax_of_cosine_over_temperature() -> None:
    quantizer = make(replace(COSINE, entries=3, temperature=0.5)).train()
    z = latents(1, 1)
    expected = (quantizer.project(z)[0, 0] @ quantizer.entries().t() / 0.5).softmax(-1)
    codes = quantizer(z.expand(1, 20_000, 4)).codes
    frequency = torch.bincount(codes.flatten(), minlength=3) / 20_000
    torch.testing.assert_close(frequency, expected, atol=0.02, rtol=0)


def test_the_loss_is_commitment_and_codebook_mean_squares_with_separate_gradients() -> None:
    quantizer, z = make(EUCLIDEAN), latents(2, 3).requires_grad_()
    result = quantizer(z)
    chosen = quantizer.embedding.weight[result.codes]
    torch.testing.assert_close(result.loss, 1.25 * (z - chosen).square().mean())
    result.loss.backward()
    torch.testing.assert_close(z.grad, 0.25 * 2 * (z - chosen).detach() / z.numel())
    assert (quantizer.embedding.weight.grad.abs().sum(1) > 0).sum() == result.codes.unique().numel()


def test_entries_that_stay_unused_are_revived_on_inputs_and_a_frozen_codebook_is_not() -> None:
    z = latents(8, 32)
    for frozen in (False, True):
        quantizer = make(replace(EUCLIDEAN, revive_after=2)).train()
        quantizer.embedding.weight.data[1:] = 1000.0  # 63 dead entries
        quantizer.embedding.weight.requires_grad_(not frozen)
        for _ in range(3):
            codes = quantizer(z).codes
        assert (codes.unique().numel() > 30) is not frozen


def test_backward_works_in_the_step_that_revives_entries() -> None:
    for config in (replace(EUCLIDEAN, revive_after=1), replace(COSINE, revive_after=1)):
        quantizer = make(config).train()
        for _ in range(3):
            z = latents(8, 32).requires_grad_()
            quantizer(z).loss.backward()
            assert z.grad is not None
            assert torch.isfinite(z.grad).all()


def test_half_precision_input_is_quantized_in_float32() -> None:
    quantizer, z = make(EUCLIDEAN).eval(), latents(2, 5).bfloat16()
    assert quantizer(z).latents.dtype == torch.float32
    assert torch.equal(quantizer(z).codes, quantizer(z.float()).codes)
