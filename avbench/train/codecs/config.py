"""What a recipe of an audio codec decides beyond every run's settings."""

import json
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from avbench.errors import AvbenchError
from avbench.tokenizers.wavtokenizer.config import WavTokenizerConfig
from avbench.train.codecs.encodec import EncodecSize
from avbench.train.config import OptimConfig, StageConfig, TrainConfig

if TYPE_CHECKING:
    from avbench.train.codecs.trainee import CodecTrainee


@dataclass(frozen=True, kw_only=True)
class CodecLoss:
    """Weights; a loss of weight 0 is not computed."""

    l1: float = 0.0  # of samples
    log_mel: float = 0.0  # WavTokenizer's: 100 bands, one resolution
    multi_scale: float = 0.0  # EnCodec's: 64 bands, five resolutions
    commitment: float = 0.0
    adversarial: float = 0.0
    features: float = 0.0  # of the discriminators' layers, real against made


@dataclass(frozen=True, kw_only=True)
class CodecOptim(OptimConfig):
    """One AdamW."""

    encoder: float = 0.3  # of the rate: latents that move faster than the codebooks follow are lost


@dataclass(frozen=True, kw_only=True)
class CodecStage(StageConfig):
    """One stage."""

    loss: CodecLoss = field(default_factory=CodecLoss)
    optim: CodecOptim = field(default_factory=CodecOptim)


@dataclass(frozen=True, kw_only=True)
class CodecTraining(TrainConfig):
    """A run. One crop of each clip is seen, at a place that (seed, step, clip) decides."""

    stages: tuple[CodecStage, ...]
    crop_samples: int = 24_000
    codebooks: tuple[int, ...] = ()  # quantizer dropout: each step uses so many of the codebooks, drawn by (seed, step); (): always all
    discriminator_filters: int = 32
    start_clips: int = 64  # whose crops the weights at step 0 are fitted to

    def trainee(self) -> "CodecTrainee":
        """The codec."""
        from avbench.train.codecs.trainee import CodecTrainee

        return CodecTrainee(self)

    @abstractmethod
    def build(self) -> nn.Module:
        """The codec, weights drawn at random: `model(audio)` -> Reconstruction, `tokenize`, `detokenize`."""

    @abstractmethod
    def save(self, folder: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """Write what the codec's `--checkpoint` takes."""

    @abstractmethod
    def load(self, folder: Path, model: nn.Module) -> None:
        """Fill `model` with what `save` wrote. Raises AvbenchError where the folder is damaged or of another codec."""

    @property
    def sample_rate(self) -> int:
        """Hz; that of the splits."""
        return 24_000


@dataclass(frozen=True, kw_only=True)
class WavTokenizerTraining(CodecTraining):
    """WavTokenizer, of one codebook."""

    model: WavTokenizerConfig

    def build(self) -> nn.Module:
        """See the base class."""
        from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel

        return WavTokenizerModel(self.model)

    def save(self, folder: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """A folder of `wavtokenizer`."""
        from avbench.tokenizers.wavtokenizer.checkpoint import save_checkpoint
        from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel

        assert isinstance(model, WavTokenizerModel)
        save_checkpoint(folder, model, provenance)

    def load(self, folder: Path, model: nn.Module) -> None:
        """See the base class."""
        from avbench.tokenizers.checkpoint_folder import load_folder
        from avbench.tokenizers.wavtokenizer.checkpoint import MODEL

        found = load_folder(folder, model=MODEL)
        _check_config(folder, found.config | {"name": self.name}, self.model.to_dict() | {"name": self.name})
        model.load_state_dict(found.state)

    def renamed(self, name: str) -> "WavTokenizerTraining":
        """The run and its model under another name."""
        return replace(self, name=name, model=replace(self.model, name=name))


@dataclass(frozen=True, kw_only=True)
class EncodecTraining(CodecTraining):
    """EnCodec, of several codebooks in series."""

    model: EncodecSize

    def build(self) -> nn.Module:
        """See the base class."""
        from avbench.train.codecs.encodec import TrainableEncodec

        return TrainableEncodec(self.model)

    def save(self, folder: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """A folder of `encodec`: Hugging Face's format with a manifest."""
        from avbench.tokenizers.encodec_checkpoint import save_checkpoint
        from avbench.train.codecs.encodec import TrainableEncodec

        assert isinstance(model, TrainableEncodec)
        save_checkpoint(folder, model.published(), name=self.name, provenance=provenance)

    def load(self, folder: Path, model: nn.Module) -> None:
        """See the base class."""
        from avbench.tokenizers.encodec_checkpoint import load_trained
        from avbench.train.codecs.encodec import TrainableEncodec

        assert isinstance(model, TrainableEncodec)
        network = model.published()
        load_trained(folder, network)
        model.take(network)


def _check_config(folder: Path, found: Any, wanted: Any) -> None:
    """Both after JSON, which knows no tuples."""
    found, wanted = (json.loads(json.dumps(config)) for config in (found, wanted))
    other = sorted(key for key in wanted if found.get(key) != wanted[key])
    if other:
        raise AvbenchError(f"{folder} holds another codec: {', '.join(f'{key} {found.get(key)}, not {wanted[key]}' for key in other)}")
