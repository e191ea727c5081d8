"""What an AVTok is built from, and the three sizes that this project knows."""

from dataclasses import asdict, dataclass, field, fields, replace
from math import prod
from typing import Any, Literal

from avbench.errors import AvbenchError

StreamName = Literal["video", "audio"]
STREAMS: tuple[StreamName, ...] = ("video", "audio")


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """One modality, seen as a (channels, time, height, width) box that is cut into equal patches. A mel is one grey frame."""

    channels: int
    size: tuple[int, int, int]  # (time, height, width)
    patch: tuple[int, int, int]
    tokens: int  # holistic tokens
    aligned: bool = False  # token i begins with patch i, and patch i's query with token i: no attention is needed to carry them
    # A scene token before them (scene.py): 0 scenes and there is none.
    scenes: int = 0
    groups: int = 0
    scene_width: int = 32  # of the codes, the channels that groups know of
    fine: int = 32  # fine offsets of a group's codebook entries; the others are coarse
    scene_bytes: int = 0  # of the packed bank

    def __post_init__(self) -> None:
        if any(size % patch for size, patch in zip(self.size, self.patch, strict=True)):
            raise AvbenchError(f"patch {self.patch} does not divide the stream's size {self.size}")
        if self.aligned and self.tokens != self.num_patches:
            raise AvbenchError(f"aligned streams have a token a patch, not {self.tokens} tokens for {self.num_patches} patches")

    @property
    def length(self) -> int:
        """Tokens of a clip: the holistic ones, and the scene's before them."""
        return self.tokens + (self.scenes > 0)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches along (time, height, width)."""
        t, h, w = (size // patch for size, patch in zip(self.size, self.patch, strict=True))
        return t, h, w

    @property
    def num_patches(self) -> int:
        """1024 for the paper's video, 120 for a 80 x 384 mel in 16 x 16 patches."""
        return prod(self.grid)

    @property
    def patch_dim(self) -> int:
        """Values in one patch."""
        return self.channels * prod(self.patch)


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """kind "cosine": LARP's stochastic quantizer on the unit sphere. "euclidean": nearest entry; starts well from k-means."""

    kind: Literal["cosine", "euclidean"] = "cosine"
    entries: int = 8192
    dim: int = 16
    temperature: float = 0.03  # of sampling in training; 0 takes the nearest entry in training too
    commitment: float = 0.25
    codebook: float = 1.0
    revive_after: int = 0  # replace an entry that was not used for so many training steps; 0 never


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The cross-modal autoregressive prior (LARP's gptc-S at base size)."""

    width: int = 384
    layers: int = 12
    heads: int = 6
    dropout: float = 0.1
    max_mix: float = 0.5  # share of own samples mixed into the second round, reached after mix_warmup
    mix_warmup: float = 0.3  # as a share of all steps


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """LARP's ViT with a class token at base size."""

    width: int = 512
    layers: int = 12
    heads: int = 8


@dataclass(frozen=True, kw_only=True)
class AVTokConfig:
    """The whole model. Depths and the patch sizes are the only things that the sizes differ in.

    Without `audio` it is a video tokenizer: LARP (tokenizers/larp/model.py).
    """

    name: str
    video: StreamConfig
    audio: StreamConfig | None
    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    mlp_ratio: int = 4
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    audio_discriminator_patch: tuple[int, int, int] = (1, 16, 16)
    video_discriminator_patch: tuple[int, int, int] = (4, 8, 8)
    projector_width: int = 2048
    teacher_dims: dict[str, int] = field(default_factory=lambda: {"video": 768, "audio": 768})

    @property
    def streams(self) -> tuple[StreamName, ...]:
        """The streams that the model has, in the order of a joint sequence."""
        return STREAMS if self.audio is not None else ("video",)

    def stream(self, name: str) -> StreamConfig:
        """The config of stream "video" or "audio". Raises AvbenchError for one that the model lacks."""
        stream = {"video": self.video, "audio": self.audio}[name]
        if stream is None:
            raise AvbenchError(f"{self.name} has no {name} stream")
        return stream

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for a manifest."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "AVTokConfig":
        """The inverse of `to_dict`, after JSON. Raises AvbenchError on unknown or missing fields."""
        parts = {"video": StreamConfig, "audio": StreamConfig, "quantizer": QuantizerConfig}
        parts |= {"prior": PriorConfig, "discriminator": DiscriminatorConfig}
        if values.get("audio") is None:
            del parts["audio"]
        made = {key: _build(parts[key], value) if key in parts else value for key, value in values.items()}
        return _build(AVTokConfig, made)  # type: ignore[no-any-return]


def _build(kind: type, values: Any) -> Any:
    known = {item.name for item in fields(kind)}
    if not isinstance(values, dict) or set(values) - known:
        unknown = sorted(set(values) - known) if isinstance(values, dict) else values
        raise AvbenchError(f"{kind.__name__} of the checkpoint's manifest has unknown fields {unknown}; it was written by another version")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except TypeError as error:
        raise AvbenchError(f"{kind.__name__} of the checkpoint's manifest is incomplete: {error}") from error


def avtok_scene_mini() -> AVTokConfig:
    """`avtok_mini` with scenes, under 10 M: 1 + 256 tokens of single frames' 32 x 32 blocks, 128 of whole mel columns, 12 bits each.

    What its 20 MB of bfloat16 are spent on, by held-out PSNR of the start: a block of 3,072 values is painted in `width` dimensions, so
    320 and thin layers rather than 256 and thick ones, and a group's 256 + 16 entries of 48 channels rather than 512 + 8 of 32, which
    take as much room. Aligned streams leave little to an encoder's attention: one layer.
    """
    pictures = StreamConfig(channels=3, size=(16, 128, 128), patch=(1, 32, 32), tokens=256)
    return replace(
        avtok_mini(),
        name="avtok-scene-mini",
        video=replace(pictures, aligned=True, scenes=704, groups=96, scene_width=48, fine=16),
        audio=StreamConfig(channels=1, size=(1, 80, 384), patch=(1, 80, 3), tokens=128, aligned=True),
        width=320,
        heads=5,
        mlp_ratio=2,
        encoder_layers=1,
        decoder_layers=2,
        quantizer=QuantizerConfig(kind="euclidean", entries=4096, dim=64, temperature=0.0),
        video_discriminator_patch=(1, 32, 32),
        audio_discriminator_patch=(1, 80, 3),
    )


def avtok_base() -> AVTokConfig:
    """The paper's model: 208.4 M with its prior and two projectors, 1024 + 128 tokens."""
    return AVTokConfig(
        name="avtok-base",
        video=StreamConfig(channels=3, size=(16, 128, 128), patch=(4, 8, 8), tokens=1024),
        audio=StreamConfig(channels=1, size=(1, 80, 384), patch=(1, 16, 16), tokens=128),
        width=768,
        encoder_layers=12,
        decoder_layers=12,
        heads=12,
    )


def avtok_small() -> AVTokConfig:
    """About 30 M: the paper's input and tokens at half the width and 6 + 6 layers; 64-dimensional Euclidean codes for the linear start."""
    return AVTokConfig(
        name="avtok-small",
        video=StreamConfig(channels=3, size=(16, 128, 128), patch=(4, 8, 8), tokens=1024),
        audio=StreamConfig(channels=1, size=(1, 80, 384), patch=(1, 16, 16), tokens=128),
        width=384,
        encoder_layers=6,
        decoder_layers=6,
        heads=6,
        quantizer=QuantizerConfig(kind="euclidean", dim=64, temperature=0.0),
        prior=PriorConfig(width=256, layers=4, heads=4),
        discriminator=DiscriminatorConfig(width=256, layers=6, heads=4),
        teacher_dims={"video": 832, "audio": 512},
        projector_width=1024,
    )


def avtok_mini() -> AVTokConfig:
    """Under 10 M: four times coarser video patches, 256 + 120 tokens of 12 bits; trains on two CPU cores."""
    return AVTokConfig(
        name="avtok-mini",
        video=StreamConfig(channels=3, size=(16, 128, 128), patch=(8, 8, 16), tokens=256),
        audio=StreamConfig(channels=1, size=(1, 80, 384), patch=(1, 16, 16), tokens=120),
        width=256,
        encoder_layers=3,
        decoder_layers=5,
        heads=4,
        quantizer=QuantizerConfig(kind="euclidean", entries=4096, dim=64, temperature=0.0),
        prior=PriorConfig(width=128, layers=2, heads=2),
        discriminator=DiscriminatorConfig(width=128, layers=3, heads=2),
        video_discriminator_patch=(8, 8, 16),
        teacher_dims={"video": 832, "audio": 512},
        projector_width=256,
    )
