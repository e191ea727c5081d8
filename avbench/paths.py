"""Where things live on this machine: two environment variables, one function each."""

import os
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """What avbench can make again: prepared clips, pulled weights, fitted controls. `AVBENCH_CACHE`, or the platform's cache folder."""
    return Path(os.environ.get("AVBENCH_CACHE") or platformdirs.user_cache_dir("avbench")).expanduser()


def data_root() -> Path:
    """The user's own data sets (vggsound/, tavgbench/), only ever read. `AVBENCH_DATA`, or `data` in the cache folder."""
    return Path(os.environ.get("AVBENCH_DATA") or cache_root() / "data").expanduser()
