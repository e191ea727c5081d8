"""Every loader of published weights under the same hostile or unusual files: refused by name and at once, or loaded as if plain."""

import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from codec_files import GAINS, codec_state, golden
from keyed_weights import keyed_state
from official_larp import official_args, tensor
from safetensors.torch import save_file
from torch import Tensor, nn

from avbench import registry, weights
from avbench.errors import AvbenchError
from avbench.metrics.features import vggish
from avbench.nn.residual_vq import CodebookConfig
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers import bigvgan, hifigan
from avbench.tokenizers.dac import Dac
from avbench.tokenizers.encodec.tokenizer import Encodec
from avbench.tokenizers.larp.official import load_official
from avbench.tokenizers.snac import Snac
from avbench.tokenizers.wavtokenizer import checkpoint as wavtokenizer
from avbench.tokenizers.wavtokenizer.config import BackboneConfig, EncoderConfig, WavTokenizerConfig
from avbench.train import checkpoint
from avbench.weights.load import indexed_files, load_safetensors, load_torch, safetensors_header, sha256_of, tensors

State = dict[str, Tensor]
ROOT = Path(__file__).parents[1]
ENCODEC = {"num_filters": 4, "hidden_size": 8, "codebook_size": 64, "target_bandwidths": [1.5], "num_lstm_layers": 1}
DAC = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "n_codebooks": 4}


@dataclass(frozen=True, kw_only=True)
class Loader:
    """state: what a published file holds. write: (folder, state) -> its path. load: gives the network of a path."""

    state: Callable[[], State]
    write: Callable[[Path, State], Path]
    load: Callable[[Path], nn.Module]


def _folder(config: Mapping[str, Any]) -> Callable[[Path, State], Path]:
    def write(folder: Path, state: State) -> Path:
        (folder / "config.json").write_text(json.dumps(config))
        save_file(state, folder / "model.safetensors")
        return folder

    return write


def _saved(wrapped: Callable[[State], Any]) -> Callable[[Path, State], Path]:
    def write(folder: Path, state: State) -> Path:
        torch.save(wrapped(state), folder / "weights.pth")
        return folder / "weights.pth"

    return write


def _encodec() -> State:
    from transformers import EncodecConfig, EncodecModel

    shapes = {key: value.shape for key, value in EncodecModel(EncodecConfig(**ENCODEC)).state_dict().items()}
    return codec_state(shapes, GAINS["encodec"])


def _dac() -> State:
    from transformers import DacConfig, DacModel

    return codec_state({key: value.shape for key, value in DacModel(DacConfig(**DAC)).state_dict().items()}, 1.0)


def _bigvgan() -> State:
    published = _BIGVGAN["v1"]
    state = keyed_state({key: tuple(shape) for key, shape in published["shapes"].items()})
    return state | {key: torch.tensor(published["taps"]).view(1, 1, 12) for key in published["filters"]}


def _write_bigvgan(folder: Path, state: State) -> Path:
    (folder / "config.json").write_text(json.dumps(_BIGVGAN["v1"]["config"]))
    return _saved(lambda state: {"generator": state})(folder, state)


def _larp() -> State:
    shapes = json.loads((ROOT / "golden" / "larp.json").read_text())["shapes"]
    return {name: tensor(name, tuple(shape)) for name, shape in shapes.items() if not name.startswith("prior_model.")}


def _wavtokenizer() -> State:
    prefix = "feature_extractor.encodec."
    state = codec_state(golden("wavtokenizer")["shapes"], 1.0) | {"head.istft.window": torch.hann_window(120)}
    return state | {f"{prefix}quantizer.vq.layers.0._codebook.inited": torch.ones(1)}


def _load_wavtokenizer(path: Path) -> nn.Module:
    small = WavTokenizerConfig(
        name="wavtokenizer@40",
        n_fft=120,
        encoder=EncoderConfig(strides=(2, 3, 5), filters=4),
        codebook=CodebookConfig(entries=64, dim=16),
        backbone=BackboneConfig(width=64, hidden=96, layers=2),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(wavtokenizer.OFFICIAL, "40", (small, "wavtokenizer-small-600"))
        return wavtokenizer.load_checkpoint(path).model


def _vggish() -> State:
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in vggish.VggishNet().state_dict().items()}
    return {key: torch.full((1,), 0.01).expand(shape) for key, shape in shapes.items()}  # a small file of a large network


def _load_vggish(path: Path) -> nn.Module:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "path", lambda name: path)
        return vggish.load(torch.device("cpu"))


