"""avbench.run.code_version: the hash follows what a number passes through, and nothing beside it."""

from pathlib import Path

import pytest

from avbench import registry
from avbench.metric import MetricOptions
from avbench.run import code_version as module
from avbench.run.code_version import code_version


def sources(tokenizer: object) -> set[str]:
    kinds = {type(tokenizer).__module__} | {type(part).__module__ for part in vars(tokenizer).values()}
    return {path.stem for path in module._sources({kind for kind in kinds if module._is_ours(kind)})}


def test_a_composite_depends_on_both_parts_and_on_no_other_tokenizer() -> None:
    found = sources(registry.load_tokenizer("static-frame+silence"))
    assert {"composite", "controls"} <= found
    assert not found & {"h264", "opus", "pca_vq", "hifigan"}


def test_imports_are_followed_through_modules_and_functions() -> None:
    found = sources(registry.load_tokenizer("mel-vocoder"))
    assert {"mel_vocoder", "mel", "vocoders", "hifigan"} <= found  # the last is imported inside a function


def test_the_hash_moves_with_a_source_on_its_way_and_with_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, psnr = registry.load_tokenizer("identity"), registry.load_metric("psnr", MetricOptions(device="cpu", cache=tmp_path))
    before = code_version(tokenizer, [psnr])
    assert before == code_version(tokenizer, [psnr])
    assert before != code_version(tokenizer, [])
    changed = tmp_path / "controls.py"
    changed.write_text(module._file("avbench.tokenizers.controls").read_text() + "\n# changed\n")  # type: ignore[union-attr]
    real = module._file
    monkeypatch.setattr(module, "_file", lambda name: changed if name == "avbench.tokenizers.controls" else real(name))
    assert code_version(tokenizer, [psnr]) != before


def test_a_plugin_file_is_hashed(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    source = 'from avbench.tokenizers.controls import Identity\n\n\nclass Mine(Identity):\n    """A plugin."""\n'
    file.write_text(source)
    before = code_version(registry.load_tokenizer(f"{file}:Mine"), [])
    file.write_text(source + "\n\nX = 1\n")
    assert code_version(registry.load_tokenizer(f"{file}:Mine"), []) != before
