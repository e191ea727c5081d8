"""Metrics with large networks take turns where memory is short: the same results, one network in memory at a time."""

import gc
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from avbench import registry
from avbench.metric import MetricOptions
from avbench.run.evaluate import evaluate
from avbench.run.metrics import Metrics, free_bytes
from avbench.run.reconstruct import Reconstruct
from avbench.types import RunSpec

HEAVY = """
import weakref
import numpy as np
import torch
from avbench.metric import MetricInfo, PerClipMetric

ALIVE, LOADED = weakref.WeakSet(), []
MOST = 0

class Network:
    def __init__(self, name):
        global MOST
        self.itself = self  # a ring: reference counts alone would not free it
        ALIVE.add(self)
        LOADED.append(name)
        MOST = max(MOST, len(ALIVE))

def info(name, **more):
    return MetricInfo(name=name, unit="", higher_is_better=True, needs=frozenset({"video"}), protocol=name, memory_bytes=1000, **more)

class Mean(PerClipMetric):
    info = info("heavy_mean", per_clip=True)
    def __init__(self, options):
        self.network = Network("heavy_mean")
    def update(self, reference, recon, tokens):
        return recon.video.mean(dim=(1, 2, 3, 4))

class Largest(Mean):
    info = info("heavy_largest", per_clip=True)
    def __init__(self, options):
        self.network = Network("heavy_largest")
    def update(self, reference, recon, tokens):
        return recon.video.amax(dim=(1, 2, 3, 4))

class Spread(Mean):
    info = info("heavy_spread")
    def __init__(self, options):
        self.network = Network("heavy_spread")
    def update(self, reference, recon, tokens):
        return torch.stack([reference.video.mean(dim=(1, 2, 3, 4)), recon.video.std(dim=(1, 2, 3, 4))], dim=1)
    def compute(self, rows):
        return float(np.abs(rows[:, 0] - rows[:, 1]).max())
"""
TOKENIZER = """
import torch
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

ENCODED = []

class Grey:
    info = TokenizerInfo(name="grey", revision="1", modalities=frozenset({"video"}), kind="classical")
    def encode(self, batch):
        ENCODED.extend(batch.ids)
        codes = (batch.video.mean(dim=(2, 3, 4)) * 255).round().long()[:, None]
        return Tokens(codes={"video": codes}, vocab_sizes={"video": 256}, duration_s=batch.video.shape[1] / batch.fps)
    def decode(self, tokens):
        video = (tokens.codes["video"][:, 0, :, None, None, None] / 255).float().expand(-1, -1, 3, 128, 128)
        return ClipBatch(video=video, fps=video.shape[1] / tokens.duration_s, sample_rate=24_000)
"""
NAMES = ("heavy_mean", "psnr", "heavy_spread", "heavy_largest", "bits_per_s")


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution of three metrics, found as an installed one is; and a tokenizer's file."""
    facts = tmp_path / "heavy-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: heavy\nVersion: 1\n")
    entries = "\n".join(f"heavy_{name} = heavy_metrics:{name.title()}" for name in ("mean", "largest", "spread"))
    (facts / "entry_points.txt").write_text(f"[avbench.metrics]\n{entries}\n")
    (tmp_path / "heavy_metrics.py").write_text(HEAVY)
    (tmp_path / "grey.py").write_text(TOKENIZER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "heavy_metrics", raising=False)
    return tmp_path


def test_one_network_at_a_time_gives_the_results_of_all_at_once(plugins: Path, clip_folder: Path) -> None:
    spec = RunSpec(tokenizer=f"{plugins / 'grey.py'}:Grey", split=f"folder:{clip_folder}", metrics=NAMES, batch_size=2)
    most, runs = [], []
    for name, limit in (("together", 3000), ("turns", 0)):
        gc.collect()
        runs.append(evaluate(spec, runs_dir=plugins / name, isolate=False, metrics_memory=limit))
        heavy = sys.modules["heavy_metrics"]
        most.append(heavy.MOST)
        loaded = list(heavy.LOADED)
        heavy.MOST, heavy.LOADED[:] = 0, []
        assert len(sys.modules["avbench_plugin_grey"].ENCODED) == 5, "a turn that follows decodes what was kept"
    assert most == [3, 1]
    assert {name: loaded.count(name) for name in set(loaded)} == {"heavy_mean": 2, "heavy_spread": 2, "heavy_largest": 1}

    together, turns = (run.result["values"] for run in runs)
    assert [value["name"] for value in together] == list(NAMES)
    assert together == turns
    assert all(value["value"] is not None for value in turns)
    rows = [[json.loads(line) for line in (run.folder / "clips.jsonl").open()] for run in runs]
    assert rows[0] == rows[1]


def test_metrics_share_a_turn_as_far_as_they_fit(plugins: Path) -> None:
    task = Reconstruct()
    task.info = registry.load_tokenizer(f"{plugins / 'grey.py'}:Grey").info
    turns = {limit: Metrics(NAMES, task, MetricOptions(), limit=limit).turns for limit in (3000, 2000, 1999, 0)}
    assert [len(turn) for turn in turns[3000]] == [5]
    assert [len(turn) for turn in turns[2000]] == [4, 1]
    assert [len(turn) for turn in turns[1999]] == [3, 1, 1] == [len(turn) for turn in turns[0]]
    assert all({"psnr", "bits_per_s"} <= of_limit[0] for of_limit in turns.values())
    assert all(frozenset().union(*of_limit) == set(NAMES) for of_limit in turns.values())


def test_what_networks_declare_is_what_they_take() -> None:
    from avbench.metrics.features import clap, imagebind, synchformer

    with torch.device("meta"):
        networks = {"ib_score": imagebind.ImageBind(), "desync": synchformer.Synchformer()}
        try:
            from transformers import ClapModel

            networks["clap_score"] = ClapModel(clap.published_config())
        except ImportError:
            pass
    for name, network in networks.items():
        tensors = [*network.parameters(), *network.buffers()]
        assert registry.metric_info(name).memory_bytes == pytest.approx(sum(x.numel() * x.element_size() for x in tensors), rel=0.01), name


def test_free_memory_is_no_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_bytes(torch.device("cpu"))
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_bytes(torch.device("cpu")) < free * 0.5
