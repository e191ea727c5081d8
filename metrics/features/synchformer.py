"""Synchformer (Iashin et al., ICASSP 2024, arXiv 2401.16423): by how much does the sound of 4.8 s lead or trail its picture?

Each of 14 half-overlapping segments of 0.64 s becomes 8 tokens of video and 6 of sound; a transformer over all of them chooses among 21
offsets. Read from the plain state dict of the authors' model 24-01-04T16-39-21 that MMAudio publishes. At the published size, with keyed
random weights and the same pictures and sound, av-benchmark's copy of the authors' code gives the same tokens to 3e-6 (largest 3.9) and the
same logits to 1e-7 (standard deviation 0.18), in float32 on a CPU. Inputs are made in `synchformer_inputs`. S segments, L tokens, D width.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from avbench import weights
from avbench.artifact import fill
from avbench.metrics.features import synchformer_audio, synchformer_video
from avbench.metrics.features.synchformer_parts import SynchformerConfig, attend
from avbench.weights.load import tensors

WEIGHTS = "synchformer"
SEGMENTS = 14  # that are compared at a time: 4.8 s
OFFSETS = 21  # -2 s to 2 s in steps of 0.2 s
TOKENS = 2 + SEGMENTS * (synchformer_video.STEPS + synchformer_audio.STEPS)  # 198
SEGMENTS_PER_CHUNK = {"cpu": 2, "cuda": 28}  # that pass the video encoder together; bounds the memory
NOT_USED = "vfeat_extractor.patch_embed."  # for single pictures: in the file, never called


class Synchformer(nn.Module):
    """Names of parameters are the published file's."""

    def __init__(self, config: SynchformerConfig | None = None) -> None:
        super().__init__()
        c = config or SynchformerConfig()
        self.vfeat_extractor, self.afeat_extractor = synchformer_video.MotionFormer(c), synchformer_audio.Ast(c)
        self.vproj, self.aproj = nn.Linear(c.width, c.width), nn.Linear(c.width, c.width)
        self.transformer = _Head(c)

    def forward(self, video: Tensor, mel: Tensor) -> Tensor:
        """Logits (2, 21) of a clip's offsets: in its first and in its last 14 segments, which may be the same ones.

        Args:
            video: (S, 16, 3, 224, 224) in [-1, 1], S >= 14.
            mel: (S, 128, 66), normalised: the sound of the same segments.
        """
        chunks = video.split(SEGMENTS_PER_CHUNK.get(video.device.type, 2))
        seen_SLD = self.vproj(torch.cat([self.vfeat_extractor(chunk) for chunk in chunks]))
        heard_SLD = self.aproj(self.afeat_extractor(mel))
        return self.transformer(_ends(seen_SLD), _ends(heard_SLD))  # type: ignore[no-any-return]


def _ends(tokens_SLD: Tensor) -> Tensor:
    """(2, 14 L, D): tokens of the first and of the last 14 segments."""
    return torch.stack([tokens_SLD[:SEGMENTS], tokens_SLD[-SEGMENTS:]]).flatten(1, 2)


class _Head(nn.Module):
    """Tokens of video (B, 112, D) and sound (B, 84, D) -> logits of the offsets (B, 21)."""

    def __init__(self, config: SynchformerConfig) -> None:
        super().__init__()
        width = config.width
        self.vis_in_lnorm, self.aud_in_lnorm, self.ln_f = (nn.LayerNorm(width) for _ in range(3))
        self.OFF_tok, self.MOD_tok = (nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2))
        self.pos_emb_cfg = nn.ParameterDict({"pos_emb": nn.Parameter(torch.zeros(1, TOKENS, width))})
        self.blocks = nn.Sequential(*(_Block(width, config.head_heads) for _ in range(config.head_layers)))
        self.off_head = nn.Linear(width, OFFSETS)

    def forward(self, seen_BLD: Tensor, heard_BLD: Tensor) -> Tensor:
        offset, modality = (token.expand(len(seen_BLD), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        x_BLD = torch.cat([offset, self.vis_in_lnorm(seen_BLD), modality, self.aud_in_lnorm(heard_BLD)], dim=1)
        x_BLD = self.blocks(x_BLD + self.pos_emb_cfg["pos_emb"])
        return self.off_head(self.ln_f(x_BLD[:, 0]))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value", "proj")})
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BLD: Tensor) -> Tensor:
        normed = self.ln1(x_BLD)
        q, k, v = (self.attn[name](normed) for name in ("query", "key", "value"))
        x_BLD = x_BLD + self.attn["proj"](attend(q, k, v, self.heads))
        return x_BLD + self.mlp(self.ln2(x_BLD))  # type: ignore[no-any-return]


def load(path: Path, config: SynchformerConfig | None = None) -> Synchformer:
    """The model of a published file (a state dict), frozen, float32, on the CPU. Raises AvbenchError where it does not fit."""
    content = tensors(weights.load_torch(path), path)
    with torch.device("meta"):
        model = Synchformer(config)
    fill(model, {key: value for key, value in content.items() if not key.startswith(NOT_USED)}, path, "a Synchformer")
    return model.eval().requires_grad_(False)
