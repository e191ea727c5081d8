"""From features to sound: a spectrum a frame, and its inverse transform with "same" padding (Vocos, arXiv 2306.00814).

B clips, L frames, N = L * hop samples, F = n_fft / 2 + 1 bins. n_fft is a multiple of the hop.
"""

import torch
from torch import Tensor, nn

MAX_MAGNITUDE = 100.0


class SpectrumHead(nn.Module):
    """Features (B, L, C) -> waveform (B, L * hop), float32."""

    def __init__(self, width: int, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.out = nn.Linear(width, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft))
        self.window: Tensor

    def forward(self, x_BLC: Tensor) -> Tensor:
        log_magnitude, phase = self.out(x_BLC).float().chunk(2, dim=-1)
        with torch.autocast(x_BLC.device.type, enabled=False):
            spectrum = torch.polar(log_magnitude.exp().clamp_max(MAX_MAGNITUDE), phase)
            return inverse_stft(spectrum, self.window, self.hop)


def inverse_stft(spectrum_BLF: Tensor, window: Tensor, hop: int) -> Tensor:
    """Overlap-add of windowed frames, over the sum of squared windows; (n_fft - hop) / 2 samples are cut off at each end: (B, L * hop).

    torch.istft centres its frames and gives (L - 1) * hop samples instead.
    """
    frames = torch.fft.irfft(spectrum_BLF, len(window)) * window
    length = frames.shape[1]
    envelope = _overlap_add(window.square().expand(1, length, -1), hop)
    pad = (len(window) - hop) // 2
    whole = _overlap_add(frames, hop)
    return (whole / envelope.clamp_min(1e-11))[:, pad : pad + length * hop]


def _overlap_add(frames_BLW: Tensor, hop: int) -> Tensor:
    """(B, L, W) -> (B, (L - 1) * hop + W): W / hop shifted copies of hops, added."""
    parts = frames_BLW.unflatten(2, (-1, hop)).unbind(2)
    batch, length = frames_BLW.shape[:2]
    out = frames_BLW.new_zeros(batch, length + len(parts) - 1, hop)
    for shift, part in enumerate(parts):
        out[:, shift : shift + length] += part
    return out.flatten(1)