_BIGVGAN = golden("bigvgan")
LOADERS = {
    "encodec": Loader(state=_encodec, write=_folder(ENCODEC), load=lambda path: Encodec(TokenizerOptions(checkpoint=path)).model),
    "dac": Loader(state=_dac, write=_folder(DAC), load=lambda path: Dac(TokenizerOptions(checkpoint=path)).model),
    "snac": Loader(
        state=lambda: codec_state(golden("snac")["shapes"], GAINS["snac"]),
        write=_folder(golden("snac")["config"]),
        load=lambda path: Snac(TokenizerOptions(checkpoint=path)).model,
    ),
    "larp": Loader(state=_larp, write=_folder(official_args("tiny")), load=lambda path: load_official(path).model),
    "wavtokenizer": Loader(state=_wavtokenizer, write=_saved(lambda state: {"state_dict": state}), load=_load_wavtokenizer),
    "hifigan": Loader(
        state=lambda: hifigan.HifiGanGenerator(8).state_dict(), write=_saved(lambda state: {"generator": state}), load=hifigan.load
    ),
    "bigvgan": Loader(state=_bigvgan, write=_write_bigvgan, load=lambda path: bigvgan.load(path, path.parent / "config.json")),
    "vggish": Loader(state=_vggish, write=_saved(lambda state: state), load=_load_vggish),
}


def _largest(state: State) -> str:
    return max((key for key in state if "filter" not in key), key=lambda key: state[key].numel())


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("damage", ["nan", "inf", "int64"])
def test_values_that_are_no_finite_floats_are_refused(name: str, damage: str, tmp_path: Path) -> None:
    loader = LOADERS[name]
    state = loader.state()
    key = _largest(state)
    changed = state[key].clone()
    if damage == "int64":
        changed = changed.long()
    else:
        changed.view(-1)[-1] = float(damage)
    with pytest.raises(AvbenchError, match="not finite in" if damage != "int64" else "floating-point"):
        loader.load(loader.write(tmp_path, state | {key: changed}))


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_names_of_data_parallel_and_compiled_models_are_understood(name: str, prefix: str, tmp_path: Path) -> None:
    loader = LOADERS[name]
    state = loader.state()
    (tmp_path / "plain").mkdir()
    plain = loader.load(loader.write(tmp_path / "plain", state)).state_dict()
    prefixed = loader.load(loader.write(tmp_path, {prefix + key: value for key, value in state.items()})).state_dict()
    assert plain.keys() == prefixed.keys()
    assert all(torch.equal(plain[key], prefixed[key]) for key in plain)


