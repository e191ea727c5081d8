"""avbench.artifact: what is written comes back to the bit, what is damaged or hostile is refused before it costs anything."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from avbench import artifact
from avbench.errors import AvbenchError
from avbench.generate.checkpoint import load_generator
from avbench.tokenizers.avtok.checkpoint import load_checkpoint
from avbench.tokenizers.avtok.tokenizer import AVTok, PlainAVTok

STATE = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, 2]), "c": torch.ones(4, dtype=torch.bfloat16)}
CONFIG: dict[str, Any] = {"name": "toy@1", "width": 3, "layers": 2, "rates": (0.5, 1), "audio": None, "flag": True}
Change = Callable[[dict[str, Any]], Any]


def _write(folder: Path, state: dict[str, Tensor] = STATE, **changes: Any) -> Path:
    artifact.write(folder, kind="toy", config=CONFIG | changes, state=state, provenance={"split": "arcade-train", "clips_seen": 8})
    return folder


def _edited(folder: Path, change: Change) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_what_is_written_comes_back_to_the_bit(tmp_path: Path) -> None:
    found = artifact.read(_write(tmp_path), "toy")
    assert found.config == CONFIG | {"rates": [0.5, 1]}
    assert found.trained_on == "arcade-train, 8 clips seen"
    state = found.state(STATE)
    assert list(state) == sorted(STATE, key=list(state).index)
    assert all(torch.equal(state[name], tensor) and state[name].dtype == tensor.dtype for name, tensor in STATE.items())


def test_the_manifest_and_the_shards_say_the_same_of_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "SHARD_BYTES", 100_030)
    shards = json.loads((_write(tmp_path) / "manifest.json").read_text())["shards"]
    assert len(shards) == 2
    for shard in shards:
        data = (tmp_path / shard["file"]).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (shard["sha256"], shard["bytes"])


def test_the_revision_follows_config_and_weights_and_nothing_else(tmp_path: Path) -> None:
    def revision(name: str) -> str:
        return artifact.read(tmp_path / name, "toy").revision

    _write(tmp_path / "a")
    artifact.write(tmp_path / "b", kind="toy", config=CONFIG, state=STATE, provenance={"note": "the same"})
    _write(tmp_path / "c", width=4)
    _write(tmp_path / "d", STATE | {"b": STATE["b"] + 1})
    assert revision("a") == revision("b")
    assert len({revision(name) for name in "acd"}) == 3


def test_a_write_that_dies_leaves_the_folder_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path)
    monkeypatch.setattr(artifact, "SHARD_BYTES", 100_030)
    whole = artifact._write_shard

    def dies(folder: Path, number: int, *rest: Any) -> dict[str, Any]:
        if number:
            raise KeyboardInterrupt
        return whole(folder, number, *rest)

    monkeypatch.setattr(artifact, "_write_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path, STATE | {"b": STATE["b"] + 1})
    assert torch.equal(artifact.read(tmp_path, "toy").state(STATE)["b"], STATE["b"])
    monkeypatch.undo()
    _write(tmp_path, STATE | {"b": STATE["b"] + 2})
    assert torch.equal(artifact.read(tmp_path, "toy").state(STATE)["b"], STATE["b"] + 2)
    assert len(list(tmp_path.iterdir())) == 2  # a manifest and one shard: nothing stale


def test_provenance_with_a_nan_is_written_as_null(tmp_path: Path) -> None:
    """A diverged loss is no reason to lose a training, and NaN is no JSON."""
    artifact.write(tmp_path, kind="toy", config=CONFIG, state=STATE, provenance={"held_out": {"psnr": float("nan")}, "x": (1, 2)})
    assert artifact.read(tmp_path, "toy").provenance == {"held_out": {"psnr": None}, "x": [1, 2]}


def test_a_full_disk_is_told_and_the_folder_of_before_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AvbenchError, match="no space left for"):
        _write(tmp_path, STATE | {"b": STATE["b"] + 1})
    assert torch.equal(artifact.read(tmp_path, "toy").state(STATE)["b"], STATE["b"])
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"width": -1}, {"width": 10**400}, {"width": float("nan")}, {"width": float("inf")}, {"width": 10**9}, {"layers": 5000},
        {"encoder": {"num_layers": 600}}, {"name": "../../<script>"}, {"name": "x\u001b[31m"}, {"name": ""}, {"name": 7},
        {"name": "x" * 101}, {"kind": "a\u001b]0;b\u0007"}, {"pattern": [1] * 5000}, {"a": [[[[[[[[[[[1]]]]]]]]]]]}, {"\u001b[2J": 1},
    ],
)  # fmt: skip
def test_a_config_that_no_model_has_is_refused_on_reading_and_writing(tmp_path: Path, changes: dict[str, Any]) -> None:
    _edited(_write(tmp_path), lambda manifest: manifest["config"].update(changes))
    with pytest.raises(AvbenchError) as caught:
        artifact.read(tmp_path, "toy")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
    with pytest.raises(AvbenchError):
        _write(tmp_path / "other", **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(kind="avtok"), "is not a manifest of toy"),
        (lambda m: m.update(version=3), "is not a manifest of toy"),
        (lambda m: m.update(version=1), "is not a manifest of toy"),
        (lambda m: m.pop("config"), "damaged: config"),
        (lambda m: m.update(provenance=3), "damaged: provenance"),
        (lambda m: m.update(shards=[m["shards"][0]] * 1001), "too many shards"),
        (lambda m: m["shards"][0].update(file="../model-000.safetensors"), "shards are .safetensors files of the same folder"),
        (lambda m: m["shards"][0].update(file="/etc/passwd"), "shards are .safetensors files of the same folder"),
        (lambda m: m["shards"][0].update(file="a/b.safetensors"), "shards are .safetensors files of the same folder"),
        (lambda m: m["shards"][0].update(file=".hidden.safetensors"), "shards are .safetensors files of the same folder"),
        (lambda m: m["shards"][0].update(sha256="x"), "damaged"),
        (lambda m: m["shards"][0].update(bytes=-1), "damaged"),
    ],
)
def test_a_manifest_that_is_damaged_or_foreign_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(AvbenchError, match=message):
        artifact.read(_edited(_write(tmp_path), change), "toy")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": STATE["a"], "b": STATE["b"]}, "it lacks c"),
        (STATE | {"d": torch.zeros(1)}, "it has unknown d"),
        (STATE | {"b": torch.zeros(3, 2)}, r"it has mis-shaped b \(3, 2\), which should be \(2, 3\)"),
        (STATE | {"b": torch.zeros(2, 3, dtype=torch.int64)}, "it holds no floating-point tensor in b"),
        (STATE | {"a": torch.zeros(2)}, "it holds no integers in a"),
        (STATE | {"b": torch.full((2, 3), torch.nan)}, "values that are not finite in b"),
        (STATE | {"c": torch.full((4,), torch.inf, dtype=torch.bfloat16)}, "values that are not finite in c"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path: Path, state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(AvbenchError, match=message):
        artifact.read(_write(tmp_path, state), "toy").state(STATE)


def test_a_shape_that_does_not_fit_is_refused_before_the_tensors_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = artifact.read(_write(tmp_path, STATE | {"b": torch.zeros(3, 2)}), "toy")
    monkeypatch.setattr(artifact, "load_safetensors", lambda file: pytest.fail("read"))
    monkeypatch.setattr(artifact, "sha256_of", lambda file: pytest.fail("read"))
    with pytest.raises(AvbenchError, match="mis-shaped"):
        found.state(STATE)


@pytest.mark.parametrize("device", ["fifo", "/dev/zero"])
@pytest.mark.parametrize("which", ["manifest.json", "model"])
def test_a_fifo_or_a_device_in_a_folder_is_refused_at_once(tmp_path: Path, device: str, which: str) -> None:
    (file,) = _write(tmp_path).glob(f"{which}*")
    file.unlink()
    if device == "fifo":
        os.mkfifo(file)
    else:
        file.symlink_to(device)
    with pytest.raises(AvbenchError, match="not a file"):
        artifact.read(tmp_path, "toy").state(STATE)


def test_a_folder_of_one_file_for_other_programs(tmp_path: Path) -> None:
    for add in (0, 1):
        state = STATE | {"b": STATE["b"] + add}
        artifact.write(tmp_path, kind="toy", config=CONFIG, state=state, provenance={}, single="model.safetensors")
        assert {file.name for file in tmp_path.iterdir()} == {"manifest.json", "model.safetensors"}
        assert torch.equal(load_file(tmp_path / "model.safetensors")["b"], state["b"])
        assert torch.equal(artifact.read(tmp_path, "toy").state()["b"], state["b"])


def test_fill_casts_to_float32_and_leaves_integer_buffers() -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 2)
    artifact.fill(model, {"weight": torch.ones(2, 3, dtype=torch.float16), "bias": torch.zeros(2)}, "x", "a line")
    assert model.weight.dtype == torch.float32
    with pytest.raises(AvbenchError, match="x is not a line: it holds no floating-point tensor in weight"):
        artifact.fill(model, {"weight": torch.ones(2, 3, dtype=torch.int64), "bias": torch.zeros(2)}, "x", "a line")


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        ({"split": "arcade-train", "clips_seen": 5200}, "arcade-train, 5,200 clips seen"),
        ({"split": "arcade-train", "clips_seen": 10**400}, "not stated in its manifest"),
        ({"split": "arcade-train", "clips_seen": -1}, "not stated in its manifest"),
        ({"split": "arcade-train", "clips_seen": True}, "not stated in its manifest"),
        ({"split": "\u001b[31mred", "clips_seen": 3}, "not stated in its manifest"),
        ({"split": "arcade-train", "clips_seen": 3, "init": {"clips_seen": "many"}}, "not stated in its manifest"),
        ({"split": "arcade-train", "clips_seen": 3, "init": {"clips_seen": 4}}, "arcade-train, 7 clips seen"),
    ],
)
def test_what_a_row_says_of_a_training(provenance: dict[str, Any], said: str) -> None:
    assert artifact.trained_on(provenance) == said


# Version 1: four kinds of manifest. Their revisions stand in results.


def test_the_shipped_folders_are_what_they_were() -> None:
    """Revisions as in results/, which were made of these files; sums over the tensors, by the reader of then."""
    avtok, generator = load_checkpoint(PlainAVTok.shipped), load_generator(PlainAVTok.shipped_generator)
    assert avtok.revision == "78cdd11863c48287"
    assert generator.revision == "5e49531d954811988a260b12805d425452f97b3b976f9d9f718096e530ea54bb"[:16]
    assert generator.tokenizer_revision.startswith(avtok.revision)
    for folder, model in ((PlainAVTok.shipped, avtok.model), (PlainAVTok.shipped_generator, generator.model)):
        raw = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
        state = model.state_dict()
        assert state.keys() == raw.keys()
        assert all(torch.equal(state[name], tensor.to(state[name].dtype)) for name, tensor in raw.items())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _old(folder: Path, manifest: dict[str, Any], name: str = "model-000.safetensors") -> Path:
    save_file(STATE, folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_folders_of_version_1_are_read_under_their_revisions(tmp_path: Path) -> None:
    data, config = save(STATE), {"name": "toy", "width": 3}
    shards = [{"file": "model-000.safetensors", "sha256": _sha256(data), "bytes": len(data)}]
    old = _old(tmp_path, {"format": 1, "model": "toy", "config": config, "provenance": {}, "shards": shards})
    found = artifact.read(old, "toy")
    assert found.revision == _sha256((json.dumps(config, sort_keys=True) + shards[0]["sha256"]).encode())[:16]
    assert found.state(STATE).keys() == STATE.keys()
    old = _old(tmp_path, {"format": 1, "config": config, "provenance": {}, "shards": shards})
    assert artifact.read(old, "avtok").revision == _sha256(str(shards[0]["sha256"]).encode())[:16]
    with pytest.raises(AvbenchError, match="is not a manifest of toy"):
        artifact.read(old, "toy")
    network = b'{"model_type": "encodec", "num_filters": 4}'
    (tmp_path / "config.json").write_bytes(network)
    files = {"config.json": _sha256(network), "model.safetensors": _sha256(data)}
    old = _old(tmp_path, {"format": 1, "name": "encodec-x", "files": files, "provenance": {}}, "model.safetensors")
    found = artifact.read(old, "encodec")
    assert (found.revision, found.config["name"], found.config["network"]["num_filters"]) == (_sha256(data)[:16], "encodec-x", 4)
    (tmp_path / "config.json").write_bytes(network.replace(b"4", b"5"))
    with pytest.raises(AvbenchError, match=r"config\.json is damaged"):
        artifact.read(old, "encodec")


@pytest.mark.parametrize(
    "changes",
    [
        {"width": -256},
        {"width": 10**9},
        {"encoder_layers": 5000},
        {"heads": 0},
        {"heads": 7},
        {"name": "../../<script>"},
        {"video": {"channels": 3, "size": [16, 128, 128], "patch": [0, 0, 0], "tokens": 256}},
        {"video": {"channels": 3, "size": [2**18] * 3, "patch": [1, 1, 1], "tokens": 2**18}},
        {"video": {"channels": 3, "size": [2**18] * 3, "patch": [8, 8, 16], "tokens": 256}},
        {"video": 3},
        {"quantizer": {"kind": "euclidean", "entries": 2**18, "dim": 2**18}},
    ],
)
def test_an_avtok_folder_with_an_impossible_config_is_refused_at_once(tmp_path: Path, changes: dict[str, Any]) -> None:
    shutil.copytree(AVTok.shipped, tmp_path / "copy")
    with pytest.raises(AvbenchError):
        load_checkpoint(_edited(tmp_path / "copy", lambda manifest: manifest["config"].update(changes)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_avtok_folder_with_values_that_are_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    loaded = load_checkpoint(AVTok.shipped)
    loaded.model.bottleneck.quantizer.embedding.weight.data[3, 5] = value
    artifact.write(tmp_path, kind="avtok", config=loaded.model.config.to_dict(), state=loaded.model.state_dict(), provenance={})
    with pytest.raises(AvbenchError, match=r"not finite in bottleneck\.quantizer\.embedding\.weight"):
        load_checkpoint(tmp_path)


# Small fitted things: one file


def test_a_fitted_file_comes_back_and_its_bytes_follow_from_it(tmp_path: Path) -> None:
    facts = {"labels": ["a", "ä"], "shape": [1, 2]}
    for name in ("one", "two"):
        artifact.write_file(tmp_path / name, {"x": STATE["b"].T, "y": STATE["a"]}, facts)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found, tensors = artifact.read_file(tmp_path / "one")
    assert found == facts
    assert torch.equal(tensors["x"], STATE["b"].T)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (save({"x": torch.zeros(1)}), "its header has no 'about'"),
        (save({"x": torch.full((1,), torch.nan)}, {"about": "{}"}), "x is not finite"),
        (save({"x": torch.zeros(1)}, {"about": "{"}), "damaged"),
        (b"\xff" * 100, "not a readable safetensors file"),
        (b"", "not a readable safetensors file"),
    ],
)
def test_a_fitted_file_that_is_damaged_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(AvbenchError, match=message):
        artifact.read_file(tmp_path / "x")
