"""AVTok's network: shapes, what is shared, whose each parameter is, and how many there are."""

from dataclasses import replace

import pytest
import torch

from avbench.errors import AvbenchError
from avbench.nn.transformer import attend
from avbench.tokenizers.avtok.config import STREAMS, AVTokConfig, QuantizerConfig, StreamConfig, avtok_base, avtok_mini, avtok_small
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.parts import PUBLISHED_PARAMETERS_M, parameter_table, parameters_of, trainable_in
from avbench.tokenizers.avtok.streams import patchify, unpatchify
from avbench.tokenizers.avtok.train.objective import freeze
from avbench.tokenizers.avtok.train.optimizers import optimizer_groups


def tiny() -> AVTokConfig:
    return AVTokConfig(
        name="tiny",
        video=StreamConfig(channels=3, size=(4, 16, 16), patch=(2, 8, 8), tokens=8),
        audio=StreamConfig(channels=1, size=(1, 80, 32), patch=(1, 16, 16), tokens=12),
        width=64,
        encoder_layers=2,
        decoder_layers=2,
        heads=2,
        quantizer=QuantizerConfig(kind="euclidean", entries=64, dim=16, temperature=0.0),
    )


@pytest.fixture
def model() -> AVTokModel:
    torch.manual_seed(0)
    return AVTokModel(tiny())


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"video": torch.rand(2, 4, 3, 16, 16, generator=generator), "audio": torch.rand(2, 1, 1, 80, 32, generator=generator)}


@pytest.mark.parametrize("name", ["video", "audio"])
def test_a_stream_comes_back_in_its_own_shape_from_its_own_number_of_tokens(model: AVTokModel, name: str) -> None:
    x = inputs()[name]
    result = model(name, x)
    assert result.recon.shape == x.shape
    assert result.quantized.codes.shape == (2, tiny().stream(name).tokens)
    assert result.encoded.patches.shape == (2, tiny().stream(name).num_patches, 64)


def test_patches_are_the_boxes_of_the_clip() -> None:
    stream = tiny().video
    x = torch.arange(2 * 4 * 3 * 16 * 16).view(2, 4, 3, 16, 16)
    patches = patchify(x, stream)
    box = x[1, 2:4, :, 8:16, 0:8]  # second half in time, lower left: patch (1, 1, 0)
    assert torch.equal(patches[1, 1 * 4 + 1 * 2 + 0], box.permute(0, 2, 3, 1).flatten())
    assert torch.equal(unpatchify(patches, stream), x)


def test_uint8_clips_encode_as_their_values_over_255(model: AVTokModel) -> None:
    pixels = (inputs()["video"] * 255).to(torch.uint8)
    torch.testing.assert_close(model.encode("video", pixels).latents, model.encode("video", pixels.float() / 255).latents)


def test_an_audio_step_changes_what_video_reads_and_no_module_of_videos_own(model: AVTokModel) -> None:
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for name in ("video", "audio"):
        torch.nn.init.normal_(model.stream_decoder(name).head.weight, std=0.02)
    before |= {name: p.detach().clone() for name, p in model.named_parameters() if "head" in name}
    result = model("audio", inputs()["audio"])
    (result.recon.square().mean() + result.quantized.loss).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert not changed & set(parameters_of(model, owner="video"))
    shared = set(parameters_of(model, owner="shared"))
    assert {name for name in shared if name.endswith((".attn.qkv.weight", ".mlp.fc1.weight", "embedding.weight"))} <= changed


def test_owners_and_sides_are_disjoint_and_complete(model: AVTokModel) -> None:
    everything = {name for name, _ in model.named_parameters()}
    for groups in (
        [set(parameters_of(model, owner=owner)) for owner in ("video", "audio", "shared")],
        [set(parameters_of(model, side=side)) for side in ("encoder", "quantizer", "decoder")],
    ):
        assert set.union(*groups) == everything
        assert sum(map(len, groups)) == len(everything)
        assert all(groups)


