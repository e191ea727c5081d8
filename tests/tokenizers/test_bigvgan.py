"""BigVGAN: golden samples of the authors' code, its published files and their front end, and the vocoders by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from keyed_weights import keyed_state
from torch import Tensor

from avbench import weights
from avbench.errors import AvbenchError
from avbench.nn import mel
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers import bigvgan
from avbench.tokenizers.mel_vocoder import MelVocoder
from avbench.tokenizers.vocoders import BIGVGANS, load_vocoder
from avbench.types import ClipBatch

GOLDEN: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[1] / "golden" / "bigvgan.json").read_text())
# The front ends that the authors' repository states (configs/*.json, commit 7d2b454): name -> (bands, rate, FFT, hop, fmax).
PUBLISHED = {
    "bigvgan_v2_22khz_80band_fmax8k_256x": (80, 22050, 1024, 256, 8000),
    "bigvgan_22khz_80band": (80, 22050, 1024, 256, 8000),
    "bigvgan_base_22khz_80band": (80, 22050, 1024, 256, 8000),
    "bigvgan_v2_22khz_80band_256x": (80, 22050, 1024, 256, None),
    "bigvgan_24khz_100band": (100, 24000, 1024, 256, 12000),
    "bigvgan_v2_24khz_100band_256x": (100, 24000, 1024, 256, None),
    "bigvgan_v2_44khz_128band_512x": (128, 44100, 2048, 512, None),
}


def _published(model: str) -> dict[str, Tensor]:
    """The authors' state dict: weight norm as it is trained, and a copy of the filter for each activation."""
    golden = GOLDEN[model]
    state = keyed_state({key: tuple(shape) for key, shape in golden["shapes"].items()})
    return state | {key: torch.tensor(golden["taps"]).view(1, 1, 12) for key in golden["filters"]}


def _saved(folder: Path, model: str = "v1", name: str = "bigvgan", state: Any = None, **config: Any) -> tuple[Path, Path]:
    file, config_file = folder / f"{name}.pt", folder / f"{name}-config.json"
    torch.save({"generator": _published(model) if state is None else state}, file)
    config_file.write_text(json.dumps(GOLDEN[model]["config"] | config))
    return file, config_file


