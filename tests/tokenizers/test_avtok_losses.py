"""AVTok's losses: each as defined, each off at weight 0, each seen to fall."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avbench.tokenizers.avtok.config import AVTokConfig, DiscriminatorConfig, PriorConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.discriminator import LeCam, generator_loss, smoothed_bce
from avbench.tokenizers.avtok.losses import AVTokLosses, LossWeights, StreamWeights, alignment_loss
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.prior import Prior
from avbench.tokenizers.avtok.quantizer import Quantized
from avbench.tokenizers.avtok.teacher import resample_grid
from avbench.tokenizers.avtok.train.optimizers import optimizer_groups

OFF = StreamWeights(l1=0.0, quantizer=0.0)


def tiny(kind: str = "euclidean") -> AVTokConfig:
    return AVTokConfig(
        name="tiny",
        video=StreamConfig(channels=3, size=(4, 16, 16), patch=(2, 8, 8), tokens=8),
        audio=StreamConfig(channels=1, size=(1, 80, 32), patch=(1, 16, 16), tokens=10),
        width=64,
        encoder_layers=2,
        decoder_layers=2,
        heads=2,
        quantizer=QuantizerConfig(kind=kind, entries=32, dim=8),  # type: ignore[arg-type]
        prior=PriorConfig(width=32, layers=2, heads=2, dropout=0.0),
        discriminator=DiscriminatorConfig(width=32, layers=1, heads=2),
        projector_width=32,
        teacher_dims={"video": 6, "audio": 5},
    )


def clips(count: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(count, 1, 3, 4, 4, generator=generator).repeat(1, 4, 1, 1, 1).repeat_interleave(4, 3).repeat_interleave(4, 4)
    return {"video": video, "audio": torch.rand(count, 1, 1, 10, 4, generator=generator).repeat_interleave(8, 3).repeat_interleave(8, 4)}


def teacher() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {"video": torch.randn(4, 8, 6, generator=generator), "audio": torch.randn(4, 10, 5, generator=generator)}


def distance(reference: Tensor, recon: Tensor) -> Tensor:
    """A perceptual distance for tests: squared difference of 4 x 4 means."""
    pooled = [torch.nn.functional.avg_pool2d(x, 4) for x in (reference, recon)]
    return (pooled[0] - pooled[1]).square().mean((1, 2, 3))


ALL = StreamWeights(l2=1.0, log_mse=0.1, perceptual=1.0, adversarial=0.1, alignment=0.5)


def test_every_loss_falls_in_a_short_training() -> None:
    torch.manual_seed(0)
    config = tiny("cosine")
    model = AVTokModel(config)
    losses = AVTokLosses(config, LossWeights(video=ALL, audio=replace(ALL, perceptual=0.0)), perceptual=distance)
    groups = optimizer_groups([*model.named_parameters(), *losses.tokenizer_side()])
    others = [*groups.muon, *groups.decay, *groups.no_decay]
    optimizer = torch.optim.AdamW([{"params": others, "lr": 2e-3}, {"params": groups.raw, "lr": 2e-5}])
    history = []
    for step in range(30):
        result = losses(model, clips(), progress=0.3 * step / 30, teacher=teacher())
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
        history.append(result.terms)
    assert set(history[0]) == {
        *(f"video/{term}" for term in ("l1", "l2", "log_mse", "perceptual", "adversarial", "quantizer", "alignment")),
        *(f"audio/{term}" for term in ("l1", "l2", "log_mse", "adversarial", "quantizer", "alignment")),
        "prior",
    }
    for term in history[0]:
        first, last = (sum(float(h[term]) for h in part) for part in (history[:3], history[-3:]))
        assert last < first, term


def test_a_discriminator_learns_to_tell_and_the_generator_loss_leaves_it_alone() -> None:
    torch.manual_seed(0)
    config, x = tiny(), clips()["video"]
    losses = AVTokLosses(config, LossWeights(video=replace(OFF, adversarial=1.0), audio=OFF, prior=0.0))
    optimizer = torch.optim.AdamW(losses.discriminators.parameters(), lr=2e-3)
    blurred = x.mean((3, 4), keepdim=True).expand_as(x)
    values = []
    for _ in range(30):
        loss = losses.discriminator_loss("video", x, blurred)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-3:]) < 0.8 * sum(values[:3])
    optimizer.zero_grad(set_to_none=True)
    model = AVTokModel(config)
    losses(model, {"video": x}).total.backward()
    assert all(p.grad is None for p in losses.discriminators.parameters())
    assert model.stream_decoder("video").head.bias.grad.abs().sum() > 0


def test_weight_zero_builds_and_computes_nothing() -> None:
    losses = AVTokLosses(tiny(), LossWeights(video=replace(OFF, l1=1.0), audio=OFF, prior=0.0))
    assert not list(losses.parameters())
    result = losses(AVTokModel(tiny()), {"video": clips()["video"]})
    assert set(result.terms) == {"video/l1"}


def test_pixel_terms_are_what_their_names_say_and_overall_scales_a_stream() -> None:
    x = clips()["video"]
    model = AVTokModel(tiny())  # zero head: paints 0
    weights = replace(OFF, l1=1.0, l2=1.0, log_mse=1.0, overall=3.0)
    result = AVTokLosses(tiny(), LossWeights(video=weights, audio=OFF, prior=0.0))(model, {"video": x})
    expected = {"l1": x.mean(), "l2": x.square().mean(), "log_mse": (x.square().flatten(1).mean(1) + 1e-5).log().mean()}
    for term, value in expected.items():
        torch.testing.assert_close(result.terms[f"video/{term}"], value)
    torch.testing.assert_close(result.total, 3 * sum(expected.values()))


def test_a_missing_teacher_or_perceptual_distance_is_an_error_not_a_skipped_loss() -> None:
    x = {"video": clips()["video"]}
    with pytest.raises(ValueError, match="teacher"):
        AVTokLosses(tiny(), LossWeights(video=replace(OFF, alignment=1.0), audio=OFF, prior=0.0))(AVTokModel(tiny()), x)
    with pytest.raises(ValueError, match="perceptual"):
        AVTokLosses(tiny(), LossWeights(video=replace(OFF, perceptual=1.0), audio=OFF, prior=0.0))(AVTokModel(tiny()), x)


def test_alignment_is_minus_the_mean_cosine() -> None:
    a = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(alignment_loss(a, 7 * a), torch.tensor(-1.0))
    torch.testing.assert_close(alignment_loss(a, -a), torch.tensor(1.0))


def test_generator_and_discriminator_losses_at_known_logits() -> None:
    zeros = torch.zeros(1000)
    assert float(generator_loss(zeros)) == pytest.approx(math.log(2))
    assert float(smoothed_bce(zeros, zeros)) == pytest.approx(math.log(2))  # at logit 0 the label does not matter
    torch.manual_seed(0)
    certain = torch.full((200_000,), 10.0)  # right and certain: what is left is 10 times the mean label noise, E min(0.15 |n|, 0.3) = 0.117
    assert float(smoothed_bce(certain, -certain)) == pytest.approx(10 * 0.117, rel=0.02)


def test_lecam_moves_slowly_and_punishes_logits_beyond_the_other_kinds_mean() -> None:
    lecam = LeCam()
    value = lecam(torch.full((4,), 2.0), torch.full((4,), -1.0))
    torch.testing.assert_close(lecam.real_mean, torch.tensor(0.002))
    torch.testing.assert_close(value, torch.tensor((2 + 0.001) ** 2 + (0.002 + 1) ** 2))


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_the_prior_reads_only_the_past_and_both_streams(kind: str) -> None:
    torch.manual_seed(0)
    config = tiny(kind)
    prior, book = Prior(config).eval(), torch.nn.functional.normalize(torch.randn(32, 8), dim=-1)
    latents = torch.randn(2, 18, 8)
    changed = latents.clone()
    changed[:, 9] += 1.0
    first, second = (prior.logits(x, prior._positions(("video", "audio")), book) for x in (latents, changed))
    torch.testing.assert_close(first[:, :9], second[:, :9])
    assert not torch.allclose(first[:, 9:], second[:, 9:])


def test_the_prior_learns_a_sequence_that_repeats_and_passes_its_gradient_to_the_latents_but_not_to_the_codebook() -> None:
    torch.manual_seed(0)
    config = tiny()
    prior, book = Prior(config), torch.randn(32, 8, requires_grad=True)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=3e-3)
    codes = torch.arange(8).repeat(4, 1)
    values = []
    for _ in range(30):
        latents = book.detach()[codes].requires_grad_()
        loss = prior({"video": Quantized(latents=latents, codes=codes, loss=torch.zeros(()))}, book, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.3 * values[0]
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    assert book.grad is None


def test_the_prior_of_a_wide_codebook_starts_at_the_uniform_loss() -> None:
    torch.manual_seed(0)
    prior, book = Prior(tiny()), 6 * torch.randn(32, 8)
    codes = torch.randint(32, (4, 8))
    quantized = {"video": Quantized(latents=book[codes], codes=codes, loss=torch.zeros(()))}
    wild = float(prior(quantized, book, 0.0).detach())
    prior.start_at(book)
    assert wild > 20
    assert float(prior(quantized, book, 0.0).detach()) == pytest.approx(math.log(32), abs=0.6)


def test_own_samples_are_mixed_in_up_to_a_half_over_the_first_30_percent_of_steps() -> None:
    prior = Prior(tiny())
    assert [prior.mix_share(p) for p in (0.0, 0.15, 0.3, 1.0)] == pytest.approx([0.0, 0.25, 0.5, 0.5])


def test_teacher_maps_on_the_same_grid_pass_and_others_are_resampled() -> None:
    maps = torch.arange(2 * 3 * 8, dtype=torch.float32).view(2, 3, 2, 2, 2)
    assert torch.equal(resample_grid(maps, (2, 2, 2))[1, :, 2], maps[1, 2].flatten())
    constant = torch.full((1, 3, 1, 12, 22), 4.0)
    torch.testing.assert_close(resample_grid(constant, (1, 5, 24)), torch.full((1, 120, 3), 4.0))
