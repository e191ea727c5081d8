"""What a WavTokenizer is built from; the two published sizes."""

from dataclasses import asdict, dataclass, field, fields
from math import ceil, prod
from typing import Any, get_type_hints

from avbench.errors import AvbenchError
from avbench.nn.residual_vq import CodebookConfig

MAX_SIZE = 1 << 16  # of any one number of a config: a folder's manifest must not make us allocate without end
MAX_DEPTH = 64


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """SEANet, not causal: a convolution; per stride, a residual block and a downsampling to twice the channels; an LSTM, a convolution.

    strides: in the order of encoding; the published names turn them round ([6, 5, 5, 4] is (4, 5, 5, 6)).
    filters: channels of the first convolution. compress: how much narrower a residual block is inside.
    """

    strides: tuple[int, ...] = (4, 5, 5, 6)
    filters: int = 32
    kernel: int = 7
    residual_kernel: int = 3
    last_kernel: int = 7
    compress: int = 2
    lstm_layers: int = 2


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Vocos with attention in front: position_blocks residual blocks, attention, as many again, then ConvNeXt layers.

    hidden: width inside a ConvNeXt layer. groups: of each GroupNorm. conditions: embeddings of each adaptive LayerNorm; the first is used.
    """

    width: int = 768
    hidden: int = 2304
    layers: int = 12
    position_blocks: int = 2
    groups: int = 32
    conditions: int = 4
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class WavTokenizerConfig:
    """The whole model. One frame is one token of `codebook` and `hop` samples."""

    name: str
    sample_rate: int = 24_000
    n_fft: int = 2400
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)

    def __post_init__(self) -> None:
        if self.n_fft % self.hop or (self.n_fft - self.hop) % 2:
            raise AvbenchError(f"{self.name}: n_fft {self.n_fft} is to be a multiple of the hop, {self.hop} samples, and as even as it")
        if self.backbone.width % self.backbone.groups:
            raise AvbenchError(f"{self.name}: {self.backbone.groups} groups do not divide the width {self.backbone.width}")

    @property
    def hop(self) -> int:
        """Samples a token: 600 (40 tokens a second at 24 kHz) or 320 (75)."""
        return prod(self.encoder.strides)

    def num_tokens(self, num_samples: int) -> int:
        """Tokens of a clip: the last one may reach past its end."""
        return ceil(num_samples / self.hop)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for a manifest."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Any) -> "WavTokenizerConfig":
        """The inverse of `to_dict`, after JSON. Raises AvbenchError on unknown, missing or absurd fields."""
        parts = {"encoder": EncoderConfig, "codebook": CodebookConfig, "backbone": BackboneConfig}
        values = _object(values, WavTokenizerConfig)
        return _build(WavTokenizerConfig, {key: _build(parts[key], value) if key in parts else value for key, value in values.items()})


def wavtokenizer_40() -> WavTokenizerConfig:
    """WavTokenizer-small of 40 tokens a second: 164 tokens for 98,304 samples; 72.11 M parameters and a codebook of 2.10 M."""
    return WavTokenizerConfig(name="wavtokenizer@40")


def wavtokenizer_75() -> WavTokenizerConfig:
    """WavTokenizer-small of 75 tokens a second: 308 tokens for 98,304 samples; 71.75 M parameters and a codebook of 2.10 M."""
    return WavTokenizerConfig(name="wavtokenizer@75", n_fft=1280, encoder=EncoderConfig(strides=(2, 4, 5, 8)))


def _object(values: Any, kind: type) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise AvbenchError(f"{kind.__name__} of the checkpoint's manifest is a {type(values).__name__}, not an object")
    unknown = sorted(set(values) - {item.name for item in fields(kind)})
    if unknown:
        raise AvbenchError(f"{kind.__name__} of the checkpoint's manifest has unknown fields {', '.join(map(str, unknown))[:200]}")
    return values


def _build(kind: type, values: Any) -> Any:
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in _object(values, kind).items()}
    hints = get_type_hints(kind)
    for key, value in made.items():
        if not _is_possible(key, value, hints[key]):
            raise AvbenchError(f"{kind.__name__}.{key} of the checkpoint's manifest is {str(value)[:60]}: not possible")
    try:
        return kind(**made)
    except (TypeError, ZeroDivisionError) as error:
        raise AvbenchError(f"{kind.__name__} of the checkpoint's manifest is incomplete or impossible: {error}") from error


def _is_possible(key: str, value: Any, hint: Any) -> bool:
    """Whether a manifest's value has its field's type, and a size that a model may have, before one is built."""
    if hint == tuple[int, ...]:
        return isinstance(value, tuple) and 0 < len(value) <= MAX_DEPTH and all(_is_possible(key, item, int) for item in value)
    if hint is int:
        least = 0 if key in ("kmeans_iterations", "position_blocks") else 1
        limit = MAX_DEPTH if key in ("layers", "lstm_layers", "position_blocks") else MAX_SIZE
        return type(value) is int and least <= value <= limit
    if hint is float:
        return type(value) in (int, float) and 0 <= value <= MAX_SIZE
    return isinstance(value, hint)
