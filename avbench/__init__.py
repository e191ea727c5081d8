"""avbench: a benchmark of audio-video tokenizers.

    import avbench
    run = avbench.evaluate("static-frame+silence", "arcade-mini", limit=8)
    print(run.to_pandas())

What can be used stands in `avbench.api`; importing `avbench` loads neither it nor torch.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from avbench.api import Callback as Callback
    from avbench.api import Run as Run
    from avbench.api import compare as compare
    from avbench.api import evaluate as evaluate
    from avbench.api import load_run as load_run
    from avbench.api import load_split as load_split
    from avbench.api import load_tokenizer as load_tokenizer
    from avbench.api import score as score

__all__ = ["Callback", "Run", "compare", "evaluate", "load_run", "load_split", "load_tokenizer", "score"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'avbench' has no attribute {name!r}")
    from avbench import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
