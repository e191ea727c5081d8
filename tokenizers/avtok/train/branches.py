"""Which stream passes through which model, and which of a model's parts that uses."""

from avbench.tokenizers.avtok.config import StreamName
from avbench.tokenizers.avtok.parts import Part
from avbench.tokenizers.avtok.train.config import AVTokSettings


def branches(config: AVTokSettings) -> dict[str, tuple[StreamName, ...]]:
    """Model name -> the streams that pass through it: one for all that there are, or one each in a dual run."""
    return {"joint": config.model.streams} if config.audio_model is None else {"video": ("video",), "audio": ("audio",)}


def belongs(part: Part, streams: tuple[StreamName, ...]) -> bool:
    """Whether a model that serves `streams` uses this part at all."""
    return part.owner == "shared" or part.owner in streams
