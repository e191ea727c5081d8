"""Names -> tokenizers, metrics and splits, through entry points. One broken plugin is reported by name and harms no other."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from avbench.contain import plugin_code
from avbench.errors import AvbenchError, UsageError, unknown_name
from avbench.metric import DistributionMetric, Metric, MetricInfo, MetricOptions, MetricUnavailable, check_info
from avbench.protocol import Protocol
from avbench.task import Task
from avbench.tokenizer import Tokenizer, TokenizerOptions
from avbench.types import DEFAULT_TASK

if TYPE_CHECKING:
    import torch

GROUPS = {
    "tokenizer": "avbench.tokenizers",
    "metric": "avbench.metrics",
    "split": "avbench.splits",
    "task": "avbench.tasks",
    "recipe": "avbench.recipes",
}


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A registered name and the distribution that it came with."""

    name: str
    distribution: str
    entry_point: EntryPoint

    def load(self) -> Any:
        """The object behind the entry point. Raises AvbenchError that names the distribution."""
        where = f"{self.entry_point.value} of distribution {self.distribution}"
        with plugin_code(f'plugin "{self.name}" ({where}) cannot be imported'):
            return self.entry_point.load()


def plugins(kind: str) -> dict[str, Plugin]:
    """Every registered name of a kind ("tokenizer", "metric", "split", "recipe"). avbench's own names cannot be taken over by a plugin."""
    found: dict[str, Plugin] = {}
    for entry in entry_points(group=GROUPS[kind]):
        distribution = entry.dist.name if entry.dist else "unknown"
        if entry.name in found and distribution != "avbench":
            continue
        found[entry.name] = Plugin(name=entry.name, distribution=distribution, entry_point=entry)
    return dict(sorted(found.items()))


def load_tokenizer(
    name: str,
    *,
    checkpoint: Path | str | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    protocol: Protocol | None = None,
    args: Mapping[str, Any] | None = None,
) -> Tokenizer:
    """The tokenizer called `name`: a registered one ("h264"), with variants ("h264@20k"), "A+B", or "path/to/file.py:Class".

    checkpoint: a file or folder as published; for "A+B", one for each part, "PATH+PATH", where either may be left out ("+PATH").
    protocol: what its clips are like; None: not known, and sound comes back at 24 kHz. Raises UsageError for an unknown name, or one that
    cannot work at the protocol, AvbenchError where its plugin or checkpoint cannot be loaded.
    """
    import torch

    if len(parts_of(name)) > 1:
        if args:
            raise UsageError(f"{name} is made of two tokenizers: arguments by name belong to one")
        return _composite(name, None if checkpoint is None else str(checkpoint), torch.device(device), seed, protocol)
    path = Path(checkpoint) if checkpoint is not None else None
    if path is not None and not path.exists():
        raise AvbenchError(f"checkpoint {path} does not exist; give a file or folder as it was published")
    if ".py:" in name:
        options = TokenizerOptions(checkpoint=path, device=torch.device(device), seed=seed, protocol=protocol)
        return _construct(name, _class_from_file(name), options, args or {})
    base, variants = parse_variants(name)
    known = plugins("tokenizer")
    if base not in known:
        raise unknown_name("tokenizer", base, known)
    options = TokenizerOptions(variants=variants, checkpoint=path, device=torch.device(device), seed=seed, protocol=protocol)
    return _construct(f"{name} of distribution {known[base].distribution}", known[base].load(), options, args or {})


def modules_behind(name: str) -> tuple[str, ...]:
    """The modules that register the tokenizer called `name` (of "A+B": both), as far as they are imported."""
    known = plugins("tokenizer")
    found = []
    for part in parts_of(name):
        base = parse_variants(part)[0]
        if ".py:" in part:
            found.append(_module_name(Path(part.rpartition(":")[0])))
        elif base in known:
            found.append(known[base].entry_point.module)
    return tuple(found)


