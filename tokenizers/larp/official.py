"""Official LARP checkpoints, as published, read into `AVTokModel`. L positions, D width, C channels, P values a patch.

Two forms: a folder of the model hub (config.json and model.safetensors), or a .pth of the official training code. The prior's tensors
may be there or not: they are checked and dropped, since they encode and decode nothing. Nothing of a file is run, and every name and
shape is checked, under its official name, before a tensor is used.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avbench.artifact import check_fit
from avbench.errors import AvbenchError
from avbench.nn.transformer import BlockNorms
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.larp.official_config import OfficialConfig, PriorShape, official_config, published
from avbench.tokenizers.published import CONFIG, checked_sha256, read_config, read_state, weights_files
from avbench.weights.load import load_torch, sha256_of, tensors

# timm's Block, of which LARP is built, left its LayerNorms at PyTorch's eps when LARP was trained (timm 1.0.9); later timms say 1e-6.
BLOCK_EPS = 1e-5
KEYS = (  # a tensor's name starts with: ours, official
    ("stream_encoders.video.patch_embed.", "x_embedder.proj."),
    ("stream_encoders.video.patch_position", "encoder_patch_pe"),
    ("stream_encoders.video.queries", "encoder_latent_query_embed"),
    ("stream_encoders.video.norms.", "encoder.blocks."),
    ("encoder.blocks.", "encoder.blocks."),
    ("bottleneck.quantizer.embedding.", "bottleneck.regularizer.embedding."),
    ("bottleneck.", "bottleneck."),
    ("decoder.blocks.", "decoder.blocks."),
    ("stream_decoders.video.norms.", "decoder.blocks."),
    ("stream_decoders.video.latent_position", "decoder_latent_pe"),
    ("stream_decoders.video.patch_position", "decoder_patch_query_embed"),
    ("stream_decoders.video.query_type", "decoder_patch_query_token_type_embed"),
    ("stream_decoders.video.head_norm.", "final_layer.norm_final."),
    ("stream_decoders.video.head.", "final_layer.linear."),
)
TRAINING_ONLY = "bottleneck.quantizer.idle_steps"  # ours; no official checkpoint has it
PATCH_WEIGHT = "x_embedder.proj.weight"
PRIOR = "prior_model."
# Plain containers and arrays beside the weights: the settings are EasyDicts, random states of unfinished runs are NumPy arrays.
ADMITTED = (
    (OrderedDict, "easydict.EasyDict"),
    *((np.empty(0).__reduce__()[0], f"numpy.{module}.multiarray._reconstruct") for module in ("core", "_core")),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.uint32)),
)


@dataclass(frozen=True, kw_only=True)
class Official:
    """An official model in eval mode, and the sha256 of the file that its weights came from."""

    model: AVTokModel
    sha256: str


def load_official(path: Path) -> Official:
    """`path`: a hub folder, its model.safetensors, or a .pth. Raises AvbenchError that names the file, setting or tensor that is wrong.

    A .safetensors file without config.json beside it is taken for LARP-L-long.
    """
    files = weights_files(path) if path.is_dir() else [path]
    for file in files:
        _check_download(file)
    sha256 = checked_sha256(files)
    if files[0].suffix != ".safetensors":
        config, state = _read_pth(files[0])
    elif path.is_dir() or (path.parent / CONFIG).is_file():
        folder = files[0].parent
        config, state = official_config(read_config(folder), str(folder / CONFIG)), tensors(read_state(files), files[0])
    else:
        config, state = published(), tensors(read_state(files), files[0])
    return Official(model=build(config, state, str(files[0])), sha256=sha256)


def official_name(name: str) -> str:
    """The official name of our tensor `name`."""
    ours, official = next(pair for pair in KEYS if name.startswith(pair[0]))
    return official + name.removeprefix(ours)


def official_shapes(config: OfficialConfig) -> dict[str, torch.Size]:
    """Official name -> shape of everything that encodes and decodes."""
    with torch.device("meta"):
        ours = AVTokModel(config.model).state_dict()
    video = config.model.video
    shapes = {official_name(name): tensor.shape for name, tensor in ours.items() if name != TRAINING_ONLY}
    for name in ("encoder_patch_pe", "decoder_latent_pe", "decoder_patch_query_embed"):
        shapes[name] = torch.Size((1, *shapes[name]))
    shapes["decoder_patch_query_token_type_embed"] = torch.Size((1, 1, config.model.width))
    shapes[PATCH_WEIGHT] = torch.Size((config.model.width, video.channels, *video.patch))
    return shapes


def prior_shapes(prior: PriorShape, code_width: int) -> dict[str, torch.Size]:
    """Official name -> shape of the prior's tensors."""
    width = prior.width
    linears: dict[str, tuple[int, ...]] = {"input_proj": (width, code_width), "head": (code_width, width)}
    norms = ["ln_f"]
    for block in (f"blocks.{layer}." for layer in range(prior.layers)):
        linears |= {f"{block}attn.{part}": (width, width) for part in ("key", "query", "value", "proj")}
        linears |= {f"{block}mlp.0": (4 * width, width), f"{block}mlp.2": (width, 4 * width)}
        norms += [f"{block}ln1", f"{block}ln2"]
    shapes: dict[str, tuple[int, ...]] = {"pos_emb": (1, prior.length, width)}
    shapes |= {f"{name}.{part}": (width,) for name in norms for part in ("weight", "bias")}
    shapes |= {f"{name}.weight": shape for name, shape in linears.items()} | {f"{name}.bias": shape[:1] for name, shape in linears.items()}
    return {PRIOR + name: torch.Size(shape) for name, shape in shapes.items()}