def test_every_attention_mlp_and_codebook_weight_is_shared_and_every_norm_is_not(model: AVTokModel) -> None:
    shared = set(parameters_of(model, owner="shared"))
    for name, _ in model.named_parameters():
        if ".attn." in name or ".mlp." in name or name.startswith("bottleneck"):
            assert name in shared
        if "norm" in name:
            assert name not in shared


def test_stages_train_what_vfal_says(model: AVTokModel) -> None:
    used_by_video = set(parameters_of(model, owner="video")) | set(parameters_of(model, owner="shared"))
    assert set(trainable_in(model, "video")) == used_by_video
    assert not set(trainable_in(model, "audio")) & used_by_video
    assert not any(name.startswith(("encoder", "stream_encoders", "bottleneck")) for name in trainable_in(model, "decode"))
    assert len(trainable_in(model, "joint")) == len(list(model.parameters()))


def test_a_step_of_stage_audio_leaves_videos_output_as_it_was_to_the_bit(model: AVTokModel) -> None:
    x = inputs()
    model.eval()
    before = model("video", x["video"]).recon
    freeze(model, "audio", STREAMS)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    result = model("audio", x["audio"])
    (result.recon - x["audio"]).square().mean().backward()
    optimizer.step()
    model.eval()
    assert torch.equal(model("video", x["video"]).recon, before)


def test_muon_holds_the_hidden_matrices_and_adamw_every_other_parameter_once(model: AVTokModel) -> None:
    groups = optimizer_groups(model.named_parameters())
    assert len(groups.muon) == (2 + 2) * 4
    assert all(parameter.ndim == 2 for parameter in groups.muon)
    ids = [id(parameter) for parameter in groups.muon + groups.raw + groups.decay + groups.no_decay]
    assert sorted(ids) == sorted(id(parameter) for parameter in model.parameters())
    assert not {id(model.bottleneck.quantizer.embedding.weight)} & {id(p) for p in groups.muon + groups.decay}
    freeze(model, "audio", STREAMS)
    assert optimizer_groups(model.named_parameters()).muon == []


def test_base_has_the_published_number_of_parameters_within_half_a_percent() -> None:
    table = parameter_table(avtok_base())
    print(table)
    assert table["shared"] + table["video"] == 172_179_984  # LARP's tokenizer: 172.18 M (facts/BASELINES.md)
    assert table["prior"] / 1e6 == pytest.approx(21.7, abs=0.05)
    assert table["projectors"] / 1e6 == pytest.approx(2 * 7.3, abs=0.1)
    assert table["total"] / 1e6 == pytest.approx(PUBLISHED_PARAMETERS_M, rel=0.005)


def test_small_has_about_30_million_and_mini_fewer_than_10() -> None:
    assert 25e6 < parameter_table(avtok_small())["total"] < 35e6
    assert parameter_table(avtok_mini())["total"] < 10e6


def test_small_and_base_have_the_papers_tokens() -> None:
    for config in (avtok_base(), avtok_small()):
        assert (config.video.num_patches, config.video.tokens) == (1024, 1024)
        assert (config.audio.num_patches, config.audio.tokens) == (120, 128)


def test_a_patch_that_does_not_divide_the_clip_is_refused() -> None:
    with pytest.raises(AvbenchError, match="does not divide"):
        replace(tiny().video, patch=(3, 8, 8))


def test_bf16_attention_on_a_cpu_is_the_float32_one_within_its_precision() -> None:
    q, k, v = torch.randn(3, 2, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    oracle = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(attend(q.bfloat16(), k.bfloat16(), v.bfloat16()).float(), oracle, atol=0.03, rtol=0.03)


def test_bf16_compute_reconstructs_as_float32_does_within_its_precision(model: AVTokModel) -> None:
    x = inputs()["video"]
    torch.nn.init.normal_(model.stream_decoder("video").head.weight, std=0.02)
    latents = model.encode("video", x).latents
    exact = model.decode("video", latents)
    model.compute_dtype = torch.bfloat16
    torch.testing.assert_close(model.decode("video", latents), exact, atol=0.02, rtol=0.05)
