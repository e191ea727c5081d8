"""Names -> plugins: variants, composites, files, and messages that name the culprit."""

from pathlib import Path

import pytest

from avbench import registry
from avbench.errors import AvbenchError, UsageError
from avbench.metric import MetricOptions

TOY = Path(__file__).parent / "toy_plugin" / "block_mean.py"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h264", ("h264", ())),
        ("h264@20k", ("h264", ("20k",))),
        ("h264@20k-opus@6k", ("h264-opus", ("20k", "6k"))),
        ("pca-vq@256x12@64x12", ("pca-vq", ("256x12", "64x12"))),
        ("encodec@1.5k", ("encodec", ("1.5k",))),
    ],
)
def test_variants_follow_an_at_sign(name: str, expected: tuple[str, tuple[str, ...]]) -> None:
    assert registry.parse_variants(name) == expected


def test_an_unknown_tokenizer_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match='did you mean "h264"'):
        registry.load_tokenizer("h246")


def test_an_unknown_metric_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match='did you mean "psnr"'):
        registry.load_metric("pnsr", MetricOptions())


def test_a_metric_may_be_written_with_hyphens() -> None:
    assert registry.load_metric("si-sdr", MetricOptions()).info.name == "si_sdr"


def test_a_class_of_a_file_is_a_tokenizer() -> None:
    assert registry.load_tokenizer(f"{TOY}:BlockMean").info.name == "block-mean"


def test_a_wrong_class_name_lists_the_classes_of_the_file() -> None:
    with pytest.raises(UsageError, match="it has BlockMean"):
        registry.load_tokenizer(f"{TOY}:BlockMeen")


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        registry.load_tokenizer(f"{tmp_path}/nothing.py:Class")


def test_a_file_that_cannot_be_imported_is_named_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(AvbenchError, match=r"broken\.py cannot be imported: ModuleNotFoundError"):
        registry.load_tokenizer(f"{tmp_path}/broken.py:Class")


def test_a_class_without_decode_is_refused(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("class Half:\n    info = None\n    def encode(self, batch): return batch\n")
    with pytest.raises(AvbenchError, match="lacks info, encode or decode"):
        registry.load_tokenizer(f"{tmp_path}/half.py:Half")


def test_variants_of_a_tokenizer_that_takes_none_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes neither variants nor a checkpoint"):
        registry.load_tokenizer(f"{TOY}:BlockMean", checkpoint=TOY)


def test_a_checkpoint_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AvbenchError, match="does not exist"):
        registry.load_tokenizer("h264", checkpoint="nowhere.safetensors")


def test_every_registered_name_can_be_imported() -> None:
    for kind in registry.GROUPS:
        for plugin in registry.plugins(kind).values():
            if plugin.distribution == "avbench":
                assert callable(plugin.load())
