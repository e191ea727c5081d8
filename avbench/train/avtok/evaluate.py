"""Held-out clips, a few minutes apart: how good the moving average is, through codes and nothing else."""

import torch
from torch import Tensor

from avbench.metrics.psnr import CAP_DB, psnr
from avbench.tokenizers.avtok.config import STREAMS, StreamName
from avbench.tokenizers.avtok.melbox import RANGE
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.train.avtok.data import stream_inputs
from avbench.train.clips import Clips
from avbench.train.picture import frame_row, sheet, spectrogram
from avbench.train.trainee import HeldOut

PICTURED = 4  # clips
Boxes = dict[StreamName, Tensor]


def evaluate(models: dict[StreamName, AVTokModel], clips: Clips, device: torch.device) -> HeldOut:
    """models: stream -> the model that it passes through, in eval mode.

    psnr (dB), mel_l1 (natural-log units), codes, codes_video, codes_audio (shares of the codebook).
    """
    psnrs, mel_l1s = [], []
    used: dict[StreamName, list[Tensor]] = {name: [] for name in STREAMS}
    samples: list[tuple[Boxes, Boxes]] = []
    for part in clips.chunks():
        reference = {name: x.to(device) for name, x in stream_inputs(clips.reader.batch(part)).items()}
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
    return HeldOut(values=values, picture=sheet(*[_rows([pair[side] for pair in samples]) for side in (0, 1)]))


def _rows(batches: list[Boxes]) -> list[Tensor]:
    """Frames of each clip, and beside them its mel."""
    video, audio = (torch.cat([batch[name] for batch in batches])[:PICTURED].cpu() for name in STREAMS)
    return [torch.cat([frame_row(v), spectrogram(a[0, 0], v.shape[-2])], dim=2) for v, a in zip(video, audio, strict=True)]


def _use(used: dict[StreamName, list[Tensor]], models: dict[StreamName, AVTokModel]) -> dict[str, float]:
    """Share of the entries that some held-out clip uses, by stream and by either."""
    sets = {name: set(torch.cat(codes).tolist()) for name, codes in used.items()}
    entries = {name: models[name].config.quantizer.entries for name in STREAMS}
    shares: dict[str, float] = {f"codes_{name}": len(sets[name]) / entries[name] for name in STREAMS}
    if models["video"] is models["audio"]:
        shares["codes"] = len(sets["video"] | sets["audio"]) / entries["video"]
    return shares
