"""CLAP (Wu et al., ICASSP 2023, arXiv 2211.06687): sound, or a text -> a unit vector in a common space.

The network is `transformers.ClapModel`, which the authors' file 630k-audioset-best.pt (HTS-AT tiny without fusion, RoBERTa) is put into.
The authors' package laion-clap is not used: it fetches RoBERTa behind the user's back and needs wandb, webdataset and h5py to import.
"""

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench import weights
from avbench.artifact import fill
from avbench.errors import AvbenchError
from avbench.metrics.features.clap_inputs import log_mel, ten_seconds
from avbench.weights.load import tensors

if TYPE_CHECKING:
    from transformers import ClapConfig, ClapModel

WEIGHTS, VOCABULARY = "clap", "roberta-base-vocabulary"
CLIPS_PER_CHUNK = {"cpu": 4, "cuda": 64}  # that pass the network together; bounds the memory
# Heads of training, the front end (`clap_inputs` is the same), and what follows from the sizes.
NOT_USED = re.compile(
    r"(audio|text)_transform\.|logit_scale_|audio_branch\.(tscam_conv|head|spectrogram_extractor|logmel_extractor)\."
    r"|.*(relative_position_index|attn_mask|num_batches_tracked|position_ids|token_type_ids)$"
)
RENAMED = (  # the authors' names -> transformers', in this order
    ("text_branch.", "text_model."),
    ("_projection.0.", "_projection.linear1."),
    ("_projection.2.", "_projection.linear2."),
    ("audio_branch.", "audio_model.audio_encoder."),
    (".bn0.", ".batch_norm."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
    (".attn.proj.", ".attention.output.dense."),
    (".attn.", ".attention.self."),
)


def published_config() -> "ClapConfig":
    """Sizes of the published file. transformers' own defaults differ in RoBERTa's eps (1e-12 for 1e-5)."""
    from transformers import ClapConfig

    return ClapConfig(text_config={"layer_norm_eps": 1e-5}, audio_config={})


def load(path: Path, config: "ClapConfig | None" = None) -> "ClapModel":
    """The model of an authors' file {"state_dict", ...}, frozen, float32, on the CPU. Raises AvbenchError where it does not fit."""
    from transformers import ClapModel

    content = weights.load_torch(path, safe_globals=_admitted())
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise AvbenchError(f"{path} is not a CLAP file: no state_dict")
    with torch.random.fork_rng(devices=[]):  # it draws weights that are overwritten
        model = ClapModel(config or published_config())
    own = {key: torch.zeros(()) for key in ("logit_scale_a", "logit_scale_t")}  # of training only
    fill(model, own | _renamed(tensors(state, path)), path, "CLAP without fusion")
    return model.eval().requires_grad_(False)


def _admitted() -> list[Any]:
    """NumPy's numbers, which a training state beside the weights may hold; their module moved between NumPy 1 and 2."""
    rebuild = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [rebuild, (rebuild, "numpy.core.multiarray.scalar"), np.dtype, *kinds, codecs.encode]


def _renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    """The authors' names -> transformers'; one of another form stays, and is refused as unknown."""
    found: dict[str, Any] = {}
    for key, value in state.items():
        if NOT_USED.match(key):
            continue
        for old, new in RENAMED:
            key = key.replace(old, new)
        if ".self.qkv." in key and isinstance(value, Tensor) and len(value) % 3 == 0:
            names = [key.replace(".qkv.", f".{part}.") for part in ("query", "key", "value")]
            found |= dict(zip(names, value.chunk(3), strict=True))
        else:
            found[key] = value
    return found


def embed_audio(model: "ClapModel", audio: Tensor, sample_rate: int) -> Tensor:
    """Unit vectors (B, 512) of sound (B, C, N) in [-1, 1]."""
    chunks = audio.float().split(CLIPS_PER_CHUNK.get(audio.device.type, 4))
    # TF32 would make the numbers depend on the machine.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        pooled = [model.audio_model(log_mel(ten_seconds(chunk, sample_rate))[:, None]).pooler_output for chunk in chunks]
        return F.normalize(model.audio_projection(torch.cat(pooled)), dim=-1)


def embed_ids(model: "ClapModel", ids: list[int]) -> Tensor:
    """Unit vector (512,) of one text's token ids. Texts are never padded, so none depends on its neighbours."""
    given = torch.tensor([ids], device=next(model.parameters()).device)
    with torch.inference_mode():
        return F.normalize(model.text_projection(model.text_model(given).pooler_output), dim=-1)[0]
