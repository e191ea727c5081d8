"""LPIPS: published values, and the paper's formula written down again over torchvision's networks."""

from pathlib import Path

import lpips as authors
import pytest
import torch
import torchvision
from torch import Tensor, nn

from avbench import weights
from avbench.metric import MetricOptions
from avbench.metrics.lpips import LpipsAlex, lpips
from avbench.types import ClipBatch, Tokens

TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}


def _clips(count: int = 2, frames: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(count, frames, 3, 64, 64, generator=generator)
    return reference, (reference + 0.2 * torch.randn(reference.shape, generator=generator)).clamp(0, 1)


def _trunk(net: str) -> nn.Sequential:
    name, key, build = {
        "alex": ("alexnet", "AlexNet_0", torchvision.models.alexnet),
        "vgg": ("vgg16", "VGG16_0", torchvision.models.vgg16),
    }[net]
    arrays = weights.load_array_pickle(weights.path(name), weights.CATALOG[name].sha256 or "")[key]
    trunk = build(weights=None).features
    for number, layer in enumerate([layer for layer in trunk if isinstance(layer, nn.Conv2d)]):
        layer.weight.data = torch.from_numpy(arrays[f"Conv_{number}"]["kernel"]).permute(3, 2, 0, 1)
        layer.bias.data = torch.from_numpy(arrays[f"Conv_{number}"]["bias"])
    return trunk


def _formula(reference: Tensor, recon: Tensor, net: str) -> float:
    """Sum over layers of the spatial mean of the weighted squared difference of unit-length features; frames (T, 3, H, W)."""
    heads = torch.load(Path(authors.__file__).parent / "weights" / "v0.1" / f"{net}.pth", map_location="cpu", weights_only=True)
    shift, scale = (torch.tensor(x).view(3, 1, 1) for x in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    x, y = ((2 * frames - 1 - shift) / scale for frames in (reference, recon))
    total, layer = torch.zeros(len(x)), 0
    for number, module in enumerate(_trunk(net)):
        x, y = module(x), module(y)
        if number in TAPS[net]:
            difference = nn.functional.normalize(x, dim=1) - nn.functional.normalize(y, dim=1)
            total += (heads[f"lin{layer}.model.1.weight"] * difference.square()).sum(dim=1).mean(dim=(1, 2))
            layer += 1
    return total.mean().item()


def test_zeros_against_ones_is_the_published_value() -> None:
    value = lpips(torch.zeros(1, 1, 3, 64, 64), torch.ones(1, 1, 3, 64, 64))
    assert value.item() == pytest.approx(0.81395, abs=5e-5)  # 0.81401 published for the same pair


@pytest.mark.parametrize("net", ["alex", pytest.param("vgg", marks=pytest.mark.slow)])
@torch.no_grad()
def test_it_is_the_papers_formula_over_torchvisions_network(net: str) -> None:
    reference, recon = _clips(count=1)
    assert lpips(reference, recon, net).item() == pytest.approx(_formula(reference[0], recon[0], net), abs=1e-5)  # type: ignore[arg-type]


def test_identical_clips_are_at_distance_zero() -> None:
    reference, _ = _clips()
    assert lpips(reference, reference).tolist() == [0.0, 0.0]


def test_a_clip_has_the_same_value_alone_in_a_batch_and_across_chunks_of_frames() -> None:
    reference, recon = _clips(count=2, frames=20)
    batch = lpips(reference, recon)
    assert lpips(reference[1:], recon[1:]).tolist() == pytest.approx(batch[1:].tolist(), abs=1e-6)
    frames = lpips(reference[0][:, None], recon[0][:, None])
    assert frames.mean().item() == pytest.approx(batch[0].item(), abs=1e-6)


def test_loading_the_networks_leaves_the_global_random_state_alone() -> None:
    from avbench.metrics.lpips import load

    load.cache_clear()
    before = torch.get_rng_state()
    load("alex", torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())


def test_the_metric_states_network_and_weights_and_gives_a_row_a_clip() -> None:
    reference, recon = _clips()
    metric = LpipsAlex(MetricOptions())
    batches = [ClipBatch(video=video, fps=4.0, sample_rate=24_000) for video in (reference, recon)]
    rows = metric.update(*batches, Tokens(codes={}, vocab_sizes={}, duration_s=1.0))
    assert rows.tolist() == pytest.approx(lpips(reference, recon).tolist())
    assert (weights.CATALOG["alexnet"].sha256 or "")[:8] in metric.info.protocol


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(ValueError, match='net "squeeze" is not known'):
        lpips(*_clips(), net="squeeze")  # type: ignore[arg-type]
