"""Encode and decode of WavTokenizer at its published sizes beside the official code, in one run on one machine.

    python benchmarks/wavtokenizer_speed.py CHECKOUT [--rounds 5] [--device cpu]

CHECKOUT: a clone of https://github.com/jishengpeng/WavTokenizer, with einops and PyYAML installed. Both models hold the same random
weights, ours through a file of the published form, and take one clip of 98,304 samples at a time without gradients. Rounds alternate
between the models; a ratio is the median over rounds of official over ours. CPU seconds tell what a busy machine hides.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from larp_speed import Step, timed
from tabulate import tabulate
from torch import Tensor

from avbench.run.manifest import hardware
from avbench.tokenizers.wavtokenizer.checkpoint import load_checkpoint
from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel

CONFIG = "configs/wavtokenizer_smalldata_frame{rate}_3s_nq1_code4096_dim512_kmeans200_attn.yaml"
NUM_SAMPLES = 98_304
BOOK = "feature_extractor.encodec.quantizer.vq.layers.0._codebook"


def main() -> None:
    """Print seconds, ratios and how far results agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.checkout))
    device = torch.device(arguments.device)
    rows = [row for rate in (40, 75) for row in compare(arguments.checkout, rate, arguments.rounds, device)]
    print(tabulate(rows, headers=("step", "model", "wall s", "CPU s", "wall ratio", "CPU ratio"), floatfmt=".3f"))
    print(f"one clip a call, best of {arguments.rounds} rounds, {torch.get_num_threads()} threads, {hardware(device)}")


@torch.inference_mode()
def compare(checkout: Path, rate: int, rounds: int, device: torch.device) -> list[tuple[str | float, ...]]:
    """Rows of the table for the model of `rate` tokens a second; prints how far it agrees with the official one."""
    audio = sweep().to(device)
    official = official_model(checkout / CONFIG.format(rate=rate), audio, device)
    ours = our_model(official, device)
    zero = torch.tensor([0], device=device)
    latents, codes = official.encode_infer(audio, bandwidth_id=zero)
    agreement(rate, ours, codes.transpose(0, 1), audio, official.decode(latents, bandwidth_id=zero))
    encode: dict[str, Step] = {"official": lambda: official.encode_infer(audio, bandwidth_id=zero), "ours": lambda: ours.tokenize(audio)}
    decode: dict[str, Step] = {
        "official": lambda: official.decode(latents, bandwidth_id=zero),
        "ours": lambda: ours.detokenize(codes.transpose(0, 1)),
    }
    return [row for name, steps in (("encode", encode), ("decode", decode)) for row in timed(f"{name} @{rate}", steps, rounds, device)]


def sweep() -> Tensor:
    """(1, N): a rising tone in noise."""
    time = torch.arange(NUM_SAMPLES) / 24_000
    noise = torch.randn(NUM_SAMPLES, generator=torch.Generator().manual_seed(0))
    return (0.3 * torch.sin(2 * torch.pi * (200 + 300 * time) * time) + 0.15 * noise)[None]


def official_model(config: Path, audio: Tensor, device: torch.device) -> Any:
    """Random weights; codebook entries about the latents of `audio`, so that many of them are in use."""
    from decoder.pretrained import WavTokenizer

    torch.manual_seed(0)
    model = WavTokenizer.from_hparams0802(str(config)).eval().to(device)
    latents = model.feature_extractor.encodec.encoder(audio[:, None])[0].t()
    state = model.state_dict()
    near = latents[torch.randint(len(latents), (4096,), device=device)]
    state[f"{BOOK}.embed"] = near + 0.3 * latents.std() * torch.randn_like(near)
    state[f"{BOOK}.inited"] = torch.ones(1)
    state["head.out.bias"][: len(state["head.out.bias"]) // 2] += 3  # log-magnitudes: without it the sound is near silence
    model.load_state_dict(state)
    return model


def our_model(official: Any, device: torch.device) -> WavTokenizerModel:
    """The same weights, through the published form."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"state_dict": official.state_dict()}, Path(folder) / "official.ckpt")
        return load_checkpoint(Path(folder) / "official.ckpt", device).model


def agreement(rate: int, ours: WavTokenizerModel, codes: Tensor, audio: Tensor, recon: Tensor) -> None:
    other = int((ours.tokenize(audio) != codes).sum())
    worst = float((ours.detokenize(codes) - recon).abs().max())
    used, peak = len(codes.unique()), float(recon.abs().max())
    print(f"@{rate}: {other} of {codes.numel()} codes ({used} distinct) differ; sound from the same codes by {worst:.2g} of {peak:.2g}")


if __name__ == "__main__":
    main()
