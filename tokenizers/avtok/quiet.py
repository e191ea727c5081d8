"""Attach a stream to shared weights that were trained without it (the start of VFAL's stage audio)."""

import torch
from torch import Tensor

from avbench.nn.transformer import BlockNorms, Transformer
from avbench.tokenizers.avtok.model import AVTokModel


@torch.no_grad()
def quiet_stream(model: AVTokModel, name: str) -> None:
    """Let stream `name` start from its linear path again, whatever the shared blocks have learned from the other stream.

    After the video stage, the shared branches correct video; on audio they would add noise. A LayerNorm with gain 0 makes its branch's
    output a constant, so all norms of the stream but the first one (which the copying head reads, linear_init.py) get gain and
    bias 0, and the constants are taken out of the queries. Only the stream's own parameters change, and all of them can be trained
    from there: a gain of 0 has a gradient. For a model that began with the linear start.
    """
    encoder, decoder = model.stream_encoder(name), model.stream_decoder(name)
    for norms in (encoder.norms, decoder.norms):
        for index, pair in enumerate(norms):
            assert isinstance(pair, BlockNorms)
            for norm in (pair.norm1, pair.norm2) if index else (pair.norm2,):
                for parameter in norm.parameters():
                    parameter.zero_()
    encoder.queries.sub_(_constant(model.encoder))
    decoder.query_type.sub_(_constant(model.decoder))


def _constant(transformer: Transformer) -> Tensor:
    """(D,): what the blocks add to every token whose norms are quiet."""
    blocks = transformer.stack()
    nothing = torch.zeros_like(blocks[0].attn.proj.bias)
    return torch.stack([block.attn.proj.bias + block.mlp(nothing) for block in blocks]).sum(0)
