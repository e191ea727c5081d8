"""A dual run's two tokenizers as one: `avbench run --tokenizer tokenizers/avtok/dual.py:DualAVTok --checkpoint OUT`."""

from dataclasses import replace

from torch import Tensor

from avbench.errors import UsageError
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.avtok.config import STREAMS, StreamName
from avbench.tokenizers.avtok.parts import belongs, part_of
from avbench.tokenizers.avtok.tokenizer import AVTok
from avbench.types import ClipBatch, Tokens


class DualAVTok:
    """Streams "video" and "audio", each from the checkpoint of its own (`OUT`/video, `OUT`/audio), with a vocabulary of its own."""

    def __init__(self, options: TokenizerOptions) -> None:
        """Raises UsageError without a checkpoint, AvbenchError where one of the two is missing or damaged."""
        if options.checkpoint is None:
            raise UsageError("a dual tokenizer needs the folder of its run: --checkpoint OUT, with OUT/video and OUT/audio in it")
        self.parts: dict[StreamName, AVTok] = {name: AVTok(replace(options, checkpoint=options.checkpoint / name)) for name in STREAMS}
        infos = [part.info for part in self.parts.values()]
        self.info = TokenizerInfo(
            name=infos[0].name.removesuffix("-video"),
            revision="-".join(info.revision for info in infos),
            modalities=frozenset(STREAMS),
            sample_rate=infos[1].sample_rate,
            resolution=infos[0].resolution,
            parameters=sum(_used_parameters(part, name) for name, part in self.parts.items()),
            trained_on=infos[0].trained_on,
        )

    def encode(self, batch: ClipBatch) -> Tokens:
        """Each modality of the batch through its own tokenizer."""
        alone = {"video": replace(batch, audio=None), "audio": replace(batch, video=None)}
        present = [name for name in STREAMS if getattr(batch, name) is not None]
        tokens = [self.parts[name].encode(alone[name]) for name in present]
        codes: dict[str, Tensor] = {name: part.codes[name] for name, part in zip(present, tokens, strict=True)}
        vocabs: dict[str, int] = {name: part.vocab_sizes[name] for name, part in zip(present, tokens, strict=True)}
        return Tokens(codes=codes, vocab_sizes=vocabs, duration_s=tokens[0].duration_s)

    def decode(self, tokens: Tokens) -> ClipBatch:
        """The modalities whose tokens there are."""
        recons = [self.parts[name].decode(replace(tokens, codes={name: tokens.codes[name]})) for name in STREAMS if name in tokens.codes]
        made = {name: value for name in STREAMS for recon in recons if (value := getattr(recon, name)) is not None}
        return replace(recons[0], **made)


def _used_parameters(part: AVTok, stream: StreamName) -> int:
    """Of the model's parameters those that this stream passes through, and the vocoder's."""
    named = dict(part.model.named_parameters())
    mine = sum(parameter.numel() for name, parameter in named.items() if belongs(part_of(name), (stream,)))
    return mine + (part.vocoder.parameters if stream == "audio" else 0)
