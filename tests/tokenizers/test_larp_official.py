"""Official LARP checkpoints: both published forms give the official codes and reconstructions; anything wrong with a file is named."""

import hashlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from official_larp import official_args, tensor, video
from safetensors.torch import save_file
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.nn.packed import Packed
from avbench.nn.transformer import Attention
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.parts import count_parameters
from avbench.tokenizers.larp import inference, official
from avbench.tokenizers.larp.inference import BlockwiseAttention, optimise
from avbench.tokenizers.larp.official import build, load_official, official_shapes, prior_shapes
from avbench.tokenizers.larp.official_config import official_config, published

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "larp.json").read_text())  # of the official code: golden/make_larp.py
PATCHES = "x_embedder.proj.weight"


class EasyDict(dict[str, Any]):
    """What official settings are pickled as: items that are attributes too."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({key: EasyDict(value) if isinstance(value, dict) else value for key, value in values.items()})
        self.__dict__.update(self)


@pytest.fixture
def easydict(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("easydict")
    module.EasyDict = EasyDict  # type: ignore[attr-defined]
    monkeypatch.setattr(EasyDict, "__module__", "easydict")
    monkeypatch.setitem(sys.modules, "easydict", module)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The official tensors that encode and decode, under the names that the official code gives them."""
    return {name: tensor(name, tuple(shape)) for name, shape in GOLDEN["shapes"].items() if not name.startswith("prior_model.")}


