"""A finished run of the first clips of arcade-mini that nothing evaluated, and submissions made of it, sound or damaged."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avbench import sparse, stats
from avbench.board.submission import PLEDGE
from avbench.board.submit import packed, seal, submit
from avbench.data.arcade import pinned
from avbench.metric import MetricOptions
from avbench.registry import load_metric
from avbench.run import payload
from avbench.run.store import RunStore
from avbench.types import Tokens

CLIPS = 12
VOCAB = 32
CARD = f"""who: A. Stranger
contact: https://example.org
trained_on: nothing
licence: MIT
link: none
pledge: {PLEDGE}
"""


def finished_run(folder: Path, name: str = "codec", *, seed: int = 0, limit: int = CLIPS, isolated: bool = True) -> Path:
    """Values of random rows, and bytes and histograms of random tokens, of as many codes as the clip's number + 10."""
    split = pinned("arcade-mini")
    assert split is not None
    clips, generator = split.clips[:limit], np.random.default_rng(seed)
    store = RunStore(folder)
    rows, histograms = [], []
    payloads: dict[str, bytes] = {}
    for number, clip in enumerate(clips):
        codes = torch.from_numpy(generator.integers(VOCAB, size=(1, 1, 10 + number)))
        lengths = {"video": torch.tensor([10 + number])}
        tokens = Tokens(codes={"video": codes}, vocab_sizes={"video": VOCAB}, duration_s=split.protocol.duration_s, lengths=lengths)
        payloads[clip.id] = payload.to_bytes(tokens, 0)
        metrics = {"psnr": float(generator.normal(25, 2)), "lpips": float(generator.uniform(0.1, 0.3))}
        tokens_per_s, bits_per_s, _ = payload.rates_of(payloads[clip.id])
        metrics |= {"tokens_per_s": tokens_per_s, "bits_per_s": bits_per_s}
        rows.append({"id": clip.id, "label": clip.label, "status": "ok", "reason": None, "metrics": metrics})
        histograms.append(np.bincount(codes.flatten().numpy(), minlength=VOCAB).astype(np.float32))
    for first in range(0, limit, 8):
        ids = [clip.id for clip in clips[first : first + 8]]
        store.save_tokens(first // 8, {clip: payloads[clip] for clip in ids})
    store.agreed_format(payload.format_of(payloads[clips[0].id]))
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    features = np.stack(histograms)
    store.write_features({"codebook_use": sparse.compact(features)})
    values = [_value(key, np.array([row["metrics"][key] for row in rows]), seed) for key in rows[0]["metrics"]]
    use = load_metric("codebook_use", MetricOptions()).compute
    values.append(_told("codebook_use", limit, *stats.estimate(use, features, per_clip=False, additive=True)))
    facts = {
        "tokenizer": {"name": name, "revision": "1", "kind": "learned", "trained_on": "nothing", "modalities": ["video"]},
        "split": {"name": split.name, "checksum": split.checksum(limit), "num_clips": limit, "num_official": 101, "note": ""},
    }
    result = facts | {
        "run_id": folder.name,
        "spec": {"tokenizer": name, "split": split.name, "task": "reconstruct", "limit": limit, "seed": 0, "checkpoint": None},
        "checkpoint_sha256": None, "protocol": str(split.protocol), "num_clips": limit, "num_ok": limit, "num_failed": 0, "failures": {},
        "intervals": stats.VERSION, "finished": "2026-11-30T04:00:00+00:00", "values": values, "cost": [],
    }  # fmt: skip
    store.write_json("result.json", result)
    command = f"avbench run --tokenizer {folder.resolve()}/mine.py:Codec --split arcade-mini"
    store.write_json("manifest.json", facts | {"isolated": isolated, "command": command, "hardware": {"cores": 2}})
    return folder


def _value(name: str, rows: np.ndarray, seed: int) -> dict[str, Any]:
    return _told(name, len(rows), *stats.estimate(lambda values: float(np.mean(values)), rows, per_clip=True))


def _told(name: str, count: int, value: float, low: float | None, high: float | None) -> dict[str, Any]:
    blank = {"num_failed": 0, "protocol": "p", "reason": None, "unit": "", "higher_is_better": None, "best_is_reference": False}
    return {"name": name, "value": value, "ci_low": low, "ci_high": high, "num_clips": count, **blank}


def submitted(place: Path, name: str = "codec", **changes: Any) -> Path:
    """The folder of a sound submission below place/results."""
    card = place / "card.yaml"
    card.write_text(CARD)
    return submit(finished_run(place / f"run-{name}", name, **changes), place / "results", card=card).folder


def edit(folder: Path, file: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """A JSON file with a change in it; checksums fit."""
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    seal(folder)


def edit_rows(folder: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """clips.jsonl.gz with a change in it; checksums fit."""
    path = folder / "clips.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    change(rows)
    path.write_bytes(packed("".join(json.dumps(row) + "\n" for row in rows).encode()))
    seal(folder)
