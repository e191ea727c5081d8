"""What there is and what is missing: `avbench list ...` and `avbench doctor`."""

import importlib.util
import inspect
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tabulate import tabulate

from avbench import __version__, registry, weights
from avbench.errors import AvbenchError
from avbench.paths import cache_root, data_root
from avbench.run import manifest

# extra -> (modules it brings, what it is for)
EXTRAS = {
    "train": (("accelerate",), "training"),
    "encodec": (("transformers",), "EnCodec"),
    "dac": (("transformers",), "Descript Audio Codec"),
    "snac": (("snac",), "SNAC"),
    "clap": (("transformers",), "CLAP score"),
    "visqol": (("visqol",), "ViSQOL"),
    "speech": (("pesq", "pystoi", "onnxruntime"), "PESQ, STOI, DNSMOS"),
    "codecs": (("imageio_ffmpeg",), "AV1 and VVC"),
    "vmaf": (("imageio_ffmpeg",), "VMAF"),
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the doctor's screen. `cure`: the command that gets what is missing."""

    what: str
    good: bool
    detail: str
    cure: str = ""


def names(kind: str) -> str:
    """The table of `avbench list KIND` ("tokenizers", "splits", "tasks", "weights" or "recipes")."""
    if kind == "weights":
        files = [(s.name, "here" if s.present else "absent", _megabytes(s.size), s.pin, s.licence, s.used_by) for s in weights.status()]
        return tabulate(files, headers=("weights", "state", "size", "pin", "licence", "used by"))
    rows = [(plugin.name, plugin.distribution, _first_line(plugin)) for plugin in registry.plugins(kind.removesuffix("s")).values()]
    if kind == "splits":
        rows.append(("folder:PATH", "avbench", "Any folder of videos; a sub-folder is a label."))
    return tabulate(rows, headers=(kind.removesuffix("s"), "from", "what"), maxcolwidths=[None, None, 100])


def report() -> str:
    """The doctor's screen."""
    lines = [*_machine(), *_codecs(), *_extras(), *_data(), *_weights(), *_plugins()]
    rows = [("ok" if line.good else "--", line.what, line.detail, line.cure) for line in lines]
    missing = sum(not line.good for line in lines)
    verdict = f"{missing} lines name something that is missing, and what gets it." if missing else "Nothing is missing."
    return f"{tabulate(rows, headers=('', 'what', 'found', 'to get it'), maxcolwidths=(None, None, 70, 60))}\n\n{verdict}"


def _machine() -> Iterator[Line]:
    facts = manifest.hardware(torch.device("cpu"))
    yield Line(what="avbench", good=True, detail=f"{__version__}, Python {manifest.versions()['python']}, torch {torch.__version__}")
    detail = f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB"
    yield Line(what="processor", good=facts["memory_gib"] >= 4, detail=detail, cure="evaluation needs about 4 GiB")
    if torch.cuda.is_available():
        yield Line(what="gpu", good=True, detail=f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    else:
        yield Line(what="gpu", good=True, detail="none: everything runs on the CPU, FVD and LPIPS slowly (about a second a clip)")
    cache = cache_root()
    free = shutil.disk_usage(next(path for path in (cache, *cache.parents) if path.exists())).free / 1e9
    yield Line(what="disk", good=free > 5, detail=f"{free:.0f} GB free at {cache}", cure="free 5 GB, or set AVBENCH_CACHE to another disk")


def _codecs() -> Iterator[Line]:
    import av

    for codec in ("libx264", "libopus", "aac"):
        try:
            av.codec.Codec(codec, "w")
            yield Line(what=f"codec {codec}", good=True, detail=f"in PyAV {av.__version__}")
        except ValueError:
            yield Line(what=f"codec {codec}", good=False, detail="this PyAV was built without it", cure="pip install --force-reinstall av")


def _extras() -> Iterator[Line]:
    for extra, (_, purpose) in EXTRAS.items():
        cure = extra_lacks(extra)
        yield Line(what=f"extra {extra}", good=not cure, detail=purpose, cure=cure or "")


def extra_lacks(extra: str, modules: tuple[str, ...] = ()) -> str | None:
    """The command that gets an extra of ours; None where it is here. modules: those of it that are needed; none: all."""
    missing = [module for module in modules or EXTRAS[extra][0] if importlib.util.find_spec(module) is None]
    return f"pip install 'avbench[{extra}]'" if missing else None


def _data() -> Iterator[Line]:
    here = importlib.util.find_spec("ale_py") is not None
    yield Line(what="split arcade-*", good=here, detail="made on this machine by ale-py", cure="" if here else "pip install ale-py==0.12.1")
    for name in ("vggsound", "tavgbench"):
        folder = data_root() / name
        cure = "" if folder.is_dir() else f"put {name}/ into {data_root()}, or set AVBENCH_DATA"
        yield Line(what=f"split {name}-*", good=folder.is_dir(), detail=str(folder) if folder.is_dir() else "no folder", cure=cure)


def _weights() -> Iterator[Line]:
    rows = weights.status()
    from_pip = [row for row in rows if isinstance(weights.CATALOG[row.name].source, weights.PipSource)]
    here = [row.name for row in from_pip if row.present]
    rest = [row.name for row in from_pip if not row.present]
    detail = f"here: {', '.join(here) or 'none'}" + (f"; fetched when first used: {', '.join(rest)}" if rest else "")
    yield Line(what="weights from pip", good=True, detail=detail, cure="avbench weights pull" if rest else "")
    absent = [row.name for row in rows if row not in from_pip and not row.present]
    detail = f"absent: {', '.join(absent)}" if absent else "all here"
    yield Line(what="weights from hubs", good=not absent, detail=detail, cure="avbench weights pull NAME" if absent else "")


def _plugins() -> Iterator[Line]:
    for kind in registry.GROUPS:
        found = registry.plugins(kind)
        broken = [(plugin, reason) for plugin in found.values() if (reason := _import_error(plugin))]
        good = f"{len(found) - len(broken)} of {len(found)} can be imported"
        yield Line(what=f"{kind}s", good=not broken, detail=good, cure="")
        for plugin, reason in broken:
            yield Line(what=f"{kind} {plugin.name}", good=False, detail=reason, cure=f"pip install --upgrade {plugin.distribution}")


def _import_error(plugin: registry.Plugin) -> str | None:
    try:
        plugin.load()
    except AvbenchError as error:
        return str(error)
    return None


def _first_line(plugin: registry.Plugin) -> str:
    try:
        return (inspect.getdoc(plugin.load()) or "").partition("\n")[0]
    except AvbenchError as error:
        return f"broken: {error}"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f} MB"
