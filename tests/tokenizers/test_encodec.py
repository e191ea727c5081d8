"""EnCodec: the authors' results from the authors' file, every published format, and nothing but that."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_files import GAINS, NUM_SAMPLES, codec_state, golden, sound
from safetensors.torch import load_file, save_file
from torch import Tensor

from avbench import registry, weights
from avbench.errors import AvbenchError, UsageError
from avbench.run.check import check
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.encodec.checkpoint import save_checkpoint, to_transformers
from avbench.tokenizers.encodec.tokenizer import Encodec
from avbench.types import ClipBatch, Tokens

GOLDEN = golden("encodec")
SMALL = {"num_filters": 4, "hidden_size": 8, "codebook_size": 1024, "target_bandwidths": [1.5, 3.0, 6.0], "num_lstm_layers": 1}


@pytest.fixture(scope="module")
def authors_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official file's keys, shapes and kind of name, with weights that follow from the keys."""
    file = tmp_path_factory.mktemp("authors") / "encodec.th"
    torch.save(codec_state(GOLDEN["shapes"], GAINS["encodec"]), file)
    return file.rename(file.with_name(f"encodec_24khz-{_sha256(file)[:8]}.th"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small EnCodec as Hugging Face publishes one: config.json and weight-normalised model.safetensors under the older names."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(**SMALL)
    shapes = {_older(key): value.shape for key, value in EncodecModel(config).state_dict().items()}
    save_file(codec_state(shapes, GAINS["encodec"]), tmp_path / "model.safetensors")
    config.save_pretrained(tmp_path)
    return tmp_path


def _older(key: str) -> str:
    return key.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v")


def _newer(key: str) -> str:
    newer = key.replace("weight_g", "parametrizations.weight.original0")
    return newer.replace("weight_v", "parametrizations.weight.original1")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _clip(samples: Tensor) -> ClipBatch:
    return ClipBatch(audio=samples, fps=3.90625, sample_rate=24_000)


def _load(checkpoint: Path | None, *variants: str) -> Encodec:
    return Encodec(TokenizerOptions(checkpoint=checkpoint, variants=variants))


def _edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_the_authors_file_gives_the_authors_codes_and_samples(authors_file: Path) -> None:
    """Golden: tests/golden/make_codecs.py, the package encodec 0.1.1."""
    tokenizer = _load(authors_file, "6k")
    tokens = tokenizer.encode(_clip(sound(NUM_SAMPLES)))
    assert tokens.codes["audio"][0].tolist() == GOLDEN["codes"]
    recon = tokenizer.decode(tokens).audio
    assert recon is not None
    assert recon.shape == (1, 1, NUM_SAMPLES)
    torch.testing.assert_close(recon[0, 0, ::500], torch.tensor(GOLDEN["every_500th"]), atol=1e-4, rtol=0)
    assert float(recon.std()) == pytest.approx(GOLDEN["std"], abs=1e-5)


def test_both_published_forms_of_the_official_model_give_the_same_codes(authors_file: Path, tmp_path: Path) -> None:
    from transformers import EncodecConfig

    save_file(to_transformers(torch.load(authors_file, weights_only=True)), tmp_path / "model.safetensors")
    EncodecConfig().save_pretrained(tmp_path)
    tokenizer = _load(tmp_path, "6k")
    assert tokenizer.encode(_clip(sound(NUM_SAMPLES))).codes["audio"][0].tolist() == GOLDEN["codes"]


@pytest.mark.parametrize("where", ["folder", "file", "catalog", "pinned"])
def test_only_a_sha256_or_the_catalogs_place_makes_weights_official(
    authors_file: Path, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody's weights may have the official config."""
    from transformers import EncodecConfig

    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    path: Path | None = authors_file
    if where == "folder":
        save_file(to_transformers(torch.load(authors_file, weights_only=True)), tmp_path / "model.safetensors")
        EncodecConfig().save_pretrained(tmp_path)
        path = tmp_path
    elif where == "catalog":
        save_file(to_transformers(torch.load(authors_file, weights_only=True)), tmp_path / "own" / "encodec-24khz.safetensors")
        path = None
    elif where == "pinned":
        pinned = replace(weights.CATALOG["encodec-24khz-th"], sha256=_sha256(authors_file)[:8])
        monkeypatch.setitem(weights.CATALOG, "encodec-24khz-th", pinned)
    official = {"folder": False, "file": False, "catalog": True, "pinned": True}[where]
    assert _load(path).info.trained_on == ("official (facebook/encodec_24khz)" if official else "not stated")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_file_gives_the_codes_of_the_authors_code(folder: Path, dtype: torch.dtype) -> None:
    """Which casts magnitude and direction to float32 when it loads them, and folds weight norm after that."""
    from transformers import EncodecConfig, EncodecModel

    half = {key: value.to(dtype) for key, value in load_file(folder / "model.safetensors").items()}
    save_file(half, folder / "model.safetensors")
    tokenizer = _load(folder, "6k")
    theirs = EncodecModel(EncodecConfig(**SMALL)).eval()
    theirs.load_state_dict({_newer(key): value.float() for key, value in half.items()})
    samples = sound(NUM_SAMPLES)
    with torch.inference_mode():
        expected = theirs.encode(samples, bandwidth=6.0, return_dict=False)[0][0]
    assert torch.equal(tokenizer.encode(_clip(samples)).codes["audio"], expected)


def test_the_network_has_the_size_of_the_published_one(authors_file: Path) -> None:
    """14.85 million (measured on the authors' code), of which weight norm's magnitudes are folded in; codebooks counted beside."""
    shapes = GOLDEN["shapes"]
    network = sum(int(np.prod(shape)) for key, shape in shapes.items() if "codebook" not in key and not key.endswith("weight_g"))
    assert network == 14_846_817
    assert _load(authors_file, "1.5k").info.parameters == network + 2 * 1024 * 128


@pytest.mark.parametrize(("rate", "codebooks", "num_tokens"), [("1.5k", 2, 616), ("3k", 4, 1232), ("6k", 8, 2464)])
def test_a_clip_of_the_standard_protocol_has_the_published_number_of_tokens(
    folder: Path, rate: str, codebooks: int, num_tokens: int
) -> None:
    tokenizer = _load(folder, rate)
    codes = tokenizer.encode(_clip(sound(98_304))).codes["audio"]
    assert codes.shape == (1, codebooks, 308)
    assert codes.numel() == num_tokens
    assert tokenizer.info.name == f"encodec@{rate}"


def test_six_kbits_are_the_default_and_an_unknown_rate_names_those_offered(folder: Path) -> None:
    assert _load(folder).info.name == "encodec@6k"
    with pytest.raises(UsageError, match=r"1\.5k, 3k, 6k"):
        _load(folder, "12k")
    with pytest.raises(UsageError, match="one bit rate"):
        _load(folder, "3k", "6k")


def test_both_names_of_weight_norm_and_a_pytorch_file_give_the_same_network(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("newer")
    (other / "config.json").write_text((folder / "config.json").read_text())
    newer = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    state = load_file(folder / "model.safetensors")
    torch.save({key.replace(key[-8:], newer.get(key[-8:], key[-8:])): value for key, value in state.items()}, other / "pytorch_model.bin")
    clip = _clip(sound(NUM_SAMPLES))
    first, second = (_load(path).encode(clip).codes["audio"] for path in (folder, other))
    assert torch.equal(first, second)


def test_the_network_agrees_with_transformers_own_loading(folder: Path) -> None:
    from transformers import EncodecModel

    model = EncodecModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        encoded = model.encode(sound(NUM_SAMPLES), bandwidth=6.0)
        expected = model.decode(encoded.audio_codes, [None]).audio_values[..., :NUM_SAMPLES]
    tokenizer = _load(folder, "6k")
    tokens = tokenizer.encode(_clip(sound(NUM_SAMPLES)))
    assert torch.equal(tokens.codes["audio"], encoded.audio_codes[0])
    torch.testing.assert_close(tokenizer.decode(tokens).audio, expected, atol=1e-6, rtol=0)


def test_a_trained_folder_says_its_name_and_what_it_was_trained_on(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from transformers import EncodecConfig, EncodecModel

    out = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    save_checkpoint(
        out, EncodecModel(EncodecConfig(**SMALL)), name="encodec-mini", provenance={"split": "arcade-train", "clips_seen": 20_800}
    )
    info = _load(out, "1.5k").info
    assert (info.name, info.trained_on) == ("encodec-mini@1.5k", "arcade-train, 20,800 clips seen")
    assert _load(folder).info.trained_on == "not stated"
    data = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(AvbenchError, match=r"model\.safetensors is damaged"):
        _load(out)


@pytest.mark.slow
def test_the_conformance_kit_passes(folder: Path) -> None:
    failed = [finding for finding in check("encodec@3k", checkpoint=folder) if not finding.passed]
    assert not failed


def test_it_is_the_audio_part_of_a_composite(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avbench.composite import Composite

    both = Composite(registry.load_tokenizer("static-frame"), _load(folder, "1.5k"))
    batch = ClipBatch(video=torch.rand(2, 16, 3, 8, 8), audio=sound(98_304).expand(2, 1, -1), fps=3.90625, sample_rate=24_000)
    tokens = both.encode(batch)
    assert set(tokens.codes) == {"video", "audio"}
    recon = both.decode(tokens)
    assert recon.audio is not None
    assert recon.audio.shape == (2, 1, 98_304)


def _drop(state: dict[str, Tensor]) -> None:
    del state["encoder.layers.0.conv.bias"]


def _drop_half_a_norm(state: dict[str, Tensor]) -> None:
    del state["encoder.layers.0.conv.weight_g"]


def _add(state: dict[str, Tensor]) -> None:
    state["encoder.layers.99.conv.bias"] = torch.zeros(4)


def _reshape(state: dict[str, Tensor]) -> None:
    state["decoder.layers.0.conv.bias"] = torch.zeros(3)


def _reshape_a_magnitude(state: dict[str, Tensor]) -> None:
    state["encoder.layers.0.conv.weight_g"] = torch.ones(1, 1, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop, r"it lacks encoder\.layers\.0\.conv\.bias"),
        (_drop_half_a_norm, r"lacks the tensor encoder\.layers\.0\.conv\.weight_g"),
        (_add, r"it has unknown encoder\.layers\.99\.conv\.bias"),
        (_reshape, r"mis-shaped decoder\.layers\.0\.conv\.bias \(3,\), which should be \(64,\)"),
        (_reshape_a_magnitude, r"encoder\.layers\.0\.conv\.weight_g has shape \(1, 1, 1\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_key(folder: Path, damage: Callable[[dict[str, Tensor]], None], message: str) -> None:
    state = load_file(folder / "model.safetensors")
    damage(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(AvbenchError, match=message):
        _load(folder)


def test_a_truncated_file_is_refused(folder: Path, authors_file: Path, tmp_path: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(AvbenchError, match="not a readable safetensors file"):
        _load(folder)
    cut = tmp_path / "cut.th"
    cut.write_bytes(authors_file.read_bytes()[:1_000_000])
    with pytest.raises(AvbenchError, match=r"cut\.th refused"):
        _load(cut)


def test_a_file_that_is_not_what_its_name_promises_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "encodec_24khz-d7cc33bc.th"
    torch.save({"a": torch.zeros(1)}, file)
    with pytest.raises(AvbenchError, match="its name promises d7cc33bc"):
        _load(file)


def test_a_pickle_with_code_and_a_pickle_of_something_else_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": Path("x")}, tmp_path / "code.th")
    torch.save([1, 2], tmp_path / "list.th")
    with pytest.raises(AvbenchError, match="refused"):
        _load(tmp_path / "code.th")
    with pytest.raises(AvbenchError, match="holds a list"):
        _load(tmp_path / "list.th")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_filters": 10**9}, "num_filters is 1000000000"),
        ({"num_residual_layers": 10**4}, "num_residual_layers is 10000"),
        ({"upsampling_ratios": [2] * 1000}, "upsampling_ratios is"),
        ({"num_filters": 60_000}, "mis-shaped"),  # gigabytes, were it built before it is compared
        ({"codebook_size": 1000}, "makes no model"),
        ({"norm_type": "none"}, "makes no model"),
        ({"upsampling_ratios": [0, 0]}, "makes no model"),
    ],
)
def test_a_config_that_is_out_of_bounds_is_refused_before_a_model_is_built(folder: Path, changes: dict[str, Any], message: str) -> None:
    _edit_config(folder, **changes)
    with pytest.raises(AvbenchError, match=message):
        _load(folder)


@pytest.mark.parametrize("changes", [{"normalize": True}, {"chunk_length_s": 1.0, "overlap": 0.01}])
def test_a_model_whose_decoder_needs_more_than_codes_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    _edit_config(folder, **changes)
    with pytest.raises(AvbenchError, match="all that the decoder needs"):
        _load(folder)


def test_a_folder_without_config_or_weights_says_which_is_missing(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(AvbenchError, match=r"config\.json is missing"):
        _load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(AvbenchError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        _load(folder)


def test_without_weights_the_command_that_gets_them_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("AVBENCH_WEIGHTS", raising=False)
    with pytest.raises(AvbenchError, match="avbench weights pull encodec-24khz"):
        _load(None)


def test_the_users_folder_of_weights_is_taken_and_checked(tmp_path: Path, authors_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "encodec_24khz-d7cc33bc.th").symlink_to(authors_file)
    with pytest.raises(AvbenchError, match="expected d7cc33bc"):
        _load(None)


def test_without_the_extra_the_pip_command_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(AvbenchError, match=r"pip install 'avbench\[encodec\]'"):
        _load(folder)


def test_payloads_of_another_model_are_refused(folder: Path) -> None:
    tokenizer = _load(folder, "3k")
    for shape, vocab in (((1, 8, 308), 1024), ((1, 4, 300), 1024), ((1, 4, 308), 512)):
        tokens = Tokens(codes={"audio": torch.zeros(shape, dtype=torch.int64)}, vocab_sizes={"audio": vocab}, duration_s=4.096)
        with pytest.raises(AvbenchError, match="damaged payload"):
            tokenizer.decode(tokens)


@pytest.mark.gpu
def test_a_gpu_gives_what_a_cpu_gives(folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    clip = _clip(sound(98_304)).to("cuda")
    on_gpu = Encodec(TokenizerOptions(checkpoint=folder, device=torch.device("cuda")))
    recon = on_gpu.decode(on_gpu.encode(clip)).audio
    assert recon is not None
    assert recon.device.type == "cuda"  # where the reference is, so that metrics can compare them
    on_cpu = _load(folder)
    agree = (on_cpu.encode(clip.to("cpu")).codes["audio"] == on_gpu.encode(clip).codes["audio"].cpu()).float().mean()
    assert agree > 0.99