def parts_of(name: str) -> tuple[str, ...]:
    """The tokenizers that `name` joins with "+". A "+" in the path of a file that is there joins nothing."""
    words, found = name.split("+"), []
    while words:
        ends = range(len(words), 1, -1)
        file = (re.fullmatch(r"(.+\.py):\w*", "+".join(words[:end])) for end in ends)
        end = next((end for end, match in zip(ends, file, strict=True) if match and Path(match[1]).is_file()), 1)
        found.append("+".join(words[:end]))
        words = words[end:]
    return tuple(found)


def parse_variants(name: str) -> tuple[str, tuple[str, ...]]:
    """`h264@20k-opus@6k` -> ("h264-opus", ("20k", "6k")): a variant follows "@" and ends at "-", "@" or the end."""
    return re.sub(r"@[^@\-+]*", "", name), tuple(re.findall(r"@([^@\-+]*)", name))


def load_metric(name: str, options: MetricOptions) -> Metric:
    """The metric called `name` ("fad-aisfx" and "fad_aisfx" are the same). Raises MetricUnavailable where it cannot run here."""
    known = plugins("metric")
    name = name.replace("-", "_")
    if name not in known:
        raise unknown_name("metric", name, known)
    factory = known[name].load()
    with plugin_code(f'metric "{name}" of distribution {known[name].distribution} cannot be constructed', MetricUnavailable):
        metric = factory(options) if _takes(factory, MetricOptions, f"metric {name}") else factory()
    if not isinstance(metric, Metric):
        raise AvbenchError(f'metric "{name}" of distribution {known[name].distribution} lacks info, update or compute')
    check_info(metric.info)
    if metric.info.distribution and not isinstance(metric, DistributionMetric):
        raise AvbenchError(f'metric "{name}": info says distribution=True, so its class must be an avbench.metric.DistributionMetric')
    return metric


def load_task(name: str) -> Task:
    """The task called `name`, not loaded yet."""
    known = plugins("task")
    if name not in known:
        raise unknown_name("task", name, known)
    task = known[name].load()()
    if not isinstance(task, Task):
        raise AvbenchError(f'task "{name}" of distribution {known[name].distribution} is no avbench.task.Task')
    return task


def default_metrics(task: str = DEFAULT_TASK) -> tuple[str, ...]:
    """The metrics of a run of `task` that names none: those whose `info` says so, plugins' included."""
    return tuple(name for name, plugin in plugins("metric").items() if _is_default(plugin, task))


def metric_info(name: str) -> MetricInfo:
    """What the class of a metric declares, before anything is loaded (its protocol may be refined then)."""
    return info_of(plugins("metric")[name])


def info_of(plugin: Plugin) -> MetricInfo:
    """`metric_info` of a plugin that was looked up."""
    info = getattr(plugin.load(), "info", None)
    if not isinstance(info, MetricInfo):
        raise AvbenchError(f'metric "{plugin.name}" of distribution {plugin.distribution} has no MetricInfo in its class as `info`')
    return info


def _is_default(plugin: Plugin, task: str) -> bool:
    try:
        info = info_of(plugin)
    except AvbenchError:
        return task == DEFAULT_TASK  # it cannot be imported: a row that says so is better than none
    return info.default and task in info.tasks


def _composite(name: str, checkpoint: str | None, device: torch.device, seed: int, protocol: Protocol | None) -> Tokenizer:
    from avbench.composite import Composite

    names = parts_of(name)
    if len(names) != 2:
        raise UsageError(f'"{name}" joins {len(names)} tokenizers; a composite is one video and one audio tokenizer, "A+B"')
    paths = (None, None) if checkpoint is None else checkpoint_paths(name, checkpoint)
    parts = [
        load_tokenizer(part, checkpoint=path, device=device, seed=seed, protocol=protocol)
        for part, path in zip(names, paths, strict=True)
    ]  # fmt: skip
    return Composite(parts[0], parts[1])


