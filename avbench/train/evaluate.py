"""Held-out clips, a few minutes apart: how good the moving average is, through codes and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from avbench.metrics.psnr import CAP_DB, psnr
from avbench.tokenizers.avtok.config import STREAMS, StreamName
from avbench.tokenizers.avtok.melbox import RANGE
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.train.data import ClipReader
from avbench.train.start import stream_inputs

BATCH = 8
PICTURED = 4  # clips


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """values: psnr (dB), mel_l1 (natural-log units), codes, codes_video, codes_audio (shares of the codebook). The rest is to look at."""

    values: dict[str, float]
    reference: dict[StreamName, Tensor]  # (PICTURED, T, C, H, W) in [0, 1]
    recon: dict[StreamName, Tensor]


def evaluate(models: dict[StreamName, AVTokModel], reader: ClipReader, indices: list[int], device: torch.device) -> HeldOut:
    """models: stream -> the model that it passes through, in eval mode."""
    psnrs, mel_l1s = [], []
    used: dict[StreamName, list[Tensor]] = {name: [] for name in STREAMS}
    samples: list[tuple[dict[StreamName, Tensor], dict[StreamName, Tensor]]] = []
    for part in _chunks(indices):
        reference = {name: x.to(device) for name, x in stream_inputs(reader.batch(part)).items()}
        codes = {name: models[name].tokenize(name, x) for name, x in reference.items()}
        recon = {name: models[name].detokenize(name, codes[name]) for name in reference}
        reference["video"] = reference["video"].float() / 255
        psnrs.append(psnr(reference["video"], recon["video"]).clamp(max=CAP_DB).cpu())
        mel_l1s.append(RANGE * (reference["audio"] - recon["audio"]).abs().flatten(1).mean(1).cpu())
        for name in STREAMS:
            used[name].append(codes[name].unique().cpu())
        if sum(len(pair[0]["video"]) for pair in samples) < PICTURED:
            samples.append((reference, recon))
    values = {"psnr": float(torch.cat(psnrs).mean()), "mel_l1": float(torch.cat(mel_l1s).mean())} | _use(used, models)
    pictured = [{name: torch.cat([pair[side][name] for pair in samples])[:PICTURED].cpu() for name in STREAMS} for side in (0, 1)]
    return HeldOut(values=values, reference=pictured[0], recon=pictured[1])


def _chunks(indices: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(indices), BATCH):
        yield indices[first : first + BATCH]


def _use(used: dict[StreamName, list[Tensor]], models: dict[StreamName, AVTokModel]) -> dict[str, float]:
    """Share of the entries that some held-out clip uses, by stream and by either."""
    sets = {name: set(torch.cat(codes).tolist()) for name, codes in used.items()}
    entries = {name: models[name].config.quantizer.entries for name in STREAMS}
    shares: dict[str, float] = {f"codes_{name}": len(sets[name]) / entries[name] for name in STREAMS}
    if models["video"] is models["audio"]:
        shares["codes"] = len(sets["video"] | sets["audio"]) / entries["video"]
    return shares
