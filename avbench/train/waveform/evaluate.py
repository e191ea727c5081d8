"""Whole held-out clips through the codes of the moving average and nothing else."""

from typing import Any

import torch
from torch import Tensor, nn

from avbench.nn.mel import MIN_LOG, log_mel
from avbench.train.clips import Clips
from avbench.train.data import INT16_SCALE
from avbench.train.picture import sheet, spectrogram
from avbench.train.trainee import HeldOut

PICTURED = 4  # clips
PIXELS = 160  # height of a spectrogram
MAX_LOG = 2.5  # of a log-mel, white in pictures; full-scale sines reach 2.0


def evaluate(codec: nn.Module, clips: Clips, codebooks: tuple[int, ...], device: torch.device) -> HeldOut:
    """mr_stft, mel_l1 (natural-log units, 80 bands) and codes (share of the entries in use, mean over codebooks).

    codebooks: numbers of codebooks to be tried; names get "@2" and so on, but for the last one. (): all codebooks there are.
    """
    reference = torch.stack([torch.from_numpy(clips.reader.samples(index).copy()) for index in clips.indices]).float() * INT16_SCALE
    values: dict[str, float] = {}
    recon = reference
    for number in codebooks or (None,):
        suffix = "" if not codebooks or number == codebooks[-1] else f"@{number}"
        recon, codes = _through(codec, reference, () if number is None else (number,), device)
        values[f"mr_stft{suffix}"] = _mr_stft(reference, recon)
        values[f"mel_l1{suffix}"] = float((log_mel(recon) - log_mel(reference)).abs().mean())
        values["codes"] = _use(codes, codec)
    return HeldOut(values=values, picture=sheet(_rows(reference), _rows(recon)))


def _through(codec: Any, audio_BN: Tensor, codebooks: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Reconstruction and codes (B, K, L) of each clip."""
    codes = [codec.tokenize(clip[None].to(device), *codebooks) for clip in audio_BN]
    recon = torch.cat([codec.detokenize(code).float().cpu() for code in codes])
    return recon[:, : audio_BN.shape[1]].clamp(-1, 1), torch.cat(codes).cpu()


def _mr_stft(reference_BN: Tensor, recon_BN: Tensor) -> float:
    """Mean over clips, one at a time as the metric `mr_stft` has it; digitally silent references count."""
    from auraloss.freq import MultiResolutionSTFTLoss

    loss = MultiResolutionSTFTLoss()
    pairs = zip(reference_BN[:, None, None], recon_BN[:, None, None], strict=True)
    return float(torch.stack([loss(recon, reference) for reference, recon in pairs]).mean())


def _use(codes_BKL: Tensor, codec: Any) -> float:
    entries = codec.quantizer.config.entries
    return sum(len(book.unique()) / entries for book in codes_BKL.unbind(1)) / codes_BKL.shape[1]


def _rows(audio_BN: Tensor) -> list[Tensor]:
    shades = ((log_mel(audio_BN[:PICTURED]) - MIN_LOG) / (MAX_LOG - MIN_LOG)).clamp(0, 1)
    return [spectrogram(shade, PIXELS) for shade in shades]