def checkpoint_paths(name: str, checkpoint: str) -> tuple[Path | None, ...]:
    """The paths that --checkpoint names: one, or of "A+B" one for each part, None for a part without.

    A path of "PATH+PATH" may hold a "+" itself, so each is tried as the one between. Raises AvbenchError where none fits.
    """
    if len(parts_of(name)) == 1:
        return (Path(checkpoint),)
    pluses = [plus for plus, letter in enumerate(checkpoint) if letter == "+"]
    for first, second in ((checkpoint[:plus], checkpoint[plus + 1 :]) for plus in pluses):
        if all(not path or Path(path).exists() for path in (first, second)):
            return tuple(Path(path) if path else None for path in (first, second))
    raise AvbenchError(
        f"checkpoint {checkpoint}: {name} takes two that exist, PATH+PATH in the order of its parts (either may be left out)"
    )


def _construct(name: str, factory: Callable[..., Any], options: TokenizerOptions, args: Mapping[str, Any]) -> Tokenizer:
    _check_args(name, factory, args)
    if _takes(factory, TokenizerOptions, f"tokenizer {name}"):
        arguments: tuple[TokenizerOptions, ...] = (options,)
    elif options.variants or options.checkpoint:
        raise UsageError(f"tokenizer {name} takes neither variants nor a checkpoint")
    else:
        arguments = ()
    with plugin_code(f"tokenizer {name} cannot be constructed"):
        tokenizer = factory(*arguments, **args)
    if not isinstance(tokenizer, Tokenizer):
        raise AvbenchError(f"tokenizer {name} lacks info, encode or decode (avbench/tokenizer.py says what is needed)")
    return tokenizer


def _check_args(name: str, factory: Callable[..., Any], args: Mapping[str, Any]) -> None:
    """Raises UsageError for an argument by name that the constructor does not take."""
    if not args:
        return
    parameters = inspect.signature(factory).parameters.values()
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = [p.name for p in parameters if p.kind in kinds and p.name != "options"]
    unknown = sorted(args.keys() - set(known))
    if unknown and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        raise UsageError(f"tokenizer {name} takes no {', '.join(unknown)}; its constructor takes {', '.join(known) or 'nothing by name'}")


def _takes(factory: Callable[..., Any], options: type, what: str) -> bool:
    """Whether a constructor wants `options`: its first parameter is annotated so, called `options`, or has no default.

    `path="w.pt"` is somebody's own and keeps its default. Raises AvbenchError for a first parameter that must be given and is annotated
    as something else: what it would get is no path.
    """
    own = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    first = next((parameter for parameter in inspect.signature(factory).parameters.values() if parameter.kind not in own), None)
    if first is None:
        return False
    says = getattr(first.annotation, "__name__", str(first.annotation))
    if options.__name__ in says or first.name == "options":
        return True
    if first.default is not inspect.Parameter.empty:
        return False
    if first.annotation not in (inspect.Parameter.empty, Any, object) and says not in ("Any", "object"):
        raise AvbenchError(f"{what} cannot be constructed: it wants {first}; a constructor is given {options.__name__}, or nothing")
    return True


def _class_from_file(name: str) -> Callable[..., Any]:
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"no file {path}; a tokenizer is a name (avbench list tokenizers) or path/to/file.py:Class")
    module = _import_file(path)
    if not hasattr(module, attribute):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__]
        raise UsageError(f"{path} has no {attribute}; it has {', '.join(classes) or 'no class'}")
    return getattr(module, attribute)  # type: ignore[no-any-return]


def _module_name(path: Path) -> str:
    return f"avbench_plugin_{path.stem}"


def _import_file(path: Path) -> ModuleType:
    """As Python runs a script: what lies beside the file can be imported."""
    name, folder = _module_name(path), str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with plugin_code(f"{path} cannot be imported"):
        spec.loader.exec_module(module)
    return module