@pytest.mark.parametrize("name", [name for name, loader in LOADERS.items() if name in ("encodec", "dac", "snac", "larp")])
def test_a_sharded_folder_is_the_folder_in_one_file(name: str, tmp_path: Path) -> None:
    loader = LOADERS[name]
    state = loader.state()
    whole = loader.load(loader.write(tmp_path, state)).state_dict()
    (tmp_path / "model.safetensors").unlink()
    files = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    weight_map = {key: files[number % 3] for number, key in enumerate(state)}
    for file in files:
        save_file({key: value for key, value in state.items() if weight_map[key] == file}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    sharded = loader.load(tmp_path).state_dict()
    assert all(torch.equal(whole[key], sharded[key]) for key in whole)
    (tmp_path / files[1]).unlink()
    with pytest.raises(AvbenchError, match=files[1]):
        loader.load(tmp_path)
    for hostile in ("../model.safetensors", "/etc/passwd", "x/../y.safetensors", 3):
        index.write_text(json.dumps({"weight_map": {"a": hostile}}))
        with pytest.raises(AvbenchError, match=r"same folder|no weight_map"):
            loader.load(tmp_path)


@pytest.mark.parametrize("name", ["encodec", "dac", "snac", "larp", "wavtokenizer", "avtok", "pca-vq", "class-mean"])
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "socket"])
def test_a_checkpoint_that_is_no_file_is_refused_without_waiting(name: str, kind: str, tmp_path: Path) -> None:
    path = Path(kind)
    if kind == "fifo":
        path = tmp_path / "fifo.safetensors"
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        path = tmp_path / "socket.pth"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    begin = time.monotonic()
    with pytest.raises(AvbenchError):
        registry.load_tokenizer(name, checkpoint=path)
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("read", [load_torch, load_safetensors, safetensors_header, sha256_of])
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "folder", "none"])
def test_readers_open_ordinary_files_only(read: Callable[[Path], Any], kind: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    path = {"fifo": tmp_path / "fifo", "/dev/zero": Path("/dev/zero"), "folder": tmp_path, "none": tmp_path / "none"}[kind]
    with pytest.raises(AvbenchError, match=r"not a file|cannot be opened"):
        read(path)


def _crafted(file: Path, kind: str) -> Path:
    """A .pth of one tensor that claims `2**31` bytes: a deflated record of zeros; a directory that lies; a pickle that does."""
    torch.save({"w": torch.zeros(4)}, file.with_suffix(".plain"))
    size = 1 << 31
    with zipfile.ZipFile(file.with_suffix(".plain")) as plain, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for record in plain.infolist():
            content = plain.read(record)
            if record.filename.endswith("data.pkl") and kind != "directory":
                content = content.replace(b"K\x04tq", b"\x8a\x05" + (size // 4).to_bytes(5, "little") + b"tq")
            if record.filename.endswith("data/0") and kind == "record":
                with out.open(record.filename, "w", force_zip64=True) as stream:
                    for _ in range(size >> 24):
                        stream.write(bytes(1 << 24))
            else:
                out.writestr(record.filename, content)
    if kind == "directory":
        raw = bytearray(file.read_bytes())
        at = raw.rindex(b"data/0")
        start = raw.rindex(b"PK\x01\x02", 0, at)
        raw[start + 24 : start + 28] = size.to_bytes(4, "little")
        file.write_bytes(raw)
    return file


@pytest.mark.parametrize("kind", ["record", "directory", "pickle"])
def test_a_pth_that_claims_gigabytes_is_refused_before_they_are_allocated(kind: str, tmp_path: Path) -> None:
    code = (
        "import resource, sys, time; from pathlib import Path\n"
        "from avbench.errors import AvbenchError; from avbench.weights.load import load_torch\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before, begin = peak(), time.monotonic()\n"
        "try: load_torch(Path(sys.argv[1]))\n"
        "except AvbenchError: print(peak() - before, time.monotonic() - begin)\n"
    )
    file = _crafted(tmp_path / "x.pth", kind)
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True, timeout=120)
    megabytes, seconds = map(float, done.stdout.split())
    assert megabytes < 100
    assert seconds < 10


def test_a_training_is_not_resumed_from_a_state_that_claims_gigabytes(tmp_path: Path) -> None:
    (_crafted(tmp_path / "x.pth", "directory")).rename(tmp_path / "state.pt")
    identity = checkpoint.Identity(recipe="r", digest="d", split="s", split_checksum="c", num_clips=1)
    with pytest.raises(AvbenchError, match="more than the file can hold"):
        checkpoint.load(tmp_path, identity)


def test_a_safetensors_header_that_claims_more_than_the_file_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 31], "data_offsets": [0, 1 << 33]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    for read in (safetensors_header, load_safetensors):
        with pytest.raises(AvbenchError, match="not a readable safetensors file"):
            read(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(AvbenchError, match="a header of"):
        safetensors_header(tmp_path / "y.safetensors")


@pytest.mark.parametrize("shape", ["[1e400]", f"[{'9' * 400}]", "[-1]", "[NaN]", '["4"]', "[[1]]", "null", "[" * 50_000])
def test_a_safetensors_header_of_impossible_shapes_is_refused(shape: str, tmp_path: Path) -> None:
    header = f'{{"w": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 16]}}}}'.encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    for read in (safetensors_header, load_safetensors):
        with pytest.raises(AvbenchError, match="not a readable safetensors file"):
            read(tmp_path / "x.safetensors")


def test_the_header_says_what_the_file_holds(tmp_path: Path) -> None:
    state = {"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.arange(4), "c": torch.zeros((), dtype=torch.bool)}
    save_file(state, tmp_path / "x.safetensors", {"format": "pt"})
    header = safetensors_header(tmp_path / "x.safetensors")
    assert {name: (value.shape, value.dtype) for name, value in header.items()} == {
        name: (value.shape, value.dtype) for name, value in state.items()
    }
    assert all(value.is_meta for value in header.values())


def test_half_a_weight_norm_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    """A tensor of stride 0 is large without taking memory, until it is multiplied."""
    state = _encodec()
    direction = next(key for key in state if key.endswith("original1"))
    huge = torch.zeros(1).expand(1 << 16, 1 << 10, 1 << 6)  # 17 GB, were it folded
    magnitude = torch.zeros(1).expand(1 << 16, 1, 1)
    torch.save(state | {direction: huge, direction.replace("original1", "original0"): magnitude}, tmp_path / "x.pth")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AvbenchError, match="more numbers than the file holds"):
        Encodec(TokenizerOptions(checkpoint=tmp_path / "x.pth"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


HOSTILE = (-1, 5000, 10**9, 10**400, float("nan"), "../../<b>\x1b[2J", None, [], [-1, 3], {"a": 1}, True, 0.5)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places in a config, of a list the first two."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield from _leaves(item, (*path, key))


def _with(config: Any, path: tuple[Any, ...], value: Any) -> Any:
    config = json.loads(json.dumps(config))
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return config


@pytest.mark.parametrize("name", ["encodec", "dac", "snac", pytest.param("larp", marks=pytest.mark.slow), "bigvgan"])
def test_a_config_of_impossible_values_is_refused_before_a_model_is_built(name: str, tmp_path: Path) -> None:
    """Each value of the config, one after the other, becomes each hostile one: refused in words, or a setting that builds nothing.

    LARP's config is long and what passes builds a network: each value becomes every third, the next value the others.
    """
    loader = LOADERS[name]
    path = loader.write(tmp_path, loader.state())
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, place in enumerate(_leaves(config)):
        for value in HOSTILE[number % 3 :: 3] if name == "larp" else HOSTILE:
            file.write_text(json.dumps(_with(config, place, value)))
            begin = time.monotonic()
            try:
                loader.load(path)
            except AvbenchError as error:
                assert str(error).replace("\n", "").isprintable()  # noqa: PT017 - some values are no error
            assert time.monotonic() - begin < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_a_prefix_of_some_names_only_is_a_name(tmp_path: Path) -> None:
    state = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert tensors(state, tmp_path) == state


def test_an_index_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "i.json").write_text("{}")
    with pytest.raises(AvbenchError, match="no weight_map"):
        indexed_files(tmp_path / "i.json")