def set_block_eps(model: AVTokModel, eps: float) -> None:
    """Set eps of every block's LayerNorms; the head's stays."""
    for stream in (model.stream_encoder("video"), model.stream_decoder("video")):
        for pair in stream.norms:
            assert isinstance(pair, BlockNorms)
            pair.norm1.eps = pair.norm2.eps = eps


def build(config: OfficialConfig, state: dict[str, Tensor], where: str) -> AVTokModel:
    """The model in eval mode with the official tensors `state`. Raises AvbenchError that names the tensors which do not fit."""
    expected = official_shapes(config)
    if config.prior is not None and any(name.startswith(PRIOR) for name in state):
        expected |= prior_shapes(config.prior, config.model.quantizer.dim)
    shapes = {name: torch.empty(shape, device="meta") for name, shape in expected.items()}
    check_fit(where, "the LARP of its config", shapes, state)
    with torch.device("meta"):
        model = AVTokModel(config.model)
    model.load_state_dict(_renamed(model, state), assign=True)
    set_block_eps(model, BLOCK_EPS)
    return model.eval().requires_grad_(False)


def _renamed(model: AVTokModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names and shapes, float32. A patch embedding's (D, C, t, h, w) becomes (D, P) with values in the order (t, h, w, C)."""
    renamed: dict[str, Tensor] = {}
    for name, ours in model.state_dict().items():
        if name == TRAINING_ONLY:
            renamed[name] = torch.zeros(ours.shape, dtype=ours.dtype)
            continue
        tensor = state[official_name(name)].float()
        if official_name(name) == PATCH_WEIGHT:
            tensor = tensor.permute(0, 2, 3, 4, 1)
        renamed[name] = tensor.reshape(ours.shape).contiguous()
    return renamed


def _read_pth(file: Path) -> tuple[OfficialConfig, dict[str, Tensor]]:
    """A checkpoint of the official training code. Its `sd` is taken, as the official evaluation does, never a moving average."""
    content = load_torch(file, safe_globals=ADMITTED)
    model = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(model, Mapping) or not {"args", "sd"} <= set(model):
        raise AvbenchError(f"{file} holds no model with args and sd: not a checkpoint of LARP's training code")
    if model.get("name") not in (None, "larp_tokenizer"):
        raise AvbenchError(f"{file} holds a {str(model['name'])[:40]!r}, not a larp_tokenizer")
    return official_config(_mapping(model["args"], file), str(file)), tensors(model["sd"], file)


def _mapping(value: Any, file: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise AvbenchError(f"{file}: model.args is a {type(value).__name__}, not settings by name")
    return value


def _check_download(file: Path) -> None:
    """The hub's cache names a file by its sha256: raises AvbenchError where it is another one."""
    name = file.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name) and name != (found := sha256_of(file)):
        raise AvbenchError(f"{file} has sha256 {found}, but the hub's cache promises {name}: its download was cut off; get it again")
