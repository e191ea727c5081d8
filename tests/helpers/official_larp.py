"""Official LARP settings at two sizes, and weights that both sides of a parity test can make: a tensor follows from its name alone."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TINY = {"tokens": 12, "side": 16, "frames": 4, "patch": (2, 4), "width": 48, "heads": 2, "depth": 2, "entries": 64, "dim": 8}
LARGE = {"tokens": 1024, "side": 128, "frames": 16, "patch": (4, 8), "width": 768, "heads": 12, "depth": 12, "entries": 8192, "dim": 16}
PRIORS = {"tiny": "gptc-XXS", "large": "gptc-S"}
SIZES = {"tiny": TINY, "large": LARGE}
# Names in the official settings: of an encoder or a decoder, with ours; of a patch.
SIDE_SIZES = {"hidden_size": "width", "num_heads": "heads", "depth": "depth"}
PATCH_SIZES = ("temporal_patch_size", "patch_size")


def official_args(size: str) -> dict[str, Any]:
    """Arguments of the official constructor, as cfgs/larp_tokenizer.yaml has them at the published size."""
    s: Mapping[str, Any] = SIZES[size]
    regularizer = {
        "codebook_size": s["entries"],
        "commitment_loss_weight": 0.25,
        "codebook_loss_weight": 1.0,
        "entropy_loss_weight": 0.0,
        "entropy_loss_temperature": 0.01,
        "l2_normalized": True,
        "stochastic": True,
        "stochastic_temperature": 0.03,
    }
    bottleneck = {"bottleneck_dim": s["dim"], "norm": "none", "regularizer": {"name": "vq", "args": regularizer}}
    prior = {
        "name": PRIORS[size],
        "use_mix_ss": True,
        "mix_ss_max_ratio": 0.5,
        "mix_ss_peak_steps_ratio": 0.3,
        "n_rounds": 2,
        "avg_loss_over_rounds": True,
        "no_grad_before_last_round": False,
        "no_dropout": False,
        "latent_ce_temperature": 1.0,
        "args": {"l2_normalized": True},
    }
    sides = {f"{side}_{what}": s[key] for side in ("encoder", "decoder") for what, key in SIDE_SIZES.items()}
    patches = {f"{side}{what}": value for side in ("", "decoder_") for what, value in zip(PATCH_SIZES, s["patch"], strict=True)}
    learned = {"learned_encoder_latent_query_embed": True, "use_decoder_patch_query_token_type_embed": True}
    return {
        "bottleneck": {"name": "bottleneck", "args": bottleneck},
        "prior_model": prior,
        "bottleneck_token_num": s["tokens"],
        "input_size": s["side"],
        "frame_num": s["frames"],
        "in_channels": 3,
        "transformer_name": "transformer_encoder_parallel",
        "encoder_name": "none",
        "decoder_name": "none",
        **sides,
        **patches,
        **learned,
    }


def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor called `name`: normal numbers from a generator that its name seeds, scaled so that activations stay near 1.

    No tensor is left at zero and no table at its formula, so a key that a loader ignores or mixes up shows in the outputs.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.1 * values
    if name.endswith("bias"):
        return 0.1 * values
    if name.endswith("weight") and "embedding" not in name:
        return values / values[0].numel() ** 0.5
    return values


def video(size: str, clips: int = 2) -> Tensor:
    """Clips (B, T, 3, H, W) in [0, 1] that follow from the size's name."""
    s: Mapping[str, Any] = SIZES[size]
    shape = (clips, s["frames"], 3, s["side"], s["side"])
    return torch.rand(shape, generator=torch.Generator().manual_seed(s["side"]))
