"""Names -> plugins: variants, composites, files, and messages that name the culprit."""

import shutil
from pathlib import Path

import pytest

from avbench import registry
from avbench.errors import AvbenchError, UsageError
from avbench.metric import MetricOptions
from avbench.run.identity import code_of_tokenizer

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
        registry.load_tokenizer("h2644")


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


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("h264@20k-opus@6k", ("h264@20k-opus@6k",)),
        ("larp+wavtokenizer@40", ("larp", "wavtokenizer@40")),
        ("{toy}:BlockMean", ("{toy}:BlockMean",)),
        ("{toy}:BlockMean+silence", ("{toy}:BlockMean", "silence")),
        ("h264@20k+{toy}:BlockMean", ("h264@20k", "{toy}:BlockMean")),
        ("{toy}:BlockMean+{toy}:BlockMean", ("{toy}:BlockMean", "{toy}:BlockMean")),
        ("{toy}:BlockMean+", ("{toy}:BlockMean", "")),
        ("no/such.py:A+silence", ("no/such.py:A", "silence")),
    ],
)
@pytest.mark.parametrize("folder", ["plain", "a+b", "a+b.py:c+d"])
def test_a_plus_joins_tokenizers_unless_it_is_in_a_files_path(name: str, parts: tuple[str, ...], folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    toy = shutil.copy(TOY, tmp_path / folder)
    assert registry.parts_of(name.format(toy=toy)) == tuple(part.format(toy=toy) for part in parts)


def test_a_class_of_a_file_is_half_of_a_composite() -> None:
    both = registry.load_tokenizer(f"{TOY}:BlockMean+silence")
    assert both.info.name == "block-mean+silence"
    assert both.info.modalities == {"video", "audio"}
    code = code_of_tokenizer(f"{TOY}:BlockMean")
    assert code is not None
    assert code_of_tokenizer(f"{TOY}:BlockMean+silence") == code
    with pytest.raises(UsageError, match="a composite is one video and one audio"):
        registry.load_tokenizer(f"{TOY}:BlockMean+silence+silence")


@pytest.mark.parametrize(
    ("parameters", "gets"),
    [
        ("self", "nothing"),
        ("self, options", "options"),
        ("self, anything", "options"),
        ("self, *arguments", "options"),
        ("self, options=None", "options"),
        ("self, given: 'TokenizerOptions' = None", "options"),
        ("self, given: TokenizerOptions | None = None", "options"),
        ("self, path='w.pt'", "nothing"),
        ("self, path: str = 'w.pt'", "nothing"),
        ("self, *, path='w.pt'", "nothing"),
        ("self, **settings", "nothing"),
        ("self, path: str", "refused"),
        ("self, width: int", "refused"),
    ],
)
def test_a_constructor_gets_options_if_it_asks_for_them(parameters: str, gets: str, tmp_path: Path) -> None:
    """`path="w.pt"` is no place for TokenizerOptions: the weights would be looked for under their text."""
    (tmp_path / "mine.py").write_text(
        "from avbench.tokenizer import TokenizerInfo, TokenizerOptions\n"
        "class Mine:\n"
        f"    def __init__({parameters}):\n"
        "        got = any(isinstance(value, (TokenizerOptions, tuple)) for value in locals().values())\n"
        "        modalities = frozenset({'video'})\n"
        "        self.info = TokenizerInfo(name='options' if got else 'nothing', revision='1', modalities=modalities)\n"
        "    def encode(self, batch): ...\n"
        "    def decode(self, tokens): ...\n"
    )
    name = f"{tmp_path}/mine.py:Mine"
    if gets == "refused":
        with pytest.raises(AvbenchError, match="a constructor is given TokenizerOptions, or nothing"):
            registry.load_tokenizer(name)
        return
    assert registry.load_tokenizer(name).info.name == gets
    if gets == "nothing":
        with pytest.raises(UsageError, match="takes neither variants nor a checkpoint"):
            registry.load_tokenizer(name, checkpoint=TOY)


def test_a_checkpoint_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AvbenchError, match="does not exist"):
        registry.load_tokenizer("h264", checkpoint="nowhere.safetensors")


def test_every_registered_name_can_be_imported() -> None:
    for kind in registry.GROUPS:
        for plugin in registry.plugins(kind).values():
            if plugin.distribution == "avbench":
                assert callable(plugin.load())
