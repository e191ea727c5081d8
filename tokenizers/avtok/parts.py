"""Whose a parameter is: the basis of VFAL's freezes and of the parameter table.

Every parameter of an `AVTokModel` has one owner (video, audio or shared) and one side (encoder, quantizer or decoder).
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from avbench.tokenizers.avtok.config import STREAMS, AVTokConfig, StreamName

Owner = Literal["video", "audio", "shared"]
Side = Literal["encoder", "quantizer", "decoder"]
Stage = Literal["video", "audio", "decode", "joint"]
PUBLISHED_PARAMETERS_M = 208.4  # AVTok, arXiv 2606.30811


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where one parameter belongs."""

    owner: Owner
    side: Side


def part_of(name: str) -> Part:
    """The part of the parameter called `name` in `AVTokModel.named_parameters()`."""
    top, _, rest = name.partition(".")
    if top in ("stream_encoders", "stream_decoders"):
        stream = rest.partition(".")[0]
        assert stream in STREAMS, name
        return Part(owner=stream, side="encoder" if top == "stream_encoders" else "decoder")
    if top == "scenes":
        stream = rest.partition(".")[0]
        assert stream in STREAMS, name
        return Part(owner=stream, side="quantizer")
    sides: dict[str, Side] = {"encoder": "encoder", "bottleneck": "quantizer", "decoder": "decoder"}
    return Part(owner="shared", side=sides[top])


def parameters_of(model: nn.Module, *, owner: Owner | None = None, side: Side | None = None) -> dict[str, nn.Parameter]:
    """name -> parameter, of one owner and/or one side (None: any)."""
    parts = {name: part_of(name) for name, _ in model.named_parameters()}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if owner in (None, parts[name].owner) and side in (None, parts[name].side)
    }


def trainable_in(model: nn.Module, stage: Stage) -> dict[str, nn.Parameter]:
    """What a VFAL stage may change; everything else stays as it is, to the bit.

    video: all that the video stream uses (its own and the shared). audio: the audio-specific modules. decode: both decoders, the
    encoders and the bottleneck frozen (so codes stay valid). joint: everything (the vanilla and weighted schedules).
    """
    if stage == "video":
        return parameters_of(model, owner="video") | parameters_of(model, owner="shared")
    if stage == "audio":
        return parameters_of(model, owner="audio")
    return parameters_of(model, side="decoder" if stage == "decode" else None)


def count_parameters(module: nn.Module) -> int:
    """Learned numbers of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def parameter_table(config: AVTokConfig) -> dict[str, int]:
    """Parameters by part, on the meta device (no memory): the tokenizer by owner, prior, projectors, and their sum.

    The paper prints 208.4 M; base comes to 209.2 M. Video alone is LARP's 172.18 M exactly, prior 21.7 M, two REPA projectors
    14.7 M: 208.6 M, our reading of the paper; the audio stream's own embedding, queries, norms and head add 0.57 M.
    """
    import torch

    from avbench.tokenizers.avtok.losses import Projector
    from avbench.tokenizers.avtok.model import AVTokModel
    from avbench.tokenizers.avtok.prior import Prior

    with torch.device("meta"):
        model, prior = AVTokModel(config), Prior(config)
        projectors = [Projector(config.width, config.projector_width, config.teacher_dims[name]) for name in config.streams]
    table = {owner: sum(p.numel() for p in parameters_of(model, owner=owner).values()) for owner in ("shared", "video", "audio")}
    table["prior"] = count_parameters(prior)
    table["projectors"] = sum(count_parameters(projector) for projector in projectors)
    return table | {"tokenizer": count_parameters(model), "total": count_parameters(model) + table["prior"] + table["projectors"]}


def belongs(part: Part, streams: tuple[StreamName, ...]) -> bool:
    """Whether a model that serves `streams` uses this part at all."""
    return part.owner == "shared" or part.owner in streams