def _mel() -> Tensor:
    return torch.randn(1, 80, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model", GOLDEN)
def test_the_authors_code_gives_the_same_samples(model: str, tmp_path: Path) -> None:
    generator = bigvgan.load(*_saved(tmp_path, model))
    samples = generator(_mel())[0, 0]
    assert samples.shape == (9 * 256,)
    expected = torch.tensor(GOLDEN[model]["samples"])
    torch.testing.assert_close(samples[GOLDEN[model]["places"]], expected, atol=1e-4, rtol=0)
    assert float(samples.std()) == pytest.approx(GOLDEN[model]["std"], abs=1e-4)


def test_the_filter_is_the_authors() -> None:
    torch.testing.assert_close(bigvgan.lowpass(), torch.tensor(GOLDEN["v1"]["taps"]), atol=1e-6, rtol=0)


def test_a_file_without_weight_norm_gives_the_same_samples(tmp_path: Path) -> None:
    plain = bigvgan.load(*_saved(tmp_path))
    again = bigvgan.load(*_saved(tmp_path, state=plain.state_dict(), name="plain"))
    assert torch.equal(plain(_mel()), again(_mel()))


def test_the_sound_of_a_batch_is_that_of_its_clips(tmp_path: Path) -> None:
    generator = bigvgan.load(*_saved(tmp_path))
    mels = torch.cat([_mel(), _mel().flip(2)])
    torch.testing.assert_close(generator(mels)[1:], generator(mels[1:]), atol=1e-4, rtol=0)


def test_the_cut_into_cache_sized_pieces_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = bigvgan.load(*_saved(tmp_path))
    whole = generator(_mel())
    monkeypatch.setattr(bigvgan, "CPU_VALUES", 1)
    torch.testing.assert_close(generator(_mel()), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("stages", "channels", "rates", "bias", "weights_in_all"), [
    (4, 512, (8, 8, 2, 2), True, 13_943_361),
    (6, 1536, (4, 4, 2, 2, 2, 2), True, 112_199_473),
    (6, 1536, (4, 4, 2, 2, 2, 2), False, 112_199_472),
])  # fmt: skip
def test_the_published_sizes_have_the_published_number_of_weights(
    stages: int, channels: int, rates: tuple[int, ...], bias: bool, weights_in_all: int
) -> None:
    """The authors' 13.95 M and 112.23 M less the magnitudes of weight norm, which folding drops."""
    config = bigvgan.BigVganConfig(
        upsample_rates=rates,
        upsample_kernel_sizes=tuple(2 * rate for rate in rates),
        upsample_initial_channel=channels,
        resblock_kernel_sizes=(3, 7, 11),
        resblock_dilation_sizes=((1, 3, 5),) * 3,
        use_bias_at_final=bias,
    )
    with torch.device("meta"):
        generator = bigvgan.BigVganGenerator(config)
    assert len(generator.ups) == stages
    assert sum(weight.numel() for weight in generator.parameters()) == weights_in_all


@pytest.mark.parametrize("name", PUBLISHED)
def test_only_files_trained_on_our_mel_are_taken(name: str, tmp_path: Path) -> None:
    bands, rate, fft, hop, fmax = PUBLISHED[name]
    theirs = {"num_mels": bands, "sampling_rate": rate, "n_fft": fft, "win_size": fft, "hop_size": hop, "fmax": fmax}
    files = _saved(tmp_path, **theirs)
    if (bands, rate, fmax) == (mel.NUM_MELS, mel.NOMINAL_RATE, mel.F_MAX):
        assert bigvgan.load(*files)(_mel()).shape == (1, 1, 9 * 256)
        return
    with pytest.raises(AvbenchError, match=r"and avbench's mel has (80|8000|22050).*fmax8k"):
        bigvgan.load(*files)


@pytest.mark.parametrize(
    "config",
    [
        {"upsample_rates": [8, 8, 2]},
        {"upsample_rates": [256, 1, 1, 1]},
        {"upsample_rates": []},
        {"upsample_rates": "8822"},
        {"upsample_kernel_sizes": [16, 16, 4]},
        {"upsample_initial_channel": 10**9},
        {"upsample_initial_channel": 1.5},
        {"resblock_kernel_sizes": [3, -7]},
        {"resblock_dilation_sizes": [1, 3]},
        {"activation": "relu"},
        {"resblock": "3"},
    ],
)
def test_a_config_of_no_bigvgan_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(AvbenchError, match="bigvgan"):
        bigvgan.load(*_saved(tmp_path, **config))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("ups.1.0.bias"), "lacks ups.1.0.bias"),
        (lambda state: state.pop("ups.1.0.weight_g"), "ups.1.0.weight_g"),
        (lambda state: state.update({"mpd.bias": torch.zeros(1)}), "unknown mpd.bias"),
        (lambda state: state.update({"conv_post.bias": torch.zeros(2)}), r"conv_post.bias \(2,\)"),
        (lambda state: state.update({"activation_post.upsample.filter": torch.zeros(1, 1, 12)}), "upsample.filter is not BigVGAN's"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_its_key(change: Callable[[dict[str, Tensor]], Any], named: str, tmp_path: Path) -> None:
    state = _published("v1")
    change(state)
    with pytest.raises(AvbenchError, match=named):
        bigvgan.load(*_saved(tmp_path, state=state))


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    file, config = _saved(tmp_path)
    torch.save({"discriminator": {}}, file)
    with pytest.raises(AvbenchError, match="generator"):
        bigvgan.load(file, config)
    config.write_text("[1]")
    with pytest.raises(AvbenchError, match="config"):
        bigvgan.load(file, config)


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", BIGVGANS)
def test_a_vocoder_is_made_of_the_files_in_the_weights_folder_and_says_which_is_missing(name: str, weights_folder: Path) -> None:
    with pytest.raises(weights.WeightsUnavailable, match=f"avbench weights pull {name}`"):
        load_vocoder(name)
    _, config = _saved(weights_folder, name=name)
    vocoder = load_vocoder(name)
    assert vocoder(_mel()).shape == (1, 9 * 256)
    config.unlink()
    with pytest.raises(weights.WeightsUnavailable, match=f"pull {name}-config"):
        load_vocoder(name)


def test_mel_vocoder_takes_bigvgan_and_its_revision_changes_with_the_file(weights_folder: Path) -> None:
    _saved(weights_folder)
    tokenizer = MelVocoder(TokenizerOptions(variants=("bigvgan",)))
    audio = 0.1 * torch.randn(2, 1, 3000, generator=torch.Generator().manual_seed(1))
    recon = tokenizer.decode(tokenizer.encode(ClipBatch(audio=audio, fps=0.0, sample_rate=24_000)))
    assert recon.audio is not None
    assert recon.audio.shape == audio.shape
    _saved(weights_folder, state=_published("v1") | {"conv_post.bias": torch.ones(1)})
    assert MelVocoder(TokenizerOptions(variants=("bigvgan",))).info.revision != tokenizer.info.revision
