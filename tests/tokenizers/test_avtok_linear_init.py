"""The linear start: before any training the network is PCA + nearest entry + PCA back."""

from dataclasses import replace

import pytest
import torch

from avbench.errors import AvbenchError
from avbench.nn.linear_vq import fit_basis
from avbench.tokenizers.avtok.config import STREAMS, AVTokConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.linear_init import SCALE, code_width, linear_init
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.parts import parameters_of
from avbench.tokenizers.avtok.streams import orthogonal_grid, patchify
from avbench.tokenizers.avtok.train.start import quiet_stream


def tiny(kind: str = "euclidean") -> AVTokConfig:
    return AVTokConfig(
        name="tiny",
        video=StreamConfig(channels=3, size=(4, 32, 32), patch=(2, 8, 8), tokens=32),
        audio=StreamConfig(channels=1, size=(1, 80, 64), patch=(1, 16, 16), tokens=24),  # 20 patches: spare tokens
        width=64,
        encoder_layers=2,
        decoder_layers=2,
        heads=2,
        quantizer=QuantizerConfig(kind=kind, entries=128, dim=12, temperature=0.0),  # type: ignore[arg-type]
    )


def clips(seed: int, count: int) -> dict[str, torch.Tensor]:
    """Smooth random pictures: most energy in few components, as real ones."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int, t: int, h: int, w: int) -> torch.Tensor:
        coarse = torch.rand(count, channels, t, h // 8, w // 8, generator=generator)
        fine = torch.nn.functional.interpolate(coarse, size=(t, h, w), mode="trilinear")
        return (fine + 0.02 * torch.randn(fine.shape, generator=generator)).clamp(0, 1).transpose(1, 2)

    return {"video": smooth(3, 4, 32, 32), "audio": smooth(1, 1, 80, 64)}


def started(config: AVTokConfig) -> tuple[AVTokModel, dict[str, object]]:
    torch.manual_seed(0)
    model = AVTokModel(config)
    patches = {name: patchify(x, config.stream(name)).flatten(0, 1) for name, x in clips(0, 40).items()}
    return model.eval(), dict(linear_init(model, patches))


@pytest.mark.parametrize("name", STREAMS)
def test_step_zero_is_the_linear_control(name: str) -> None:
    """The oracle is written out: PCA by SVD, nearest entry by cdist, and back."""
    config = tiny()
    model, _ = started(config)
    training = patchify(clips(0, 40)[name], config.stream(name)).flatten(0, 1)
    mean = training.mean(0)
    components = torch.linalg.svd(training - mean, full_matrices=False)[2][:12]
    held_out = patchify(clips(1, 3)[name], config.stream(name))
    coordinates = (held_out - mean) @ components.t()
    unit = ((training - mean) @ components.t()).square().mean().sqrt()
    signs = model.stream_encoder(name).patch_embed.weight[:12] @ components.t() * unit / SCALE
    torch.testing.assert_close(signs.diagonal().abs(), torch.ones(12), atol=1e-3, rtol=0)
    latents = coordinates / unit * signs.diagonal()
    codes = torch.cdist(latents, model.bottleneck.quantizer.embedding.weight[None]).argmin(-1)
    recon = (model.bottleneck.quantizer.embedding.weight[codes] * signs.diagonal() * unit) @ components + mean
    count = config.stream(name).num_patches
    ours = model.tokenize(name, clips(1, 3)[name])
    assert (ours[:, :count] == codes).float().mean() > 0.97  # ties of the float arithmetic
    decoded = model.decode_patches(name, model.bottleneck.quantizer.decode(torch.cat([codes, ours[:, count:]], 1)))
    torch.testing.assert_close(decoded, recon, atol=5e-3, rtol=0)


def test_cosine_codes_start_close_to_the_linear_control_too() -> None:
    config = tiny("cosine")
    model, bases = started(config)
    x = clips(1, 3)["video"]
    patches = patchify(x, config.video)
    basis = bases["video"]
    linear = basis.patches(basis.coordinates(patches)[..., : code_width(config)])  # type: ignore[attr-defined]
    unquantized = (linear - patches).square().mean()
    flat = (patches - patches.mean((0, 1))).square().mean()
    error = (model.detokenize("video", model.tokenize("video", x)) - x).square().mean()
    assert unquantized < error < 0.4 * flat


def test_a_random_start_is_far_from_it() -> None:
    torch.manual_seed(0)
    model, x = AVTokModel(tiny()).eval(), clips(1, 3)["video"]
    linear, _ = started(tiny())
    errors = [(m.detokenize("video", m.tokenize("video", x)) - x).square().mean() for m in (model, linear)]
    assert errors[1] < 0.1 * errors[0]


def test_every_weight_gets_a_gradient_or_waits_for_one_behind_a_zero() -> None:
    """Zero-initialised branch outputs learn at once; what lies before them follows in the next step."""
    model, _ = started(tiny())
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        results = {name: model(name, x) for name, x in clips(2, 2).items()}
        sum((r.recon - clips(2, 2)[name]).square().mean() + r.quantized.loss for name, r in results.items()).backward()  # type: ignore[union-attr]
        optimizer.step()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_position_codes_only_tell_equal_from_different() -> None:
    code = orthogonal_grid((4, 8, 1))
    products = (code @ code.t()).view(4, 8, 4, 8)
    assert code.shape == (32, 3 + 7)
    torch.testing.assert_close(products[0, 0, 0, 0], torch.tensor(2.0))
    torch.testing.assert_close(products[1, 2, 1, 7], torch.tensor(1 - 1 / 7))
    torch.testing.assert_close(products[1, 2, 3, 2], torch.tensor(1 - 1 / 3))
    torch.testing.assert_close(products[1, 2, 3, 4], torch.tensor(-1 / 3 - 1 / 7))


def test_the_basis_is_scikit_learns_up_to_signs() -> None:
    from sklearn.decomposition import PCA

    points = torch.randn(500, 10, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 11)
    basis, oracle = fit_basis(points, 4, 2), PCA(4).fit(points.numpy())
    cosines = (basis.components @ torch.from_numpy(oracle.components_).float().t()).abs()
    torch.testing.assert_close(cosines, torch.eye(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(basis.std, torch.from_numpy(oracle.explained_variance_).float().sqrt(), rtol=2e-3, atol=0)
    torch.testing.assert_close(basis.coordinates(points)[:, :2].square().mean(), torch.tensor(1.0))


def test_what_cannot_have_a_linear_start_is_refused_with_the_reason() -> None:
    patches = {name: torch.rand(50, tiny().stream(name).patch_dim) for name in STREAMS}
    with pytest.raises(AvbenchError, match="too narrow"):
        linear_init(AVTokModel(replace(tiny(), heads=16)), patches)
    with pytest.raises(AvbenchError, match="32 patches, 16 tokens"):
        linear_init(AVTokModel(replace(tiny(), video=replace(tiny().video, tokens=16))), patches)
    with pytest.raises(AvbenchError, match="too few"):
        linear_init(AVTokModel(tiny()), {name: values[:5] for name, values in patches.items()})


def test_a_quieted_stream_reconstructs_as_at_step_zero_whatever_the_shared_blocks_learned() -> None:
    model, _ = started(tiny())
    x = clips(1, 3)
    before = {name: model(name, x[name]).recon for name in STREAMS}
    own = set(parameters_of(model, owner="audio"))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in parameters_of(model, owner="shared").items():
            if "blocks" in name and not name.startswith(("encoder.blocks.0.attn", "decoder.blocks.0.attn")):
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    spoilt = (model("audio", x["audio"]).recon - before["audio"]).square().mean()
    shared = {name: p.detach().clone() for name, p in model.named_parameters() if name not in own}
    quiet_stream(model, "audio")
    healed = (model("audio", x["audio"]).recon - before["audio"]).square().mean()
    assert healed < 0.01 * spoilt
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in shared.items())