def with_prior(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {name: torch.zeros(shape) for name, shape in GOLDEN["shapes"].items() if name.startswith("prior_model.")}


def hub_folder(folder: Path, state: dict[str, Tensor], **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(official_args("tiny") | changed))
    return folder


def pth(folder: Path, state: dict[str, Tensor], **model: Any) -> Path:
    settings = EasyDict({"model": {"name": "larp_tokenizer", "args": official_args("tiny")}, "env": {"save_dir": "x"}})
    moving_average = {0.999: {name: torch.zeros_like(value) for name, value in state.items()}}
    content = {"model": {**settings["model"], "sd": state, "ema_sd": moving_average, **model}, "epoch": 150, "cfg": settings}
    torch.save(content, folder / "larp.pth")
    return folder / "larp.pth"


def recon_of(model: AVTokModel, codes: Tensor) -> Tensor:
    return model.decode("video", model.bottleneck.quantizer.decode(codes))


def assert_official(model: AVTokModel) -> None:
    codes = torch.tensor(GOLDEN["codes"])
    with torch.inference_mode():
        assert torch.equal(torch.cat([model.tokenize("video", clip[None]) for clip in video("tiny")]), codes)
        recon = recon_of(model, codes)
    torch.testing.assert_close(recon.flatten()[::97], torch.tensor(GOLDEN["recon"]), atol=1e-4, rtol=0)
    assert float(recon.mean()) == pytest.approx(GOLDEN["recon_mean"], abs=1e-5)


@pytest.mark.parametrize("prior", [False, True])
def test_the_hubs_form_gives_the_official_codes_and_reconstruction_with_and_without_the_prior(
    tmp_path: Path, state: dict[str, Tensor], prior: bool
) -> None:
    found = load_official(hub_folder(tmp_path, with_prior(state) if prior else state))
    assert_official(found.model)
    assert found.sha256 == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.usefixtures("easydict")
def test_a_pth_gives_the_same_from_its_weights_and_not_from_their_moving_average(tmp_path: Path, state: dict[str, Tensor]) -> None:
    assert_official(load_official(pth(tmp_path, state)).model)


def test_the_fast_layers_of_a_cpu_give_the_official_codes_and_reconstruction(tmp_path: Path, state: dict[str, Tensor]) -> None:
    model = load_official(hub_folder(tmp_path, state)).model
    optimise(model)
    if torch.backends.mkldnn.is_available():
        assert sum(isinstance(part, Packed) for part in model.modules()) == 4 * (2 + 2) + 4
        assert sum(isinstance(part, BlockwiseAttention) for part in model.modules()) == 2 + 2
    assert_official(model)


def test_attention_in_blocks_is_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    torch.manual_seed(0)
    attention, x = Attention(48, 3), torch.randn(2, 21, 48)
    monkeypatch.setattr(inference, "ROWS", 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with torch.inference_mode():
        torch.testing.assert_close(BlockwiseAttention(attention)(x), attention(x), atol=1e-5, rtol=1e-5)


def test_every_tensor_matters(state: dict[str, Tensor]) -> None:
    """A key that were ignored or filled by a formula would leave latents and reconstruction as they are."""
    config, x, codes = official_config(official_args("tiny"), "here"), video("tiny", clips=1), torch.tensor(GOLDEN["codes"][:1])

    def outputs(state: dict[str, Tensor]) -> Tensor:
        model = build(config, state, "here")
        with torch.inference_mode():
            return torch.cat([model.encode("video", x).latents.flatten(), recon_of(model, codes).flatten()])

    before = outputs(state)
    for name in state:
        moved = outputs(state | {name: state[name] + torch.rand(state[name].shape)})
        assert not torch.equal(before, moved), name


def test_the_published_checkpoint_has_172_million_parameters_and_a_prior_of_22() -> None:
    config = published()
    buffers = ("encoder_patch_pe", "decoder_latent_pe", "decoder_patch_query_embed")
    sizes = {name: shape.numel() for name, shape in official_shapes(config).items() if name not in buffers}
    assert sum(sizes.values()) == pytest.approx(172.18e6, abs=5e3)
    with torch.device("meta"):
        assert sum(sizes.values()) == count_parameters(AVTokModel(config.model))
    assert config.prior is not None
    assert sum(shape.numel() for shape in prior_shapes(config.prior, 16).values()) == pytest.approx(21.70e6, abs=5e3)


def test_the_published_settings_are_those_of_the_official_configuration() -> None:
    assert official_config(official_args("large"), "here") == published()


def test_names_and_shapes_are_those_of_the_official_code() -> None:
    config = official_config(official_args("tiny"), "here")
    assert config.prior is not None
    expected = official_shapes(config) | prior_shapes(config.prior, config.model.quantizer.dim)
    assert {name: list(shape) for name, shape in expected.items()} == GOLDEN["shapes"]


def test_our_tables_of_positions_are_the_official_ones() -> None:
    model = AVTokModel(official_config(official_args("tiny"), "here").model)
    ours = {official.official_name(name): table for name, table in model.named_buffers() if "position" in name}
    assert set(ours) == set(GOLDEN["positions"])
    for name, values in GOLDEN["positions"].items():
        torch.testing.assert_close(ours[name].flatten()[::53], torch.tensor(values), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({PATCHES: None}, r"lacks x_embedder\.proj\.weight"),
        ({"decoder_latent_token_type_embed": torch.zeros(1, 1, 48)}, "has unknown decoder_latent_token_type_embed"),
        ({"encoder_latent_query_embed": torch.zeros(12, 47)}, "has mis-shaped encoder_latent_query_embed"),
        ({"prior_model.pos_emb": torch.zeros(1, 1024, 256)}, r"lacks prior_model\.blocks.* and 99 more"),
    ],
)
def test_a_tensor_too_few_too_many_or_of_another_shape_is_named(
    tmp_path: Path, state: dict[str, Tensor], change: dict[str, Tensor | None], message: str
) -> None:
    changed = {name: value for name, value in (state | change).items() if value is not None}
    with pytest.raises(AvbenchError, match=message) as caught:
        load_official(hub_folder(tmp_path, changed))
    assert "model.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder_depth": 10**9}, "encoder_depth is 1000000000"),
        ({"encoder_num_heads": True}, "encoder_num_heads is True"),
        ({"decoder_hidden_size": 64}, "decoder_hidden_size is not encoder_hidden_size"),
        ({"encoder_num_heads": 7, "decoder_num_heads": 7}, "7 heads do not divide"),
        ({"patch_size": 5, "decoder_patch_size": 5}, "does not divide"),
        ({"bottleneck": None}, "lacks bottleneck.args"),
        ({"bottleneck": {"args": {"norm": "ln_d_na"}}}, "norm is 'ln_d_na'"),
        ({"bottleneck": {"args": {"regularizer": {"name": "skl"}}}}, 'regularizer is not "vq"'),
        ({"prior_model": {"name": "gpt-5"}}, "unknown prior_model 'gpt-5'"),
    ],
)
def test_settings_of_another_architecture_are_refused_by_name(
    tmp_path: Path, state: dict[str, Tensor], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(AvbenchError, match=message):
        load_official(hub_folder(tmp_path, state, **settings))


def test_a_download_that_was_cut_off_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = hub_folder(tmp_path, state) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(AvbenchError, match=r"model\.safetensors is not a readable safetensors file"):
        load_official(tmp_path)


@pytest.mark.usefixtures("easydict")
def test_a_pth_that_was_cut_off_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = pth(tmp_path, state)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(AvbenchError, match=r"larp\.pth refused"):
        load_official(file)


def test_a_file_of_the_hubs_cache_is_checked_against_the_sha256_in_its_name(tmp_path: Path, state: dict[str, Tensor]) -> None:
    source = hub_folder(tmp_path / "plain", state) / "model.safetensors"
    content = source.read_bytes()
    right, wrong = hashlib.sha256(content).hexdigest(), "0" * 64
    for digest in (right, wrong):
        (tmp_path / digest).write_bytes(content)
    source.unlink()
    source.symlink_to(tmp_path / right)
    assert load_official(source.parent).sha256 == right
    source.unlink()
    source.symlink_to(tmp_path / wrong)
    with pytest.raises(AvbenchError, match="the hub's cache promises 000"):
        load_official(source.parent)


class Harmful:
    """A pickle that would run a command when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch harmed",)


def test_a_pth_that_would_run_something_is_refused_and_nothing_is_run(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"name": "larp_tokenizer", "args": Harmful(), "sd": state}}, "larp.pth")
    with pytest.raises(AvbenchError, match=r"larp\.pth refused"):
        load_official(Path("larp.pth"))
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}}, "holds no model with args and sd"),
        ({"model": {"name": "larp_ar", "args": {}, "sd": {}}}, "holds a 'larp_ar', not a larp_tokenizer"),
        ({"model": {"args": 3, "sd": {}}}, r"model\.args is a int"),
    ],
)
def test_a_pth_of_something_else_is_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    torch.save(content, tmp_path / "larp.pth")
    with pytest.raises(AvbenchError, match=message):
        load_official(tmp_path / "larp.pth")


def test_a_folder_without_weights_or_config_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with pytest.raises(AvbenchError, match=r"has neither model\.safetensors"):
        load_official(tmp_path)
    (hub_folder(tmp_path, state) / "config.json").unlink()
    with pytest.raises(AvbenchError, match=r"config\.json is missing"):
        load_official(tmp_path)
