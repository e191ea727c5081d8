"""Held-out clips, a few minutes apart: how good the moving average is, through codes and nothing else."""

import torch
from torch import Tensor

from avbench.tokenizers.avtok.config import StreamName
from avbench.tokenizers.avtok.losses import moving_pixels
from avbench.tokenizers.avtok.melbox import RANGE
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.train.data import stream_inputs
from avbench.train.data import Clips
from avbench.train.log import frame_row, sheet, spectrogram
from avbench.train.trainee import HeldOut

PICTURED = 4  # clips
CAP_DB = 100.0  # of a clip's PSNR, as the metric has it
ERRORS: dict[StreamName, str] = {"video": "psnr", "audio": "mel_l1"}
Boxes = dict[StreamName, Tensor]


def evaluate(models: dict[StreamName, AVTokModel], clips: Clips, device: torch.device) -> HeldOut:
    """models: stream -> the model that it passes through, in eval mode.

    psnr, psnr_motion (dB), mel_l1 (natural-log units), codes, codes_video, codes_audio (shares of the codebook), of the streams that
    there are.
    """
    errors: dict[StreamName, list[Tensor]] = {name: [] for name in models}
    used: dict[StreamName, list[Tensor]] = {name: [] for name in models}
    motion: list[Tensor] = []
    samples: list[tuple[Boxes, Boxes]] = []
    for part in clips.chunks():
        inputs = stream_inputs(clips.reader.batch(part))
        reference = {name: inputs[name].to(device) for name in models}
        codes = {name: models[name].tokenize(name, x) for name, x in reference.items()}
        recon = {name: models[name].detokenize(name, codes[name]) for name in reference}
        reference["video"] = reference["video"].float() / 255
        for name in models:
            errors[name].append(_error(name, reference[name], recon[name]).cpu())
            used[name].append(codes[name].unique().cpu())
        motion.append(_motion(reference["video"], recon["video"]).cpu())
        if sum(len(pair[0]["video"]) for pair in samples) < PICTURED:
            samples.append((reference, recon))
    values = {"psnr_motion": float(torch.cat(motion).nanmean())}
    values |= {ERRORS[name]: float(torch.cat(errors[name]).mean()) for name in models}
    values |= _use(used, models)
    return HeldOut(values=values, picture=sheet(*[_rows([pair[side] for pair in samples]) for side in (0, 1)]))


def _motion(reference: Tensor, recon: Tensor) -> Tensor:
    """(B,): PSNR of the pixels that move; NaN where none does."""
    moving = moving_pixels(reference)
    error = ((recon - reference).square() * moving).flatten(1).sum(1) / (reference.shape[2] * moving.flatten(1).sum(1))
    return -10 * error.log10()


def _error(name: StreamName, reference: Tensor, recon: Tensor) -> Tensor:
    """(B,): PSNR of video, L1 of mels in natural-log units."""
    if name == "video":
        error = (reference.float() - recon.float()).square().flatten(1).mean(dim=1, dtype=torch.float64)
        return (10 * torch.log10(1 / error)).clamp(max=CAP_DB)
    return RANGE * (reference - recon).abs().flatten(1).mean(1)


def _rows(batches: list[Boxes]) -> list[Tensor]:
    """Frames of each clip, and beside them its mel where there is one."""
    boxes = {name: torch.cat([batch[name] for batch in batches])[:PICTURED].cpu() for name in batches[0]}
    rows = [frame_row(video) for video in boxes["video"]]
    if "audio" in boxes:
        mels = [spectrogram(mel[0, 0], row.shape[1]) for mel, row in zip(boxes["audio"], rows, strict=True)]
        rows = [torch.cat(pair, dim=2) for pair in zip(rows, mels, strict=True)]
    return rows


def _use(used: dict[StreamName, list[Tensor]], models: dict[StreamName, AVTokModel]) -> dict[str, float]:
    """Share of the entries that some held-out clip uses, by stream and, where one book serves both, by either."""
    sets = {name: set(torch.cat(codes).tolist()) for name, codes in used.items()}
    entries = {name: models[name].config.quantizer.entries for name in models}
    shares: dict[str, float] = {f"codes_{name}": len(sets[name]) / entries[name] for name in models}
    if len(models) > 1 and models["video"] is models["audio"]:
        shares["codes"] = len(sets["video"] | sets["audio"]) / entries["video"]
    return shares
