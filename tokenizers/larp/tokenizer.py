"""`larp`: LARP behind the benchmark's interface, with the official weights or with weights trained here."""

from dataclasses import dataclass
from pathlib import Path

import torch

from avbench import weights
from avbench.artifact import MANIFEST, trained_on
from avbench.errors import UsageError
from avbench.protocol import require
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.avtok.by_clip import check_codes, detokenize, tokenize
from avbench.tokenizers.avtok.checkpoint import load_checkpoint
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.parts import count_parameters
from avbench.tokenizers.edges import need_video, video_duration
from avbench.tokenizers.larp.inference import optimise
from avbench.tokenizers.larp.official import load_official
from avbench.types import ClipBatch, Tokens

OFFICIAL = "larp-l-long-tokenizer"
SAMPLE_RATE = 24_000  # a ClipBatch states one; LARP has no sound


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model on its device, its revision, and what it was trained on."""

    model: AVTokModel
    revision: str
    parameters: int
    trained_on: str


class Larp:
    """Video (16 frames of 128 x 128 for the official model) -> one stream "video" of 1,024 tokens of 13 bits -> video, clamped to [0, 1].

    --checkpoint takes a folder of the model hub, a .safetensors or .pth file of the official code, or a folder that `avbench train
    larp-mini` wrote. Without it, the catalog's official file. Unlike the official model, this one never samples its codes.
    """

    def __init__(self, options: TokenizerOptions) -> None:
        """Raises AvbenchError where the checkpoint is missing, damaged or another model's, UsageError where it is AVTok's."""
        if options.variants:
            raise UsageError(f"larp has no variants; @{options.variants[0]} means nothing to it")
        loaded = load(options.checkpoint, options.device)
        self.model, self.device = loaded.model, options.device
        config = self.model.config
        require(options.protocol, config.name, num_frames=config.video.size[0], resolution=config.video.size[1])
        self.info = TokenizerInfo(
            name=config.name,
            revision=loaded.revision,
            modalities=frozenset({"video"}),
            resolution=config.video.size[1],
            parameters=loaded.parameters,
            trained_on=loaded.trained_on,
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Tokens of the clips' video. Raises AvbenchError for clips of another size or without video."""
        video = need_video(batch, self.info.name)
        codes = {"video": tokenize(self.model, "video", video, self.device)}
        return Tokens(codes=codes, vocab_sizes={"video": self.model.config.quantizer.entries}, duration_s=video_duration(batch, video))

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The clips, from the tokens alone: all frames over the duration."""
        config = self.model.config
        check_codes(tokens.codes["video"], "video", config.video.length, config.quantizer.entries, self.info.name)
        video = detokenize(self.model, "video", tokens.codes["video"], self.device)
        return ClipBatch(video=video, fps=config.video.size[0] / tokens.duration_s, sample_rate=SAMPLE_RATE)


def load(checkpoint: Path | None, device: torch.device) -> Loaded:
    """The model of `checkpoint`, whichever of the forms it has. Raises AvbenchError, and UsageError for an audio-video model."""
    if checkpoint is None:
        return _official(weights.path(OFFICIAL), device, "Kinetics-600 and UCF101, training splits")
    if not (checkpoint / MANIFEST).is_file():
        return _official(checkpoint, device, "not stated in its files")
    ours = load_checkpoint(checkpoint, device)
    if ours.model.config.streams != ("video",):
        raise UsageError(f"{checkpoint} holds {ours.model.config.name}, which has sound too: use --tokenizer avtok")
    parameters = count_parameters(ours.model)
    return Loaded(model=ours.model, revision=ours.revision, parameters=parameters, trained_on=trained_on(ours.provenance))


def _official(path: Path, device: torch.device, trained_on: str) -> Loaded:
    official = load_official(path)
    model, parameters = official.model.to(device), count_parameters(official.model)
    optimise(model)
    return Loaded(model=model, revision=official.sha256[:16], parameters=parameters, trained_on=trained_on)
