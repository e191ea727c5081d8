"""BigVGAN, the generator (Lee et al. 2023, arXiv 2206.04658, and version 2 of its authors' repository), for inference.

Of the published files with 80 bands at 22.05 kHz, three were trained on the mel of `avbench.nn.mel` (FFT and window 1024, hop 256,
Slaney bands from 0 to 8000 Hz): `bigvgan_v2_22khz_80band_fmax8k_256x`, `bigvgan_22khz_80band` and `bigvgan_base_22khz_80band`. The fourth,
`bigvgan_v2_22khz_80band_256x`, has bands up to 11,025 Hz: its 80 numbers mean other frequencies, so it is refused, as are the models of
100 and 128 bands. Sound at 24 kHz is relabelled as 22.05 kHz, as for HiFi-GAN (see mel.py).

Weight normalisation is folded when a file is loaded. Shapes: B clips, C channels, F frames, T samples at some rate.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.errors import AvbenchError
from avbench.files import read_json
from avbench.nn import mel
from avbench.nn.weight_norm import fold_weight_norm
from avbench.tokenizers.published import MAX_CONFIG_BYTES, check_sizes, fit, read_state
from avbench.weights.load import tensors

FRONT_END = {
    "num_mels": mel.NUM_MELS,
    "sampling_rate": mel.NOMINAL_RATE,
    "n_fft": mel.N_FFT,
    "win_size": mel.N_FFT,
    "hop_size": mel.HOP,
    "fmin": 0,
    "fmax": mel.F_MAX,
}
TAPS = 12  # of the low-pass filters around each activation
CPU_VALUES = 1 << 18  # at a time, so that the rows stay in the cache: a quarter faster at 64 rows of 49,152
FILTER_KEYS = ("upsample.filter", "downsample.lowpass.filter")


@dataclass(frozen=True, kw_only=True)
class BigVganConfig:
    """What the authors' config.json decides about the network, under its names; version 2 has neither tanh nor bias at the end."""

    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    resblock: str = "1"
    activation: str = "snakebeta"
    snake_logscale: bool = True
    use_tanh_at_final: bool = True
    use_bias_at_final: bool = True


