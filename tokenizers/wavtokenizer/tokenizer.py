"""`wavtokenizer`: WavTokenizer behind the benchmark's interface."""

from torch import Tensor

from avbench.errors import UsageError
from avbench.protocol import Protocol
from avbench.tokenizer import TokenizerInfo, TokenizerOptions
from avbench.tokenizers.waveform_codec import WaveformCodec
from avbench.tokenizers.wavtokenizer.checkpoint import OFFICIAL, load_checkpoint, pulled

DEFAULT = "40"


class WavTokenizer(WaveformCodec):
    """`wavtokenizer@40` (164 tokens of 12 bits for 4.096 s; the default) or `wavtokenizer@75` (308): the official small models.

    A checkpoint is a published .ckpt of either rate, or a folder that `avbench train` wrote, whose manifest then gives the name.
    """

    def __init__(self, options: TokenizerOptions) -> None:
        """Variant: tokens a second. Raises UsageError for one that does not exist, AvbenchError where the weights are absent or damaged."""
        variant = _variant(options.variants)
        checkpoint = load_checkpoint(options.checkpoint or pulled(variant or DEFAULT), options.device)
        self.model, self.device = checkpoint.model, options.device
        self.protocol = options.protocol or Protocol()
        config = self.model.config
        if variant is not None and config.name != f"wavtokenizer@{variant}":
            raise UsageError(f"{options.checkpoint} is {config.name}, not wavtokenizer@{variant}; leave the variant out to take what it is")
        self.vocab_size = config.codebook.entries
        self.info = TokenizerInfo(
            name=config.name,
            revision=checkpoint.revision,
            modalities=frozenset({"audio"}),
            sample_rate=config.sample_rate,
            parameters=checkpoint.num_parameters,
            trained_on=checkpoint.trained_on,
        )

    def to_codes(self, samples: Tensor) -> Tensor:
        return self.model.tokenize(samples[:, 0])

    def to_samples(self, codes: Tensor) -> Tensor:
        return self.model.detokenize(codes)[:, None]

    def code_shape(self, num_samples: int) -> tuple[int, int]:
        return 1, self.model.config.num_tokens(num_samples)


def _variant(variants: tuple[str, ...]) -> str | None:
    if len(variants) > 1 or (variants and variants[0] not in OFFICIAL):
        offered = ", ".join(OFFICIAL)
        raise UsageError(
            f"wavtokenizer has no variant {'@'.join(variants)}; it offers {offered} tokens a second, for example wavtokenizer@{DEFAULT}"
        )
    return variants[0] if variants else None