class BigVganGenerator(nn.Module):
    """Log-mel (B, 80, F) -> waveform (B, 1, 256 F) in [-1, 1]."""

    def __init__(self, config: BigVganConfig) -> None:
        super().__init__()
        self.config = c = config
        widths = [c.upsample_initial_channel >> stage for stage in range(len(c.upsample_rates) + 1)]
        self.conv_pre = nn.Conv1d(mel.NUM_MELS, widths[0], 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for stage, (rate, kernel) in enumerate(zip(c.upsample_rates, c.upsample_kernel_sizes, strict=True)):
            up = nn.ConvTranspose1d(widths[stage], widths[stage + 1], kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(nn.ModuleList([up]))
            for size, dilations in zip(c.resblock_kernel_sizes, c.resblock_dilation_sizes, strict=True):
                self.resblocks.append(_ResidualBlock(widths[stage + 1], size, dilations, c))
        self.activation_post = _Activation(widths[-1], c)
        self.conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3, bias=c.use_bias_at_final)

    def forward(self, mel_BMF: Tensor) -> Tensor:
        x = self.conv_pre(mel_BMF)
        kernels = len(self.config.resblock_kernel_sizes)
        for stage, up in enumerate(self.ups):
            x = up[0](x)  # type: ignore[index]
            blocks = self.resblocks[stage * kernels : (stage + 1) * kernels]
            x = sum(block(x) for block in blocks) / kernels
        x = self.conv_post(self.activation_post(x))
        return x.tanh() if self.config.use_tanh_at_final else x.clamp(-1, 1)


class _ResidualBlock(nn.Module):
    """Dilated convolutions, each between activations and added to its input; kind "1" has a plain convolution after each."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], config: BigVganConfig) -> None:
        super().__init__()
        dilated = nn.ModuleList(_same_conv(channels, kernel, dilation) for dilation in dilations)
        self.steps = 1
        if config.resblock == "2":
            self.convs = dilated
        else:
            self.steps = 2
            self.convs1 = dilated
            self.convs2 = nn.ModuleList(_same_conv(channels, kernel, 1) for _ in dilations)
        self.activations = nn.ModuleList(_Activation(channels, config) for _ in range(self.steps * len(dilations)))

    def forward(self, x: Tensor) -> Tensor:
        if self.steps == 1:
            for conv, activation in zip(self.convs, self.activations, strict=True):
                x = x + conv(activation(x))
            return x
        for dilated, plain, first, second in zip(self.convs1, self.convs2, self.activations[::2], self.activations[1::2], strict=True):
            x = x + plain(second(dilated(first(x))))
        return x


class _Activation(nn.Module):
    """Snake at twice the rate, between a 12-tap interpolation and a 12-tap decimation, ends repeated: see `anti_aliased`."""

    def __init__(self, channels: int, config: BigVganConfig) -> None:
        super().__init__()
        self.act = _Snake(channels, config)

    def forward(self, x_BCT: Tensor) -> Tensor:
        rows, clips = x_BCT.flatten(0, 1), len(x_BCT)
        alpha, gain = (values.repeat(clips)[:, None] for values in self.act())
        size = max(1, CPU_VALUES // rows.shape[1]) if rows.device.type == "cpu" else len(rows)
        chunks = zip(rows.split(size), alpha.split(size), gain.split(size), strict=True)
        return torch.cat([anti_aliased(*chunk) for chunk in chunks]).view_as(x_BCT)


class _Snake(nn.Module):
    """Parameters of x + sin^2(alpha x) / beta (Ziyin et al. 2020, arXiv 2006.08195), one each a channel; beta is alpha for "snake"."""

    def __init__(self, channels: int, config: BigVganConfig) -> None:
        super().__init__()
        self.logarithmic = config.snake_logscale
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels)) if config.activation == "snakebeta" else None

    def forward(self) -> tuple[Tensor, Tensor]:
        """(alpha, 1 / beta)."""
        alpha = self._scale(self.alpha)
        beta = alpha if self.beta is None else self._scale(self.beta)
        return alpha, 1 / (beta + 1e-9)

    def _scale(self, values_C: Tensor) -> Tensor:
        return values_C.exp() if self.logarithmic else values_C


def anti_aliased(x_RT: Tensor, alpha_R1: Tensor, gain_R1: Tensor) -> Tensor:
    """Snake of rows of samples, at twice the rate.

    The doubled signal is kept as its even and its odd samples, so that nothing is computed that the interpolation multiplies by zero
    or that the decimation drops, and the filters are sums of shifted rows: 1.3 to 3.6 times as fast as the published code's grouped
    convolutions on one core. The base model as a whole: 2.7 s against 5.2 s a clip of 4.096 s.
    """
    taps, length = _taps(), x_RT.shape[1]
    padded = F.pad(x_RT, (3, 3), mode="replicate")
    even = _filtered(padded, [2 * tap for tap in taps[::-2]], length)
    odd = _filtered(padded[:, 1:], [2 * tap for tap in taps[-2::-2]], length)
    for phase in (even, odd):
        phase.addcmul_((phase * alpha_R1).sin_().square_(), gain_R1)
    first, last = even[:, :1], odd[:, -1:]  # what both phases repeat beyond the ends
    even = torch.cat([first, first, even, last, last, last], dim=1)
    odd = torch.cat([first, first, first, odd, last, last], dim=1)
    return _filtered(even, taps[1::2], length).add_(_filtered(odd, taps[::2], length))


def _filtered(padded_RT: Tensor, taps: list[float], length: int) -> Tensor:
    """Sum of tap k times the row shifted by k."""
    found = padded_RT[:, :length] * taps[0]
    for shift, tap in enumerate(taps[1:], start=1):
        found.add_(padded_RT[:, shift : shift + length], alpha=tap)
    return found


@lru_cache(maxsize=1)
def _taps() -> list[float]:
    return lowpass().tolist()


def lowpass() -> Tensor:
    """Twelve taps of a Kaiser-windowed sinc that sum to 1: cut-off a quarter and transition 0.3 of the sample rate."""
    half = TAPS // 2
    attenuation = 2.285 * (half - 1) * math.pi * 4 * 0.3 + 7.95  # dB, Kaiser's formula: 51
    beta = 0.1102 * (attenuation - 8.7)
    time = torch.arange(-half, half, dtype=torch.float64) + 0.5
    taps = torch.kaiser_window(TAPS, periodic=False, beta=beta, dtype=torch.float64) * torch.sinc(0.5 * time)
    return (taps / taps.sum()).float()


def load(path: Path, config_path: Path) -> BigVganGenerator:
    """The generator of a published `bigvgan_generator.pt` with its config.json, ready for inference.

    Raises AvbenchError where the config is of another mel than ours, or where the file is not what the config says.
    """
    config = read_config(config_path)
    content = read_state([path])
    if not isinstance(content, dict) or "generator" not in content:
        raise AvbenchError(f'{path} is not a BigVGAN generator: it has no "generator"')
    state = _without_filters(fold_weight_norm(tensors(content["generator"], path), str(path)), path)
    return fit(lambda: BigVganGenerator(config), state, f"BigVGAN generator {path}")


def read_config(path: Path) -> BigVganConfig:
    """The network of a config.json. Raises AvbenchError for another front end, or a network that makes no 256 samples of a frame."""
    values = read_json(path, MAX_CONFIG_BYTES)
    for name, ours in FRONT_END.items():
        if values.get(name) != ours:
            theirs = "missing" if name not in values else "null: half the sample rate" if values[name] is None else values[name]
            raise AvbenchError(
                f"{path}: {name} is {theirs}, and avbench's mel has {ours}; of the published models take "
                "bigvgan_v2_22khz_80band_fmax8k_256x, bigvgan_22khz_80band or bigvgan_base_22khz_80band"
            )
    return _network(values, path)


def _network(values: dict[str, Any], path: Path) -> BigVganConfig:
    known = {name: _frozen(values[name]) for name in BigVganConfig.__dataclass_fields__ if name in values}
    try:
        config = BigVganConfig(**known)
        check_sizes(known | {"resblock_dilation_sizes": sum(config.resblock_dilation_sizes, ())}, (), str(path))
        doubles = min(config.upsample_rates) > 1 and math.prod(config.upsample_rates) == mel.HOP
    except (TypeError, ValueError) as error:
        raise AvbenchError(f"{path} is not a BigVGAN config: {error}") from error
    if not doubles:
        raise AvbenchError(f"{path}: upsample_rates {config.upsample_rates} do not make {mel.HOP} samples of a frame")
    if config.activation not in ("snake", "snakebeta") or config.resblock not in ("1", "2"):
        raise AvbenchError(f"{path}: no BigVGAN has activation {config.activation!r} and resblock {config.resblock!r}")
    return config


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _without_filters(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state less its copies of the one low-pass filter. Raises AvbenchError where it is another filter."""
    ours = lowpass().view(1, 1, TAPS)
    for key in [key for key in state if key.endswith(FILTER_KEYS)]:
        taps = state.pop(key)
        if taps.shape != ours.shape or not torch.allclose(taps.float(), ours, atol=1e-4):
            raise AvbenchError(f"{path}: {key} is not BigVGAN's low-pass filter of {TAPS} taps; a model with other filters cannot be run")
    return state


def _same_conv(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)
